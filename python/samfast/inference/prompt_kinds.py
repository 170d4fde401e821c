"""Prompt kinds: the ways to ask for an object whose mask is known, by name.

======================  ================================================================================
``point``               a pixel, each equally likely
``points:K`` ``:K,M``   K different pixels inside and M outside, as many as there are
``center``              the pixel deepest inside, see :func:`~samfast.prompts.center_points`
``center@S``            the point nearest to it of an S x S grid, as SAM's automatic mask generator asks
``centroid-inside``     the pixel nearest to the centre of mass; ``centroid-inside@S`` on the grid as ``center@S``
``farthest``            ``center`` and two points far away from it and from each other
``box``                 the tight box
``box~P%``              each of its sides moved by noise of P % of its length, at most 20 px (SAM, appendix A)
``mask~P%``             the mask as logits, moved and stretched as its box is by ``box~P%``
``KIND&KIND``           both in one prompt, as in ``center&box``
``csv:PATH``            what a CSV or JSON file asks, see :mod:`samfast.inference.given`; objects it does not ask for
                        are left out
======================  ================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.frames import Frame
from samfast.inference.given import Given, draw_given, read_given
from samfast.masks import Masks
from samfast.prompts import (
    NEGATIVE,
    PADDING,
    Prompts,
    box_prompts,
    center_points,
    centroid_points,
    farthest_points,
    jitter_boxes,
    mask_logits,
    negative_points,
    point_prompts,
    sample_points,
    snap_to_grid,
)

Keys = NDArray[np.uint64]
Draw = Callable[[Target, Frame, Keys], Prompts]
"""``N`` objects, none of them empty or under ignored pixels, the frame of their image, and ``(N,)`` keys, to ``N``
prompts on image 0, original frame."""

NAMES = (
    "point, points:K,M, center, center@S, centroid-inside, centroid-inside@S, farthest, box, box~P%, mask~P%, several"
    " joined by &, or csv:PATH"
)
GIVEN = "csv:"
"""What the name of a file's prompts begins with."""


@dataclass(frozen=True)
class PromptKind:
    """A way to ask for objects.

    Attributes:
        name: what it is called.
        draw: makes its prompts.
        is_one_point: whether every prompt is a lone point, which may mean more than one object.
        given: the file that gives them; None where they are drawn.
    """

    name: str
    draw: Draw
    is_one_point: bool = False
    given: Given | None = None

    @property
    def may_be_one_point(self) -> bool:
        """Whether some prompts are a lone point; a file may hold such and others."""
        return self.is_one_point if self.given is None else True in self.given.kinds

    def askable(self, target: Target, sample: Sample) -> Target:
        """The objects of an image that this kind asks for, as :attr:`draw` takes them: all, but for those of a file."""
        return target if self.given is None else self.given.attach(target, sample)


def prompt_kind(name: str) -> PromptKind:
    """The kind of that name.

    >>> prompt_kind("center@32&box").is_one_point
    False

    Raises:
        ConfigError: there is none.
    """
    if name.startswith(GIVEN):
        return _given(name)
    kinds = [_term(term.strip(), name) for term in name.split("&")]
    if len(kinds) == 1:
        return kinds[0]

    def both(target: Target, frame: Frame, keys: Keys) -> Prompts:
        return reduce(_joined, (kind.draw(target, frame, keys) for kind in kinds))

    return PromptKind(name, both)


def label_of(name: str) -> str:
    """The name of a kind without the folders of its file.

    >>> label_of("csv:/home/me/prompts.csv"), label_of("box")
    ('csv:prompts.csv', 'box')
    """
    return f"{GIVEN}{Path(name.removeprefix(GIVEN)).name}" if name.startswith(GIVEN) else name


def _given(name: str) -> PromptKind:
    given = read_given(name.removeprefix(GIVEN))
    return PromptKind(name, lambda target, _, keys: draw_given(target, keys), given.kinds == {True}, given)


def _term(term: str, name: str) -> PromptKind:
    """A kind that is not joined of others."""
    for pattern, make in _TERMS.items():
        if found := re.fullmatch(pattern, term):
            return make(term, *(int(number) if number else 0 for number in found.groups()))
    raise ConfigError(f"{name!r} is no prompt kind", where="prompts", fix=f"choose from {NAMES}")


def _point(name: str) -> PromptKind:
    return PromptKind(name, lambda target, _, keys: point_prompts(sample_points(target.masks, keys)), True)


def _points(name: str, inside: int, outside: int) -> PromptKind:
    def draw(target: Target, _: Frame, keys: Keys) -> Prompts:
        positive = point_prompts(sample_points(target.masks, keys, inside))
        positive = _only_first(positive, target.masks.area())
        return _joined(positive, _negatives(target, keys, outside)) if outside else positive

    return PromptKind(name, draw, (inside, outside) == (1, 0))


