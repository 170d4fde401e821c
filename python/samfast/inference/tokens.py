"""Prompts as a decoder takes them: coordinates and labels in the model frame, SAM's padding rule, ragged batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samfast.frames import Frame
from samfast.prompts import PADDING, Prompts

NOT_A_POINT = -1
"""SAM's own pad token: added to prompts without a box, learned in training, and not neutral."""
BOX_CORNERS = (2, 3)
"""Labels of a box's first and second corner."""


@dataclass(frozen=True)
class Tokens:
    """``P`` prompts as ``M`` tokens each, model frame.

    Attributes:
        image_index: ``(P,)`` int64.
        coords: ``(P, M, 2)`` float32 (x, y), model frame, pixel indices (the model adds its own half pixel).
        labels: ``(P, M)`` int64: 1, 0 points; 2, 3 box corners; -1 SAM's pad token; -10 nothing, masked out.
        mask: ``(P, 1, low_res, low_res)`` float32 logits, zeros where a prompt has none; None where none has one.
        has_mask: ``(P,)`` float32, 1 where ``mask`` is a prompt.
    """

    image_index: NDArray[np.int64]
    coords: NDArray[np.float32]
    labels: NDArray[np.int64]
    mask: NDArray[np.float32] | None
    has_mask: NDArray[np.float32]

    def __getitem__(self, part: slice) -> Tokens:
        has_mask = self.has_mask[part]
        mask = self.mask[part] if self.mask is not None and has_mask.any() else None
        return Tokens(self.image_index[part], self.coords[part], self.labels[part], mask, has_mask)


def tokenize(prompts: Prompts, frames: Sequence[Frame]) -> Tokens:
    """Bring prompts to the model frame of their images and lay them out as SAM 1 does.

    Points come first; then the two box corners, or SAM's pad token where there are points and no box (``SamPredictor``
    pads exactly then, and not where a mask, or nothing, is the whole prompt). Prompts of fewer tokens are filled with
    -10, which the decoder masks out of attention.

    Args:
        prompts: original frame.
        frames: of the images that ``prompts.image_index`` counts.
    """
    num_prompts, num_points = prompts.labels.shape
    coords = np.zeros((num_prompts, num_points + 2, 2), np.float32)
    labels = np.full((num_prompts, num_points + 2), PADDING, np.int64)
    labels[:, :num_points] = prompts.labels
    has_box = prompts.has_box
    labels[has_box, num_points:] = BOX_CORNERS
    labels[~has_box & (prompts.num_points > 0), num_points] = NOT_A_POINT
    for image, frame in enumerate(frames):
        mine = prompts.image_index == image
        coords[mine, :num_points] = frame.points_to_model(prompts.points[mine])
        boxed = mine & has_box
        coords[boxed, num_points:] = frame.boxes_to_model(prompts.boxes[boxed]).reshape(-1, 2, 2)
    coords[(labels == PADDING) | (labels == NOT_A_POINT)] = 0.0
    if not has_box.any():
        coords, labels = coords[:, :-1], labels[:, :-1]
    mask, has_mask = None, prompts.has_mask
    if prompts.mask_logits is not None and has_mask.any():
        mask = np.where(has_mask[:, None, None], prompts.mask_logits, np.float32(0))[:, None]
    return Tokens(prompts.image_index, coords, labels, mask, has_mask.astype(np.float32))
