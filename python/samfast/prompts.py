"""Prompts: what is asked of a model, and the draws they come from.

:class:`Prompts` is the value that crosses rooms. The draws (points, boxes) are kernels of ``samfast._rust`` fed by
counter-based keys, so that a prompt depends on what it is for and never on threads, order or batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        return ~np.isnan(self.boxes).any(axis=1)

    @property
    def num_points(self) -> NDArray[np.int64]:
        """``(P,)`` int64: real points of each prompt."""
        return (self.labels != PADDING).sum(axis=1)

    @property
    def is_one_point(self) -> NDArray[np.bool_]:
        """``(P,)`` bool: prompts that are one point and nothing else, the ambiguous ones."""
        alone = (self.num_points == 1) & ~self.has_box
        return alone if self.mask_logits is None else np.zeros_like(alone)