def _place(find: Callable[[Masks], NDArray[np.float32]], name: str, grid: int = 0) -> PromptKind:
    """The point that ``find`` gives of each mask, or the one nearest to it of ``grid`` x ``grid`` points."""

    def draw(target: Target, _: Frame, __: Keys) -> Prompts:
        points = find(target.masks)[:, None]
        size = {"height": target.masks.height, "width": target.masks.width}
        return point_prompts(snap_to_grid(points, grid, **size) if grid else points)

    return PromptKind(name, draw, is_one_point=True)


def _farthest(name: str) -> PromptKind:
    def draw(target: Target, _: Frame, __: Keys) -> Prompts:
        return _only_first(point_prompts(farthest_points(target.masks, 3)), target.masks.area())

    return PromptKind(name, draw)


def _box(name: str, percent: int = 0) -> PromptKind:
    return PromptKind(name, lambda target, _, keys: box_prompts(_boxes(target.masks, keys, percent)))


def _mask(name: str, percent: int) -> PromptKind:
    def draw(target: Target, frame: Frame, keys: Keys) -> Prompts:
        tight, moved = (_to_cells(_boxes(target.masks, keys, much), frame) for much in (0, percent))
        logits = mask_logits(target.masks, frame)
        for index, plane in enumerate(logits):
            rows, columns = (_stretched(len(plane), tight[index, axis::2], moved[index, axis::2]) for axis in (1, 0))
            logits[index] = rows @ (plane - plane.min()) @ columns.T + plane.min()
        nothing = box_prompts(np.full((len(logits), 4), np.nan))
        return replace(nothing, mask_logits=logits)

    return PromptKind(name, draw)


_TERMS: dict[str, Callable[..., PromptKind]] = {
    "point": _point,
    r"points:([1-9]\d*)(?:,(\d+))?": _points,
    r"center(?:@([1-9]\d*))?": partial(_place, center_points),
    r"centroid-inside(?:@([1-9]\d*))?": partial(_place, centroid_points),
    "farthest": _farthest,
    r"box(?:~(\d+)%)?": _box,
    r"mask~([1-9]\d*)%": _mask,
}


def _boxes(masks: Masks, keys: Keys, percent: int) -> NDArray[np.float32]:
    size = {"height": masks.height, "width": masks.width}
    return jitter_boxes(masks.boxes(), keys, ratio=percent / 100, **size) if percent else masks.boxes()


def _negatives(target: Target, keys: Keys, count: int) -> Prompts:
    """Points outside of each object; fewer, or none, where it leaves no room."""
    left = target.masks.height * target.masks.width - target.masks.area()
    if len(target.ignore):
        left -= target.ignore.area()
    points = np.zeros((len(keys), count, 2), np.float32)
    some = np.flatnonzero(left > 0)
    ignore = target.ignore if len(target.ignore) else None
    points[some] = negative_points(target.masks[some], keys[some], count, ignore=ignore)
    prompts = point_prompts(points)
    return _only_first(replace(prompts, labels=np.full_like(prompts.labels, NEGATIVE)), left)


def _only_first(prompts: Prompts, count: NDArray[np.int64]) -> Prompts:
    """The prompts with at most ``count`` points each: where there is no more room, points repeat."""
    is_there = np.arange(prompts.labels.shape[1]) < count[:, None]
    return replace(prompts, labels=np.where(is_there, prompts.labels, PADDING))


def _joined(first: Prompts, second: Prompts) -> Prompts:
    """Prompts that ask for what both ask for: the points of both, and the box and the mask that either has."""
    return Prompts(
        image_index=first.image_index,
        points=np.concatenate([first.points, second.points], axis=1),
        labels=np.concatenate([first.labels, second.labels], axis=1),
        boxes=np.where(first.has_box[:, None], first.boxes, second.boxes),
        mask_logits=second.mask_logits if first.mask_logits is None else first.mask_logits,
    )


def _to_cells(boxes: NDArray[np.float32], frame: Frame) -> NDArray[np.float64]:
    """Inclusive boxes as ``(N, 4)`` edges in low-res cells."""
    height, width = frame.cell
    edges = boxes.astype(np.float64) + np.array([0, 0, 1, 1])
    cells: NDArray[np.float64] = edges / [width, height, width, height]
    return cells


def _stretched(size: int, before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float32]:
    """The ``(size, size)`` matrix of the linear interpolation that takes an interval of cells to another, 0 outside."""
    scale = (before[1] - before[0]) / max(after[1] - after[0], 1e-6)
    source = (np.arange(size) + 0.5 - after[0]) * scale + before[0] - 0.5
    weights: NDArray[np.float32] = np.maximum(1 - np.abs(np.arange(size) - source[:, None]), 0).astype(np.float32)
    return weights
