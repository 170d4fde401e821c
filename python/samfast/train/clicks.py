"""Corrections: a click where the last answer was wrong, asked together with everything before it (SAM, appendix A).

All of it runs on the device, for all prompts at once, and every prompt's click depends on its own answer and key alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samfast.inference.contract import SINGLE
from samfast.prompts import NEGATIVE, POSITIVE


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


def corrected(asked: Asked, logits: Tensor, target: Tensor, weight: Tensor, keys: Tensor, *, cell_px: float) -> Asked:
    """The prompts again, each with one more click and with the logits of its answer as its mask.

    The answer is token 0, the one that ``selection="single"`` answers with.

    Args:
        asked: what was asked.
        logits: ``(P, 4, low_res, low_res)`` float32, what was answered; no gradient flows back through it.
        target: ``(P, low_res, low_res)`` float32 in [0, 1].
        weight: ``(P, low_res, low_res)`` float32, 0 in cells that do not count.
        keys: ``(P,)`` int64, not negative.
        cell_px: side of a low-res cell in the model frame, in pixels.
    """
    answer = logits.detach()[:, list(SINGLE)]  # (P, 1, L, L)
    cells, labels = next_click(answer[:, 0], target, weight, keys)
    coords = (cells + 0.5) * cell_px - 0.5  # centre of the cell, as a pixel index
    return replace(
        asked,
        coords=torch.cat([asked.coords, coords[:, None].to(asked.coords.dtype)], dim=1),
        labels=torch.cat([asked.labels, labels[:, None]], dim=1),
        mask=answer,
        has_mask=torch.ones_like(keys, dtype=torch.float32),
    )


def next_click(logits: Tensor, target: Tensor, weight: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a cell of each answer's error region, all of them equally likely.

    Where nothing is wrong, it is a cell of the object: one where the target is 0.5 or more, or its fullest ones if it
    fills no cell by half.

    Args:
        logits: ``(P, L, L)`` of the answers.
        target: ``(P, L, L)`` in [0, 1], 0 where the weight is; not all 0.
        weight: ``(P, L, L)``, 0 in cells that do not count.
        keys: ``(P,)`` int64, not negative; the cell is number ``key`` modulo their count, row by row.

    Returns:
        ``(P, 2)`` int64 cells (x, y), and ``(P,)`` int64 labels: 1 on the object, 0 beside it.
    """
    true = target >= 0.5
    wrong = ((logits > 0) != true) & (weight > 0)
    is_right = ~wrong.flatten(1).any(1)  # (P,)
    inside = target >= target.flatten(1).amax(1).clamp(max=0.5)[:, None, None]
    candidates = torch.where(is_right[:, None, None], inside, wrong).flatten(1)  # (P, L * L)
    seen = candidates.cumsum(1, dtype=torch.int32)
    number = keys % seen[:, -1].clamp(min=1) + 1
    cell = torch.searchsorted(seen, number[:, None].to(torch.int32))  # the first with that many candidates up to it
    on_object = is_right | true.flatten(1).gather(1, cell)[:, 0]
    side = logits.shape[-1]
    return torch.cat([cell % side, cell // side], dim=1), torch.where(on_object, POSITIVE, NEGATIVE)
