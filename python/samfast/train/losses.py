"""Losses in the low-res frame, and which mask tokens they teach.

A mask that is neither right nor wrong at its border is what the area average of a mask is: targets are soft, and each
cell counts by the fraction of it that lies on the image and is not ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from samfast.inference.contract import MULTIMASK, SINGLE

_DICE_SMOOTHING = 1.0
_FOCAL_ALPHA = 0.25


def bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy, the weighted mean over cells: ``(..., L, L)`` to ``(...)``."""
    losses = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    return (losses * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1e-6)


def focal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Focal loss (Lin et al., 2017; alpha 0.25, gamma 2, as in SAM), weighted mean: ``(..., L, L)`` to ``(...)``."""
    losses = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    probability = logits.sigmoid()
    missed = probability + target - 2 * probability * target  # 1 - p of what is true
    balance = _FOCAL_ALPHA * target + (1 - _FOCAL_ALPHA) * (1 - target)
    return (balance * missed.square() * losses * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1e-6)


def dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Soft Dice loss over the weighted cells (Milletari et al., V-Net, 2016): ``(..., L, L)`` to ``(...)``."""
    probability = logits.sigmoid() * weight
    shared = (probability * target).sum((-2, -1))
    total = probability.sum((-2, -1)) + (target * weight).sum((-2, -1))
    return 1 - (2 * shared + _DICE_SMOOTHING) / (total + _DICE_SMOOTHING)


def low_res_iou(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """IoU of ``logits > 0`` with ``target >= 0.5`` over the weighted cells, 1 where both are empty; no gradient."""
    predicted, true = logits.detach() > 0, target >= 0.5
    shared = ((predicted & true) * weight).sum((-2, -1))
    either = ((predicted | true) * weight).sum((-2, -1))
    return torch.where(either > 0, shared / either.clamp(min=1e-6), torch.ones_like(shared))


MASK_LOSSES: dict[str, dict[Callable[[Tensor, Tensor, Tensor], Tensor], float]] = {
    "bce+dice": {bce: 1.0, dice: 1.0},
    "focal+dice+iou": {focal: 20.0, dice: 1.0},
}
"""A loss by name: the parts of the mask loss and their weights. The loss of the predicted IoU joins each of them."""


@dataclass(frozen=True)
class Losses:
    """The loss of each prompt and the parts it is the sum of.

    Attributes:
        total: ``(P,)``.
        parts: name to ``(P,)``.
    """

    total: Tensor
    parts: dict[str, Tensor]


def prompt_losses(
    name: str, logits: Tensor, predicted_iou: Tensor, target: Tensor, weight: Tensor, is_one_point: Tensor
) -> Losses:
    """The loss of every prompt.

    A lone point is ambiguous: of its three multimask tokens, the one with the smallest mask loss is taught, as in SAM,
    and beside it token 0, which answers alone at inference; the two count half each. Other prompts teach token 0.
    The predicted IoU of every token that a kind of prompt supervises is held to the IoU of that token's mask (MSE).

    Args:
        name: of the mask loss.
        logits: ``(P, 4, L, L)`` float32.
        predicted_iou: ``(P, 4)`` float32.
        target: ``(P, L, L)`` float32 in [0, 1].
        weight: ``(P, L, L)`` float32 in [0, 1].
        is_one_point: ``(P,)`` bool.
    """
    target, weight = target[:, None], weight[:, None]  # (P, 1, L, L)
    parts = {  # (P, 4) each
        part.__name__: factor * part(logits, target, weight) for part, factor in MASK_LOSSES[name].items()
    }
    supervised = torch.zeros_like(predicted_iou)  # (P, 4), rows sum to 1
    supervised[:, SINGLE[0]] = 1
    masks = torch.stack(list(parts.values())).sum(0).detach()
    best = masks[:, list(MULTIMASK)].argmin(1) + MULTIMASK[0]
    shared = torch.zeros_like(supervised)
    shared[:, SINGLE[0]] = 0.5
    shared.scatter_(1, best[:, None], 0.5)
    lone = is_one_point[:, None]
    taught = {part: (values * torch.where(lone, shared, supervised)).sum(1) for part, values in parts.items()}

    errors = (predicted_iou - low_res_iou(logits, target, weight)) ** 2  # (P, 4)
    taught["iou"] = torch.where(is_one_point, errors.mean(1), errors[:, SINGLE[0]])
    return Losses(torch.stack(list(taught.values())).sum(0), taught)
