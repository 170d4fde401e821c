"""Prompts that a file gives, matched to the annotated objects they ask for.

A prompt asks for the object in which all its foreground points lie and none of its background points, and whose tight
box overlaps its box most, with an IoU of 0.5 at least. One that fits no object, or several equally well, asks for
nothing. An object that is asked for several times is asked by one of these prompts at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.inference.prompt_files import Prompt, check_within, read_prompt_file, to_prompts
from samfast.prompts import POSITIVE, Prompts, concatenate

LEAST_IOU = 0.5
"""Of a prompt's box and the tight box of the object it asks for."""


@dataclass(frozen=True)
class Given:
    """The prompts of a file.

    Attributes:
        path: of the file.
        sha256: of its bytes, hex.
        prompts: by image, named as in the file: by path below the data's root, by file name, or by stem.
    """

    path: Path
    sha256: str
    prompts: Mapping[str, Sequence[Prompt]]

    @property
    def kinds(self) -> set[bool]:
        """Whether a prompt is a lone point: of each of them."""
        return {bool(to_prompts([prompt]).is_one_point[0]) for mine in self.prompts.values() for prompt in mine}

    def of(self, sample: Sample) -> list[Prompt]:
        """The prompts of an image.

        Raises:
            ConfigError: one of them does not lie on it.
        """
        mine = [prompt for name in names_of(sample) for prompt in self.prompts.get(name, ())]
        return check_within(mine, sample.size, sample.name)

    def attach(self, target: Target, sample: Sample) -> Target:
        """The objects of an image that are asked for, with the prompts that ask for them."""
        asking: dict[int, list[Prompt]] = {}
        for prompt, index in self.matches(target, sample):
            if index is not None:
                asking.setdefault(index, []).append(prompt)
        kept = sorted(asking)
        return replace(target.select(np.array(kept, np.int64)), given=tuple(to_prompts(asking[each]) for each in kept))

    def matches(self, target: Target, sample: Sample) -> Iterator[tuple[Prompt, int | None]]:
        """Each prompt of an image, and the index of the object that it asks for."""
        boxes = target.masks.boxes()
        for prompt in self.of(sample):
            yield prompt, _object_of(prompt, target, boxes)


def read_given(path: str | Path) -> Given:
    """The prompts of a CSV or JSON file, see :mod:`samfast.inference.prompt_files`.

    Raises:
        ConfigError: it cannot be read, or holds no prompt.
    """
    path = Path(path).expanduser()
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise ConfigError(
            f"the prompts cannot be read: {error.strerror}", where=path, fix="csv:PATH of a CSV or JSON file"
        ) from None


def names_of(sample: Sample) -> tuple[str, ...]:
    """What a file of prompts may call an image."""
    path = PurePosixPath(sample.name)
    return tuple(dict.fromkeys((sample.name, path.name, path.with_suffix("").as_posix(), path.stem)))


def check_names(given: Given, samples: Sequence[Sample]) -> list[str]:
    """The names in a file that are no image among ``samples``.

    Raises:
        ConfigError: a name could be several images.
    """
    called: dict[str, list[str]] = {}
    for sample in samples:
        for name in names_of(sample):
            called.setdefault(name, []).append(sample.name)
    for name, prompts in given.prompts.items():
        found = called.get(name, [])
        if len(found) > 1 and prompts:
            raise ConfigError(
                f"{name!r} could be {found[0]} or {found[1]}",
                where=prompts[0].where,
                fix="write the path below the data's folder",
            )
    return [name for name in given.prompts if name not in called]


def draw_given(target: Target, keys: NDArray[np.uint64]) -> Prompts:
    """One of the prompts that ask for each object, chosen by its key.

    Args:
        target: as :meth:`Given.attach` gave it, or a selection of its objects.
        keys: ``(N,)``.
    """
    assert target.given is not None
    chosen = [int(key >> np.uint64(32)) % len(mine) for key, mine in zip(keys, target.given, strict=True)]
    return concatenate([mine[each : each + 1] for each, mine in zip(chosen, target.given, strict=True)])


@lru_cache(maxsize=8)
def _read(path: Path, _changed_ns: int, _size: int) -> Given:
    given = Given(path, hashlib.sha256(path.read_bytes()).hexdigest(), read_prompt_file(path))
    if not any(given.prompts.values()):
        raise ConfigError("the file holds no prompt", where=path)
    return given


def _object_of(prompt: Prompt, target: Target, boxes: NDArray[np.float32]) -> int | None:
    fits = np.ones(len(boxes), bool)
    for x, y, label in prompt.points:
        column, row = int(x + 0.5), int(y + 0.5)
        xmin, ymin, xmax, ymax = boxes.T
        near = (xmin <= column) & (column <= xmax) & (ymin <= row) & (row <= ymax)
        for index in np.flatnonzero(fits & near):
            near[index] = target.masks[int(index)].numpy()[
                0, min(row, target.masks.height - 1), min(column, target.masks.width - 1)
            ]
        fits &= near if label == POSITIVE else ~near
    value = fits.astype(np.float64)
    if prompt.box is not None:
        overlap = _iou(np.array(prompt.box, np.float64), boxes.astype(np.float64))
        value *= np.where(overlap >= LEAST_IOU, overlap, 0.0)
    best = np.flatnonzero((value == value.max(initial=0.0)) & (value > 0))
    return int(best[0]) if len(best) == 1 else None


def _iou(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of an inclusive box with ``(N, 4)`` others."""
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + 1, 0, None)
    both = sides.prod(axis=1)
    area, areas = (box[2:] - box[:2] + 1).prod(), (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    return np.asarray(both / (area + areas - both))
