"""Losses of answers without prompts: a mask for each class, taught all of it.

Multi-label, every class has a sigmoid of its own, and its losses are those of a prompt. Multi-class, the classes and
the background share a softmax, in which the background's logit is 0, and cross-entropy and focal loss are those of the
one class that a pixel is of. For one class the two are the same.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from samfast.train.cells import cell_sums, is_of_mask
from samfast.train.loss_frame import upscaled
from samfast.train.losses import Losses, dice, iou, mean, weighted_parts
from samfast.train.objective import Objective

BACKGROUND = (0, 0, 0, 0, 1, 0)
"""Puts the background's logit, 0, before those of the classes."""


def class_losses(
    objective: Objective, logits: Tensor, predicted_iou: Tensor, target: Tensor, weight: Tensor, *, multilabel: bool
) -> Losses:
    """The loss of every image.

    Dice, and the squared error of the predicted IoU, are means over the classes, those included that an image holds
    nothing of; so are binary cross-entropy and focal loss, multi-label. Multi-class, these two are means over cells.

    Args:
        objective: the parts of the loss.
        logits: ``(P, K, l, l)`` float32, one mask a class, on the grid of the targets or on a coarser one.
        predicted_iou: ``(P, K)`` float32.
        target: ``(P, K, L, L)`` float32 in [0, 1]. Multi-class, where they sum up to more than 1 they are scaled down.
        weight: ``(P, L, L)`` float32 in [0, 1].
        multilabel: whether a pixel may be of several classes.
    """
    if not multilabel:
        shared_out = partial(_shared_out, objective)
        parts = upscaled(shared_out, target.shape[-1], logits, predicted_iou, target, weight)
    else:
        cells = weight[:, None].expand_as(target).flatten(0, 1)
        owner = torch.arange(len(cells), device=cells.device)
        sums = cell_sums(logits.flatten(0, 1), target.flatten(0, 1), cells, owner, objective)
        found = weighted_parts(objective, sums, predicted_iou.flatten())
        parts = {name: values.unflatten(0, (len(target), -1)).mean(1) for name, values in found.items()}
    return Losses(torch.stack(list(parts.values())).sum(0), parts)


def _shared_out(
    objective: Objective, logits: Tensor, predicted_iou: Tensor, target: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """Each part of the multi-class loss with its weight, ``(P,)``; all maps on one grid."""
    cells = weight[:, None]
    target = target / target.sum(1, keepdim=True).clamp(min=1)
    found: dict[str, Tensor] = {}
    if objective.bce:
        found["bce"] = objective.bce * cross_entropy(logits, target, weight)
    if objective.focal:
        shape = {"alpha": objective.alpha, "gamma": objective.gamma}
        found["focal"] = objective.focal * focal_cross_entropy(logits, target, weight, **shape)
    if objective.dice:
        shares = F.pad(logits, BACKGROUND).softmax(1)[:, 1:] * cells
        sums = [maps.sum((-2, -1)) for maps in (shares, shares * target, target * cells)]
        found["dice"] = objective.dice * dice(*sums).mean(1)
    if objective.iou:
        leads, is_true = _leads(logits) > 0, is_of_mask(target)
        both, either = ((maps * cells).sum((-2, -1)) for maps in (leads & is_true, leads | is_true))
        found["iou"] = objective.iou * ((predicted_iou - iou(both, either)) ** 2).mean(1)
    return found


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of soft targets and their rest, the background; weighted mean over cells: to ``(P,)``."""
    return _over_cells(_entropies(logits, target)[0].sum(1), weight)


def focal_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal loss of a softmax (Lin et al., 2017), ``alpha`` for classes and ``1 - alpha`` for the background.

    Returns:
        ``(P,)``: the weighted mean over cells.
    """
    entropies, shares, whole = _entropies(logits, target)
    missed = (whole * (1 - shares)).sum(1)
    balance = alpha * whole[:, 1:].sum(1) + (1 - alpha) * whole[:, 0]
    return _over_cells(balance * missed.pow(gamma) * entropies.sum(1), weight)


def _entropies(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy, share and target of the background and each class: three of ``(P, 1 + K, L, L)``."""
    whole = torch.cat([1 - target.sum(1, keepdim=True), target], 1)
    logs = F.pad(logits, BACKGROUND).log_softmax(1)
    return -whole * logs, logs.exp(), whole


def _leads(logits: Tensor) -> Tensor:
    """``(P, K, L, L)`` logits to how far each is ahead of all others and of the background; no gradient."""
    logits = logits.detach()
    padded = F.pad(logits, BACKGROUND)
    first, second = padded.topk(2, dim=1).values.unbind(1)
    return torch.where(logits == first[:, None], logits - second[:, None], logits - first[:, None])


def _over_cells(losses: Tensor, weight: Tensor) -> Tensor:
    return mean((losses * weight).sum((-2, -1)), weight.sum((-2, -1)))
