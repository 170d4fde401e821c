"""Masks in memory: a batch of binary masks of one size, run-length encoded, and the operations on them.

Run lengths are COCO's: column-major, the first run is background. The kernels are ``samfast._rust``; this module is
their typed face.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.frames import Frame


@dataclass(frozen=True)
class Masks:
    """``N`` binary masks of ``height x width`` pixels, original frame, as run lengths.

    Attributes:
        height: in pixels.
        width: in pixels.
        counts: ``(R,)`` uint32, the runs of all masks one after the other, column-major, background first.
        offsets: ``(N + 1,)`` int64, where each mask's runs begin in ``counts``.
    """

    height: int
    width: int
    counts: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def empty(cls, height: int, width: int) -> Masks:
        """A batch of no masks."""
        return cls(height, width, np.zeros(0, np.uint32), np.zeros(1, np.int64))

    @classmethod
    def from_numpy(cls, masks: NDArray[Any]) -> Masks:
        """Encode ``(N, H, W)`` or ``(H, W)`` masks, bool or uint8; every value that is not 0 is foreground."""
        masks = np.asarray(masks)
        batch = masks[None] if masks.ndim == 2 else masks
        counts, offsets = _rust.masks_to_rle(np.ascontiguousarray(batch))
        return cls(batch.shape[1], batch.shape[2], counts, offsets)
