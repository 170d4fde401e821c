"""The frame that a loss is taken in: the decoder's own grid, or the model frame, four times as fine in SAM.

Targets and weights are of the one kind in both: area averages over cells, and how much of each cell counts. So those of
the low-res frame are averages of those of the model frame, and only what is done with the logits differs: for the model
frame they are upscaled as SAM upscales them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from samfast.train.losses import Losses, prompt_losses
from samfast.train.objective import Objective

CHUNK_PIXELS = 2**20
"""Pixels of the model frame (times prompts) whose losses are taken at once: bounds the activations of a step."""


def losses_in_frame(
    objective: Objective,
    logits: Tensor,
    predicted_iou: Tensor,
    target: Tensor,
    weight: Tensor,
    is_one_point: Tensor,
) -> Losses:
    """:func:`~samfast.train.losses.prompt_losses` on the grid of the targets, which logits are upscaled to.

    On a finer grid than theirs, a few prompts at a time, and again when the gradient asks for it: nothing of that size
    but the targets and weights is held between the two.

    Args:
        objective: the parts of the loss.
        logits: ``(P, 4, low_res, low_res)`` float32.
        predicted_iou: ``(P, 4)`` float32.
        target: ``(P, T, T)`` float32 in [0, 1], where T is the side of the low-res or of the model frame.
        weight: ``(P, T, T)`` float32 in [0, 1].
        is_one_point: ``(P,)`` bool.
    """
    side = target.shape[-1]
    if side == logits.shape[-1]:
        return prompt_losses(objective, logits, predicted_iou, target, weight, is_one_point)

    def losses(logits: Tensor, *rest: Tensor) -> Losses:
        fine = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        return prompt_losses(objective, fine, *rest)

    given = (logits, predicted_iou, target, weight, is_one_point)
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
