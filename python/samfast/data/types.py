"""The values that leave the data room: a sample of a data set, and what is annotated on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from samfast.masks import Masks
from samfast.prompts import Prompts

TargetKind = Literal["instance", "component", "class"]
"""What one mask stands for: an annotated object, a connected piece of a class mask, or all of a class in the image."""

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

AnnotationState = Literal["labelled", "empty", "missing"]
"""``empty`` is annotated as holding nothing; ``missing`` has no annotation at all and is never read as empty."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set.

    Attributes:
        name: path below the data set's root, with forward slashes; unique in the data set.
        file: path of the image file, as text: a data set has many.
        key: hex SHA-256 of the file's bytes and the decode spec: the row key of the plain view in an embedding cache.
        size: (height, width) of the original frame.
        split: the set it belongs to.
        group: images of one group never come into different sets.
        state: whether it is annotated.
        annotation_ids: one id a target mask, stable over runs and independent of order.
    """

    name: str
    file: str
    key: str
    size: tuple[int, int]
    split: Split
    group: str
    state: AnnotationState
    annotation_ids: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The image file."""
        return Path(self.file)


@dataclass(frozen=True)
class Target:
    """What is annotated on one image, original frame.

    Attributes:
        masks: ``N`` masks.
        classes: ``(N,)`` int64 indices into the data set's ``classes``.
        ids: ``N`` annotation ids.
        ignore: one mask of the pixels that take part in no loss, metric or prompt.
        kind: what one mask stands for.
        given: for each object the prompts that a file asks for it with, on image 0; None where no file does.
    """

    masks: Masks
    classes: NDArray[np.int64]
    ids: tuple[str, ...]
    ignore: Masks
    kind: TargetKind
    given: tuple[Prompts, ...] | None = None

    def select(self, index: NDArray[np.integer]) -> Target:
        """The objects at ``(K,)`` indices, in their order; the target itself if these are all of them."""
        if np.array_equal(index, np.arange(len(self.masks))):
            return self
        ids = tuple(self.ids[int(each)] for each in index)
        given = None if self.given is None else tuple(self.given[int(each)] for each in index)
        return replace(self, masks=self.masks[index], classes=self.classes[index], ids=ids, given=given)


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file, found while the data was read.

    Attributes:
        name: the image or annotation file, below the data set's root.
        kind: a short, countable label, such as ``"size mismatch"``.
        detail: what exactly is wrong, with values.
        excluded: whether the sample is left out because of it.
    """

    name: str
    kind: str
    detail: str
    excluded: bool
