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

CHUNK_PIXELS = {"cuda": 2**24}
"""Pixels of the model frame (times rows) that are worked on at once, by device type: bounds a step's activations."""
CHUNK_PIXELS_ELSEWHERE = 2**20


def upscaled(
    function: Callable[..., dict[str, Tensor]], side: int, logits: Tensor, *others: Tensor
) -> dict[str, Tensor]:
    """What a function makes of logits on a grid of ``side`` cells, which they are upscaled to.

    On a finer grid than theirs, a few rows at a time, and again when the gradient asks for it: nothing of that size is
    held between the two.

    Args:
        function: of the upscaled logits and the other arguments, to ``(R,)`` by name.
        side: of the grid.
        logits: ``(R, ..., low_res, low_res)`` float32.
        others: whatever else ``function`` takes, ``R`` rows each.
    """
    if side == logits.shape[-1]:
        return function(logits, *others)

    def fine(logits: Tensor, *others: Tensor) -> dict[str, Tensor]:
        maps = logits.flatten(0, -3)[:, None]
        maps = F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
        return function(maps.view(*logits.shape[:-2], side, side), *others)

    rows = max(1, CHUNK_PIXELS.get(logits.device.type, CHUNK_PIXELS_ELSEWHERE) // side**2)
    chunks = zip(*(values.split(rows) for values in (logits, *others)), strict=True)
    found: list[dict[str, Tensor]] = [checkpoint(fine, *chunk, use_reentrant=False) for chunk in chunks]
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


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
