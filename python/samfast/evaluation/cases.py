"""The worst cases: images a pair of models did worst on, before and after tuning, as small pictures."""

from __future__ import annotations

import heapq
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.inference.pictures import shrink_image, small_overlay
from samfast.masks import Masks
from samfast.prompts import Prompts

PICTURE_PX = 480
"""Longest side of a case's pictures."""
JPEG_QUALITY = 85

KEPT = 4
"""Cases of each list."""
KEPT_OF_MANY = 2
"""Cases of each list where more than two pairs of models are judged."""

When = Literal["before", "after"]


@dataclass(frozen=True)
class Pair:
    """A model, and its zero-shot model if it has one."""

    base: str | None
    model: str


@dataclass(frozen=True)
class Case:
    """One image that a pair of models did badly on.

    Attributes:
        image: the sample's name.
        pair: the models.
        prompt: the prompt kind.
        when: whether it is among the worst before or after tuning; a model without a base has ``"after"`` only.
        objects: objects asked for.
        iou_before: of the base model; None without one.
        iou_after: of the model.
        truth: JPEG: image, annotation and prompts.
        before: JPEG: image, the base model's masks and prompts; None without one.
        after: JPEG: image, the model's masks and prompts.
    """

    image: str
    pair: Pair
    prompt: str
    when: When
    objects: int
    iou_before: float | None
    iou_after: float
    truth: bytes
    before: bytes | None
    after: bytes


@dataclass(frozen=True)
class Answer:
    """One model's masks on one image."""

    model: str
    masks: Masks
    iou: float


@dataclass(frozen=True)
class _Seen:
    sample: Sample
    truth: Masks
    prompts: Prompts
    answers: dict[str, Answer]


class WorstCases:
    """Keeps the few worst images of each pair and prompt while an evaluation runs; memory does not grow with images."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._keep = KEPT if len(pairs) <= 2 else KEPT_OF_MANY
        self._heaps: dict[tuple[Pair, str, When], list[tuple[float, str, _Seen]]] = {}

    def see(self, kind: str, sample: Sample, truth: Masks, prompts: Prompts, answers: Sequence[Answer]) -> None:
        """Judge whether an image is among the worst."""
        seen = _Seen(sample, truth, prompts, {answer.model: answer for answer in answers})
        for pair in self._pairs:
            if pair.model not in seen.answers:  # it takes no such prompts
                continue
            whens: tuple[tuple[When, str | None], ...] = (("before", pair.base), ("after", pair.model))
            for when, model in whens:
                if model is None:
                    continue
                heap = self._heaps.setdefault((pair, kind, when), [])
                heapq.heappush(heap, (-seen.answers[model].iou, sample.name, seen))
                if len(heap) > self._keep:
                    heapq.heappop(heap)

    def draw(self, dataset: Dataset) -> tuple[Case, ...]:
        """The cases, the worst of each list first."""
        pictures = _Pictures(dataset)
        cases = []
        for (pair, kind, when), heap in self._heaps.items():
            for _, name, seen in sorted(heap, key=lambda entry: (-entry[0], entry[1])):
                before = seen.answers[pair.base] if pair.base is not None else None
                after = seen.answers[pair.model]
                cases.append(
                    Case(
                        image=name,
                        pair=pair,
                        prompt=kind,
                        when=when,
                        objects=len(seen.truth),
                        iou_before=None if before is None else before.iou,
                        iou_after=after.iou,
                        truth=pictures.draw(seen, kind, None),
                        before=None if before is None else pictures.draw(seen, kind, before),
                        after=pictures.draw(seen, kind, after),
                    )
                )
        return tuple(cases)


class _Pictures:
    """Draws each picture once, however many lists it is in."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._images: dict[str, NDArray[np.uint8]] = {}
        self._drawn: dict[tuple[str, str, str | None], bytes] = {}

    def draw(self, seen: _Seen, kind: str, answer: Answer | None) -> bytes:
        name = seen.sample.name
        key = (name, kind, None if answer is None else answer.model)
        if key not in self._drawn:
            if name not in self._images:
                self._images[name] = shrink_image(self._dataset.image(seen.sample), PICTURE_PX)
            masks = seen.truth if answer is None else answer.masks
            self._drawn[key] = picture(self._images[name], masks, seen.prompts)
        return self._drawn[key]


def picture(image: NDArray[np.uint8], masks: Masks, prompts: Prompts) -> bytes:
    """A JPEG of masks and prompts, original frame, on an ``(h, w, 3)`` uint8 thumbnail of their image."""
    buffer = io.BytesIO()
    Image.fromarray(small_overlay(image, masks, prompts)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
