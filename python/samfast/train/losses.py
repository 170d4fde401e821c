"""Losses on a grid of cells, and which mask tokens they teach.

A mask that is neither right nor wrong at its border is what the area average of a mask is: targets are soft, and each
cell counts by the fraction of it that lies on the image and is not ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samfast.inference.contract import MULTIMASK, SINGLE
from samfast.train.cells import Sums, cell_sums
from samfast.train.objective import Objective

_DICE_SMOOTHING = 1.0


def mean(total: Tensor, counted: Tensor) -> Tensor:
    """The weighted mean over cells, from a sum and that of the weights; 0 where nothing counts."""
    return total / counted.clamp(min=1e-6)


def dice(shown: Tensor, shared: Tensor, true: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al., V-Net, 2016), from sums of probabilities, of targets, and of their products."""
    return 1 - (2 * shared + _DICE_SMOOTHING) / (shown + true + _DICE_SMOOTHING)


def iou(both: Tensor, either: Tensor) -> Tensor:
    """IoU from its two sums; 1 where both masks are empty."""
    return torch.where(either > 0, both / either.clamp(min=1e-6), torch.ones_like(both))


@dataclass(frozen=True)
class Losses:
    """The loss of each prompt and the parts it is the sum of.

    Attributes:
        total: ``(P,)``.
        parts: name to ``(P,)``; the parts of weight 0 are left out.
    """

    total: Tensor
    parts: dict[str, Tensor]


def prompt_losses(
    objective: Objective,
    logits: Tensor,
    predicted_iou: Tensor,
    target: Tensor,
    weight: Tensor,
    is_one_point: Tensor,
) -> Losses:
    """The loss of every prompt.

    A lone point is ambiguous: of its three multimask tokens, the one with the smallest mask loss is taught, as in SAM,
    and beside it token 0, which answers alone at inference; the two count half each. Other prompts teach token 0.
    The predicted IoU of every token that a kind of prompt supervises is held to the IoU of that token's mask (MSE).

    Args:
        objective: the parts of the loss.
        logits: ``(P, 4, l, l)`` float32, on the grid of the targets or on a coarser one, see
            :func:`~samfast.train.cells.cell_sums`.
        predicted_iou: ``(P, 4)`` float32.
        target: ``(P, L, L)`` float32 in [0, 1].
        weight: ``(P, L, L)`` float32 in [0, 1].
        is_one_point: ``(P,)`` bool.
    """
    maps, everyone = logits[:, SINGLE[0]], torch.arange(len(logits), device=logits.device)
    parts = weighted_parts(objective, cell_sums(maps, target, weight, everyone, objective), predicted_iou[:, SINGLE[0]])
    lone = is_one_point.nonzero()[:, 0]
    if len(lone):
        tokens = slice(MULTIMASK[0], MULTIMASK[-1] + 1)
        maps, owner = logits[lone, tokens].flatten(0, 1), lone.repeat_interleave(len(MULTIMASK))
        sums = cell_sums(maps, target, weight, owner, objective)
        found = weighted_parts(objective, sums, predicted_iou[lone, tokens].flatten())
        many = {name: values.unflatten(0, (len(lone), -1)) for name, values in found.items()}  # (lone, 3) each
        scores = many.pop("iou", None)
        best = torch.stack(list(many.values())).sum(0).detach().argmin(1, keepdim=True)
        shared = {name: (parts[name][lone] + values.gather(1, best)[:, 0]) / 2 for name, values in many.items()}
        if scores is not None:
            shared["iou"] = (parts["iou"][lone] + scores.sum(1)) / (1 + len(MULTIMASK))
        parts = {name: values.index_put((lone,), shared[name]) for name, values in parts.items()}
    return Losses(torch.stack(list(parts.values())).sum(0), parts)


def weighted_parts(objective: Objective, sums: Sums, predicted_iou: Tensor) -> dict[str, Tensor]:
    """Each part of the loss of ``R`` maps, with its weight, from their sums and their ``(R,)`` scores."""
    found: dict[str, Tensor] = {}
    if objective.bce:
        found["bce"] = objective.bce * mean(sums.entropy, sums.counted)
    if objective.focal:
        found["focal"] = objective.focal * mean(sums.focal, sums.counted)
    if objective.dice:
        found["dice"] = objective.dice * dice(sums.shown, sums.shared, sums.true)
    if objective.iou:
        found["iou"] = objective.iou * (predicted_iou - iou(sums.both, sums.either).detach()) ** 2
    return found
