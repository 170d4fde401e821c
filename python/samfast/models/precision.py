"""The arithmetic of a model: one set of words everywhere, and what a device can do."""

from __future__ import annotations

import torch

from samfast.errors import ConfigError

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What people type, and the dtype it stands for. Parameters stay float32: the halves are autocast."""


def pick_precision(precision: str, device: torch.device) -> str:
    """``"fp32"``, ``"bf16"`` or ``"fp16"`` for a device.

    Args:
        precision: one of these, the name of its dtype, or ``"auto"``: bf16 on a GPU that has it, else fp32.
        device: that computes.

    Raises:
        ConfigError: it is none of these, or bf16 was asked for on a GPU that computes it in software.

    >>> pick_precision("auto", torch.device("cpu")), pick_precision("bfloat16", torch.device("cpu"))
    ('fp32', 'bf16')
    """
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    picked = next((word for word, dtype in PRECISIONS.items() if precision in (word, dtype)), None)
    if picked is None:
        raise ConfigError(f"precision={precision!r} is none of auto, {', '.join(PRECISIONS)}", where="precision")
    if picked == "bf16" and device.type == "cuda" and not has_bf16:
        raise ConfigError(
            f"precision={precision!r}: {torch.cuda.get_device_name(device)} has no bf16", where="precision"
        )
    return picked
