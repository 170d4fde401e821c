"""The loss of a step and its gradient: ``pytest benches/test_losses.py --benchmark-only``.

Eight lone points of ``vit_b``, four masks each, in the low-res and in the model frame: by the kernel, and
by torch, which upscales a few masks at a time and makes them again for the gradient. Equality is checked first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from samfast.models.allocator import keep_heap
from samfast.models.architecture import get_architecture
from samfast.train.cells import Sums, plain_sums
from samfast.train.loss_frame import upscaled
from samfast.train.losses import prompt_losses
from samfast.train.objective import OBJECTIVES, Objective

PROMPTS = 8
SPEC = get_architecture("vit_b").spec
SIDES = {"low-res": SPEC.low_res, "model": SPEC.size}


def in_torch(logits: Tensor, target: Tensor, weight: Tensor, owner: Tensor, objective: Objective) -> Sums:
    def sums(fine: Tensor, owner: Tensor) -> dict[str, Tensor]:
        return plain_sums(fine, target[owner], weight[owner], objective)._asdict()

    return Sums(**upscaled(sums, target.shape[-1], logits, owner))


@cache
def drawn(side: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "logits": 3 * torch.randn(PROMPTS, 4, SPEC.low_res, SPEC.low_res, generator=draw),
        "predicted_iou": torch.rand(PROMPTS, 4, generator=draw),
        "target": torch.rand(PROMPTS, side, side, generator=draw).round(),
        "weight": torch.ones(PROMPTS, side, side),
        "is_one_point": torch.ones(PROMPTS, dtype=torch.bool),
    }


def gradient(frame: str, name: str) -> Tensor:
    """Of the mean loss: ``(P, 4, low_res, low_res)``."""
    case = drawn(SIDES[frame])
    logits = case["logits"].clone().requires_grad_()
    prompt_losses(OBJECTIVES[name], **{**case, "logits": logits}).total.mean().backward()
    assert logits.grad is not None
    return logits.grad


def by_torch(frame: str, name: str) -> Tensor:
    with mock.patch("samfast.train.losses.cell_sums", in_torch):
        return gradient(frame, name)


WAYS: dict[str, Callable[[str, str], Tensor]] = {"samfast": gradient, "torch": by_torch}


@pytest.mark.parametrize("who", WAYS)
@pytest.mark.parametrize("name", ["bce+dice", "focal+dice+iou"])
@pytest.mark.parametrize("frame", SIDES)
def test_losses(benchmark: Any, frame: str, name: str, who: str) -> None:
    torch.set_num_threads(1)
    keep_heap()
    benchmark.group = f"{name}, {frame} frame"
    ours, theirs = gradient(frame, name), by_torch(frame, name)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    assert (ours.roll(1, 0) - theirs).norm() > theirs.norm()  # the control
    benchmark.pedantic(WAYS[who], (frame, name), rounds=5, warmup_rounds=1)
