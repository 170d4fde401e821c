"""Corrections: a click where the last answer was wrong, asked together with everything before it (SAM, appendix A).

All of it runs on the device, for all prompts at once, and every prompt's click depends on its own answer and key alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samfast.inference.contract import MULTIMASK, SINGLE
from samfast.prompts import NEGATIVE, PADDING, POSITIVE
from samfast.train.cells import is_of_mask


@dataclass(frozen=True)
class Asked:
    """``P`` prompts of ``M`` tokens on the device, model frame, as :meth:`samfast.models.sam.Sam.decode` takes them.

    Attributes:
        image_index: ``(P,)`` int64.
        coords: ``(P, M, 2)`` float32 (x, y), pixel indices.
        labels: ``(P, M)`` int64.
        mask: ``(P, 1, low_res, low_res)`` float32 logits; None where no prompt has one.
        has_mask: ``(P,)`` float32, 1 where ``mask`` is a prompt; None with ``mask``.
    """

    image_index: Tensor
    coords: Tensor
    labels: Tensor
    mask: Tensor | None
    has_mask: Tensor | None


def corrected(
    asked: Asked, answer: Tensor, target: Tensor, weight: Tensor, keys: Tensor, adds_click: Tensor, *, cell_px: float
) -> Asked:
    """The prompts again, with the logits of their answers as masks, and with one more click or without.

    Args:
        asked: what was asked.
        answer: ``(P, 1, low_res, low_res)`` float32 logits; no gradient flows back through them.
        target: ``(P, low_res, low_res)`` float32 in [0, 1].
        weight: ``(P, low_res, low_res)`` float32, 0 in cells that do not count.
        keys: ``(P,)`` int64, not negative.
        adds_click: ``(P,)`` bool.
        cell_px: side of a low-res cell in the model frame, in pixels.
    """
    answer = answer.detach()
    again = replace(asked, mask=answer, has_mask=torch.ones_like(keys, dtype=torch.float32))
    if not bool(adds_click.any()):
        return again
    cells, labels = next_click(answer[:, 0], target, weight, keys)
    coords = (cells + 0.5) * cell_px - 0.5  # centre of the cell, as a pixel index
    coords = torch.where(adds_click[:, None], coords, torch.zeros_like(coords))
    return replace(
        again,
        coords=torch.cat([asked.coords, coords[:, None].to(asked.coords.dtype)], dim=1),
        labels=torch.cat([asked.labels, torch.where(adds_click, labels, PADDING)[:, None]], dim=1),
    )


def answers(logits: Tensor, predicted_iou: Tensor, is_one_point: Tensor, *, best_predicted: bool) -> Tensor:
    """``(P, 1, low_res, low_res)``: the answer of each prompt, from all ``(P, 4, low_res, low_res)`` logits.

    Token 0; or, ``best_predicted``, the multimask token of the highest ``(P, 4)`` predicted IoU where the prompt
    ``is_one_point``. The rules of :data:`~samfast.inference.contract.Selection`.
    """
    token = torch.full_like(predicted_iou[:, 0], SINGLE[0], dtype=torch.int64)
    if best_predicted:
        best = predicted_iou[:, list(MULTIMASK)].argmax(1) + MULTIMASK[0]
        token = torch.where(is_one_point, best, token)
    return logits[torch.arange(len(logits), device=logits.device), token][:, None]


def next_click(logits: Tensor, target: Tensor, weight: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a cell of each answer's error region, all of them equally likely.

    Where nothing is wrong, it is a cell of the object.

    Args:
        logits: ``(P, L, L)`` of the answers.
        target: ``(P, L, L)`` in [0, 1], 0 where the weight is; not all 0.
        weight: ``(P, L, L)``, 0 in cells that do not count.
        keys: ``(P,)`` int64, not negative; the cell is number ``key`` modulo their count, row by row.

    Returns:
        ``(P, 2)`` int64 cells (x, y), and ``(P,)`` int64 labels: 1 on the object, 0 beside it.
    """
    true = is_of_mask(target)
    wrong = ((logits > 0) != true) & (weight > 0)
    is_right = ~wrong.flatten(1).any(1)  # (P,)
    candidates = torch.where(is_right[:, None, None], true, wrong).flatten(1)  # (P, L * L)
    seen = candidates.cumsum(1, dtype=torch.int32)
    number = keys % seen[:, -1].clamp(min=1) + 1
    cell = torch.searchsorted(seen, number[:, None].to(torch.int32))  # the first with that many candidates up to it
    on_object = true.flatten(1).gather(1, cell)[:, 0]
    side = logits.shape[-1]
    return torch.cat([cell % side, cell // side], dim=1), torch.where(on_object, POSITIVE, NEGATIVE)
