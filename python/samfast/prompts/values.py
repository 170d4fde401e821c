"""The value that says what is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samfast.errors import ConfigError

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
        mask_logits: ``(P, low_res, low_res)`` float32 logits of an earlier prediction, low-res frame; None for none.
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
    def is_one_point(self) -> NDArray[np.bool_]:
        """``(P,)`` bool: prompts that are one point and nothing else, the ambiguous ones."""
        alone = (self.num_points == 1) & ~self.has_box
        return alone if self.mask_logits is None else np.zeros_like(alone)


def concatenate(batches: Sequence[Prompts]) -> Prompts:
    """The prompts of all batches in order; points are padded to the longest, ``image_index`` is kept as it is.

    Raises:
        ConfigError: no batches, or mask logits in some of them only.
    """
    if not batches:
        raise ConfigError("no prompts to concatenate", where="batches")
    most = max(batch.points.shape[1] for batch in batches)
    padded = [_padded(batch, most) for batch in batches]
    logits = [batch.mask_logits for batch in batches if batch.mask_logits is not None]
    if len(logits) not in (0, len(batches)):
        raise ConfigError("some prompts have mask logits and some have none", where="batches")
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
