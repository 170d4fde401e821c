"""The value that says what is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast.checks import reals, rows_of_four
from samfast.errors import ConfigError, DataError

POSITIVE = 1
"""Label of a foreground point."""
NEGATIVE = 0
"""Label of a background point."""
PADDING = -10
"""Label of a point that is not there: it fills up a batch and takes part in nothing."""


@dataclass(frozen=True)
class Prompts:
    """``P`` prompts on the images of one batch, original frame, pixel indices, (x, y).

    Attributes:
        image_index: ``(P,)`` int64, the image of the batch each prompt is about.
        points: ``(P, N, 2)`` float32, with ``N`` >= 0; prompts with fewer points are padded.
        labels: ``(P, N)`` int64: 1 foreground, 0 background, -10 padding.
        boxes: ``(P, 4)`` float32 [xmin, ymin, xmax, ymax], inclusive; a row of NaN where a prompt has no box.
        mask_logits: ``(P, low_res, low_res)`` float32 logits of an earlier prediction, low-res frame; NaN where a
            prompt has none, None where none has one.
    """

    image_index: NDArray[np.int64]
    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    mask_logits: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.image_index)

    @property
    def has_box(self) -> NDArray[np.bool_]:
        """``(P,)`` bool: which prompts carry a box."""
        return np.asarray(~np.isnan(self.boxes).any(axis=1))

    @property
    def num_points(self) -> NDArray[np.int64]:
        """``(P,)`` int64: real points of each prompt."""
        return np.asarray((self.labels != PADDING).sum(axis=1))

    @property
    def has_mask(self) -> NDArray[np.bool_]:
        """``(P,)`` bool: which prompts carry mask logits."""
        if self.mask_logits is None:
            return np.zeros(len(self), bool)
        return np.asarray(~np.isnan(self.mask_logits[:, 0, 0]))

    @property
    def is_one_point(self) -> NDArray[np.bool_]:
        """``(P,)`` bool: prompts that are one point and nothing else, the ambiguous ones."""
        return np.asarray((self.num_points == 1) & ~self.has_box & ~self.has_mask)

    def __getitem__(self, part: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Prompts:
        """Some of the prompts."""
        logits = None if self.mask_logits is None else self.mask_logits[part]
        return Prompts(self.image_index[part], self.points[part], self.labels[part], self.boxes[part], logits)


def point_prompts(points: ArrayLike) -> Prompts:
    """``(P, N, 2)`` foreground points (x, y), original frame, as ``P`` prompts on image 0.

    Raises:
        DataError: another shape, or what are not numbers.
    """
    points = reals("points", points)
    if points.ndim != 3 or points.shape[2] != 2:
        raise DataError(f"points have shape {points.shape}, expected (P, N, 2)", where="points")
    num_prompts, num_points = points.shape[:2]
    return Prompts(
        image_index=np.zeros(num_prompts, np.int64),
        points=points.astype(np.float32),
        labels=np.full((num_prompts, num_points), POSITIVE, np.int64),
        boxes=np.full((num_prompts, 4), np.nan, np.float32),
    )


def box_prompts(boxes: ArrayLike) -> Prompts:
    """``(P, 4)`` inclusive [xmin, ymin, xmax, ymax] boxes, original frame, as ``P`` prompts on image 0.

    Raises:
        DataError: another shape, or what are not numbers.
    """
    boxes = rows_of_four("boxes", boxes)
    return Prompts(
        image_index=np.zeros(len(boxes), np.int64),
        points=np.zeros((len(boxes), 0, 2), np.float32),
        labels=np.zeros((len(boxes), 0), np.int64),
        boxes=boxes.astype(np.float32),
    )


def concatenate(batches: Sequence[Prompts]) -> Prompts:
    """The prompts of all batches in order; points are padded to the longest, ``image_index`` is kept as it is.

    Raises:
        ConfigError: no batches, or mask logits of several sizes.
    """
    if not batches:
        raise ConfigError("no prompts to concatenate", where="batches")
    most = max(batch.points.shape[1] for batch in batches)
    padded = [_padded(batch, most) for batch in batches]
    sizes = {batch.mask_logits.shape[1:] for batch in batches if batch.mask_logits is not None}
    if len(sizes) > 1:
        raise ConfigError(f"mask logits of several sizes: {sorted(sizes)}", where="batches")
    logits = [
        np.full((len(batch), *size), np.nan, np.float32) if batch.mask_logits is None else batch.mask_logits
        for size in sizes
        for batch in batches
    ]
    return Prompts(
        image_index=np.concatenate([batch.image_index for batch in batches]),
        points=np.concatenate([points for points, _ in padded]),
        labels=np.concatenate([labels for _, labels in padded]),
        boxes=np.concatenate([batch.boxes for batch in batches]),
        mask_logits=np.concatenate(logits) if logits else None,
    )


def _padded(prompts: Prompts, num_points: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    missing = num_points - prompts.points.shape[1]
    points = np.pad(prompts.points, ((0, 0), (0, missing), (0, 0)))
    return points, np.pad(prompts.labels, ((0, 0), (0, missing)), constant_values=PADDING)
