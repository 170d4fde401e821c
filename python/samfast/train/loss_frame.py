"""The frame that a loss is taken in: the decoder's own grid, or the model frame, four times as fine in SAM.

Targets and weights are of the one kind in both: area averages over cells, and how much of each cell counts. So those of
the low-res frame are averages of those of the model frame, and only what is done with the logits differs: for the model
frame they are upscaled as SAM upscales them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from samfast.train.losses import Losses

CHUNK_PIXELS = 2**20
"""Pixels of the model frame (times prompts) whose losses are taken at once: bounds the activations of a step."""


def losses_in_frame(
    loss: Callable[..., Losses], logits: Tensor, predicted_iou: Tensor, target: Tensor, weight: Tensor, *others: Tensor
) -> Losses:
    """Losses on the grid of the targets, which logits are upscaled to.

    On a finer grid than theirs, a few prompts at a time, and again when the gradient asks for it: nothing of that size
    but the targets and weights is held between the two.

    Args:
        loss: takes the other arguments, all of them on one grid, such as :func:`~samfast.train.losses.prompt_losses` of
            an objective.
        logits: ``(P, K, low_res, low_res)`` float32.
        predicted_iou: ``(P, K)`` float32.
        target: ``(P, ..., T, T)`` float32 in [0, 1], where T is the side of the low-res or of the model frame.
        weight: ``(P, T, T)`` float32 in [0, 1].
        others: whatever else ``loss`` takes, ``P`` rows each.
    """
    side = target.shape[-1]
    if side == logits.shape[-1]:
        return loss(logits, predicted_iou, target, weight, *others)

    def losses(logits: Tensor, *rest: Tensor) -> Losses:
        fine = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        return loss(fine, *rest)

    given = (logits, predicted_iou, target, weight, *others)
    chunks = zip(*(values.split(max(1, CHUNK_PIXELS // side**2)) for values in given), strict=True)
    found: list[Losses] = [checkpoint(losses, *chunk, use_reentrant=False) for chunk in chunks]
    parts = {name: torch.cat([each.parts[name] for each in found]) for name in found[0].parts}
    return Losses(torch.cat([each.total for each in found]), parts)


def to_low_res(target: Tensor, weight: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Targets and weights of the model frame as those of the low-res frame: ``(P, T, T)`` to ``(P, side, side)``.

    A cell's target is the mean of what counts of it, and 0 where nothing does.
    """
    cell = target.shape[-1] // side
    if cell == 1:
        return target, weight
    counted = F.avg_pool2d(weight[:, None], cell)[:, 0]
    shown = F.avg_pool2d((target * weight)[:, None], cell)[:, 0]
    return torch.where(counted > 0, shown / counted.clamp(min=1e-9), torch.zeros_like(shown)), counted
