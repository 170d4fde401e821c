"""Matrix products on a CPU by the library that is fastest at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def is_graph() -> bool:
    """Whether the operations go into a graph, which is to hold whatever the sizes, and run elsewhere."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined]


def is_recorded(*tensors: Tensor | None) -> bool:
    """Whether autograd records an operation on ``tensors``: then it must not work in place."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """``x @ weight.T + bias``, and its GELU if asked for.

    In float32 on a CPU, PyTorch's own linear goes to MKL, which leaves a tenth of the speed of large products behind on
    some CPUs; oneDNN does not, and takes the GELU along.

    Args:
        x: ``(..., I)``.
        weight: ``(O, I)``.
        bias: ``(O,)``.
        gelu: apply the exact GELU.

    Returns:
        ``(..., O)``.
    """
    if _ONEDNN and x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu":
        is_plain = not torch.is_autocast_enabled("cpu") and not (is_graph() or is_recorded(x, weight, bias))
        if is_plain and x.numel():
            fused: Tensor = _ONEDNN(x.contiguous(), weight, bias, "gelu" if gelu else "none", [], "none")
            return fused
    y = F.linear(x, weight, bias)
    return F.gelu(y) if gelu else y


def apply(layer: nn.Module, x: Tensor, *, gelu: bool = False) -> Tensor:
    """``layer(x)``, and its GELU if asked for: by :func:`linear` where the layer is a plain one that nobody listens to.

    What has taken a linear layer's place, such as an adapter around it, is called as it is.

    Args:
        layer: from ``(..., I)`` to ``(..., O)``.
        x: ``(..., I)``.
        gelu: apply the exact GELU.
    """
    if type(layer) is nn.Linear and not (layer._forward_hooks or layer._forward_pre_hooks):
        return linear(x, layer.weight, layer.bias, gelu=gelu)
    y: Tensor = layer(x)
    return F.gelu(y) if gelu else y


def _find_onednn() -> Callable[..., Any] | None:
    """The operator that PyTorch's compiler emits for a linear layer; older builds and some systems are without it."""
    if not torch.backends.mkldnn.is_available():
        return None
    found: Callable[..., Any] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return found


_ONEDNN = _find_onednn()
