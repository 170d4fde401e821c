"""Losses on a grid of cells, and which mask tokens they teach.

A mask that is neither right nor wrong at its border is what the area average of a mask is: targets are soft, and each
cell counts by the fraction of it that lies on the image and is not ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from samfast.inference.contract import MULTIMASK, SINGLE
from samfast.train.objective import Objective

_DICE_SMOOTHING = 1.0


def bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy, the weighted mean over cells: ``(..., L, L)`` to ``(...)``."""
    losses = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    return (losses * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1e-6)


def focal(logits: Tensor, target: Tensor, weight: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al., 2017), the weighted mean over cells: ``(..., L, L)`` to ``(...)``."""
    losses = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    probability = logits.sigmoid()
    missed = probability + target - 2 * probability * target  # 1 - p of what is true
    balance = alpha * target + (1 - alpha) * (1 - target)
    return (balance * missed.pow(gamma) * losses * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1e-6)


def dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Soft Dice loss over the weighted cells (Milletari et al., V-Net, 2016): ``(..., L, L)`` to ``(...)``."""
    return dice_of(logits.sigmoid(), target, weight)


def dice_of(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """:func:`dice` of probabilities."""
    probability = probability * weight
    shared = (probability * target).sum((-2, -1))
    total = probability.sum((-2, -1)) + (target * weight).sum((-2, -1))
    return 1 - (2 * shared + _DICE_SMOOTHING) / (total + _DICE_SMOOTHING)


def low_res_iou(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """IoU of ``logits > 0`` with ``target >= 0.5`` over the weighted cells, 1 where both are empty; no gradient."""
    predicted, true = logits.detach() > 0, target >= 0.5
    shared = ((predicted & true) * weight).sum((-2, -1))
    either = ((predicted | true) * weight).sum((-2, -1))
    return torch.where(either > 0, shared / either.clamp(min=1e-6), torch.ones_like(shared))


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
        logits: ``(P, 4, L, L)`` float32.
        predicted_iou: ``(P, 4)`` float32.
        target: ``(P, L, L)`` float32 in [0, 1].
        weight: ``(P, L, L)`` float32 in [0, 1].
        is_one_point: ``(P,)`` bool.
    """
    lone = is_one_point.nonzero()[:, 0]
    parts = _parts(objective, logits[:, SINGLE[0]], predicted_iou[:, SINGLE[0]], target, weight)  # (P,) each
    if len(lone):
        tokens = slice(MULTIMASK[0], MULTIMASK[-1] + 1)
        many = _parts(
            objective, logits[lone, tokens], predicted_iou[lone, tokens], target[lone, None], weight[lone, None]
        )  # (lone, 3) each
        scores = many.pop("iou", None)
        best = torch.stack(list(many.values())).sum(0).detach().argmin(1, keepdim=True)
        shared = {name: (parts[name][lone] + values.gather(1, best)[:, 0]) / 2 for name, values in many.items()}
        if scores is not None:
            shared["iou"] = (parts["iou"][lone] + scores.sum(1)) / (1 + len(MULTIMASK))
        parts = {name: values.index_put((lone,), shared[name]) for name, values in parts.items()}
    return Losses(torch.stack(list(parts.values())).sum(0), parts)


def _parts(
    objective: Objective, logits: Tensor, predicted_iou: Tensor, target: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """Each part of the loss with its weight: ``(..., L, L)`` logits and ``(...)`` scores to ``(...)``."""
    found: dict[str, Tensor] = {}
    if objective.bce:
        found["bce"] = objective.bce * bce(logits, target, weight)
    if objective.focal:
        shape = {"alpha": objective.alpha, "gamma": objective.gamma}
        found["focal"] = objective.focal * focal(logits, target, weight, **shape)
    if objective.dice:
        found["dice"] = objective.dice * dice(logits, target, weight)
    if objective.iou:
        found["iou"] = objective.iou * (predicted_iou - low_res_iou(logits, target, weight)) ** 2
    return found
