"""What losses are made of: sums over the cells that a mask's targets lie on.

On a CPU one kernel takes the sums, and their gradient, without ever holding a map as fine as the targets. Elsewhere,
and in other types, it is torch, in chunks that are made again for the gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from samfast import _rust
from samfast.train.loss_frame import upscaled
from samfast.train.objective import Objective


class Sums(NamedTuple):
    """Sums over the cells of ``R`` maps, each cell times its weight: ``(R,)`` each.

    Attributes:
        counted: of the weights alone.
        entropy: of the binary cross-entropy.
        focal: of the focal loss (Lin et al., 2017); 0 where the objective has none.
        shown: of the sigmoid of the logits.
        true: of the targets.
        shared: of their product.
        both: of the cells with logits above 0 that are of the mask, see :func:`is_of_mask`; no gradient.
        either: of the cells with one of them; no gradient.
    """

    counted: Tensor
    entropy: Tensor
    focal: Tensor
    shown: Tensor
    true: Tensor
    shared: Tensor
    both: Tensor
    either: Tensor


MOVING = ("entropy", "focal", "shown", "shared")
"""The sums that have a gradient."""


def cell_sums(logits: Tensor, target: Tensor, weight: Tensor, owner: Tensor, objective: Objective) -> Sums:
    """The sums of each map of logits.

    Args:
        logits: ``(R, l, l)``, on the grid of the targets or on a coarser one, which they are upscaled from.
        target: ``(P, L, L)`` in [0, 1], of the dtype of the logits.
        weight: ``(P, L, L)`` in [0, 1], of the dtype of the logits.
        owner: ``(R,)`` int64: the targets that each map is held to.
        objective: says whether there is a focal loss, and its shape.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        focal = (objective.alpha, objective.gamma) if objective.focal else None
        return Sums(*_Kernel.apply(logits, target, weight, owner, focal).unbind(1))

    def sums(fine: Tensor, owner: Tensor) -> dict[str, Tensor]:
        return plain_sums(fine, target[owner], weight[owner], objective)._asdict()

    return Sums(**upscaled(sums, target.shape[-1], logits, owner))


def plain_sums(logits: Tensor, target: Tensor, weight: Tensor, objective: Objective) -> Sums:
    """The sums written out in torch, ``(R, L, L)`` each."""
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = torch.zeros_like(logits)
    if objective.focal:
        missed = probability + target - 2 * probability * target  # 1 - p of what is true
        balance = objective.alpha * target + (1 - objective.alpha) * (1 - target)
        focal = balance * missed.pow(objective.gamma) * entropy
    is_shown, is_true = logits.detach() > 0, is_of_mask(target)
    cells = Sums(
        counted=torch.ones_like(weight),
        entropy=entropy,
        focal=focal,
        shown=probability,
        true=target,
        shared=probability * target,
        both=is_shown & is_true,
        either=is_shown | is_true,
    )
    return Sums(*((values * weight).sum((-2, -1)) for values in cells))


def is_of_mask(target: Tensor) -> Tensor:
    """Which cells are those of the mask: the ones it fills by half, or its fullest ones if there are none.

    ``(..., L, L)`` in [0, 1] to bool. So a mask that is smaller than any cell is not taken for an empty one.
    """
    fullest = target.amax((-2, -1), keepdim=True)
    return target >= fullest.clamp(torch.finfo(target.dtype).tiny, 0.5)


class _Kernel(torch.autograd.Function):
    """The sums as ``(R, 8)``, by the kernel."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor, owner: Tensor, focal: tuple[float, float] | None
    ) -> Tensor:
        ctx.save_for_backward(logits, target, weight, owner)
        ctx.focal = focal
        given = _array(logits), _array(target), _array(weight), _array(owner)
        return torch.from_numpy(_rust.cell_sums(*given, focal))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factors = _array(gradient[:, [Sums._fields.index(name) for name in MOVING]])
        logits, target, weight, owner = ctx.saved_tensors
        given = _array(logits), _array(target), _array(weight), _array(owner)
        found = _rust.cell_gradients(*given, ctx.focal, factors)
        return torch.from_numpy(found), None, None, None, None


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().contiguous().numpy()
    return array
