"""A decoder's low-res logits as masks of the original size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.checks import instance, kernel_errors, logit
from samfast.errors import DataError
from samfast.frames import Frame


def logits_to_packed(
    logits: NDArray[np.float32], frame: Frame, *, threshold: float | None = None
) -> NDArray[np.uint64]:
    """``(N, H, ceil(W / 64))`` uint64, original frame: what ``Masks.from_logits(...).packed()`` returns.

    >>> from samfast.frames import PreprocessSpec
    >>> frame = PreprocessSpec(16, 4, 4, (0, 0, 0), (1, 1, 1)).frame(2, 3)
    >>> logits_to_packed(np.ones((1, 4, 4), np.float32), frame).tolist()
    [[[7], [7]]]

    Args:
        logits: ``(N, low_res, low_res)`` float32, low-res frame, see :meth:`Masks.from_logits`.
        frame: of the image they are about.
        threshold: the logit above which a pixel is foreground; None for the spec's ``mask_threshold``.

    Raises:
        DataError: logits of another dtype or shape, or a logit that is not finite; names the map.
        ConfigError: a ``threshold`` that is not finite in float32.
    """
    return cast("NDArray[np.uint64]", call_on_logits(_rust.logits_to_bits, logits, frame, threshold))


def call_on_logits(
    kernel: Callable[..., Any], logits: NDArray[np.float32], frame: Frame, threshold: float | None
) -> Any:
    """Call a kernel that upscales logits, for the original size.

    Raises:
        DataError: logits of another dtype or shape, or a logit that is not finite; names the map.
        ConfigError: a ``threshold`` that is not finite in float32.
    """
    spec = instance("frame", frame, Frame).spec
    with kernel_errors(DataError, "logits"):
        logits = np.asarray(logits)
    if logits.dtype != np.float32 or logits.shape[1:] != (spec.low_res, spec.low_res):
        raise DataError(
            f"logits are {logits.dtype} of shape {logits.shape}",
            where="logits",
            fix=f"pass float32 of shape (N, {spec.low_res}, {spec.low_res})",
        )
    threshold = logit("threshold", spec.mask_threshold if threshold is None else threshold)
    way = (spec.size, *frame.resized, frame.height, frame.width, threshold)
    with kernel_errors(DataError, "logits"):
        return kernel(np.ascontiguousarray(logits), *way)
