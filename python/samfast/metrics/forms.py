"""The forms masks may have where they are judged, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast.checks import kernel_errors, whole
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks

AnyMasks = Masks | NDArray[Any]
"""``N`` masks: :class:`~samfast.masks.Masks`, or an array.

Bool or uint8 ``(N, H, W)`` or ``(H, W)``, every value that is not 0 being foreground; float32 logits of the same
shapes; or packed rows, uint64 ``(N, H, ceil(W / 64))``, the lowest bit being the leftmost pixel, zeros beyond the
width, which is that of the masks they are judged against or said with ``width``.
"""


@dataclass(frozen=True)
class Form:
    """Masks as a kernel takes them."""

    value: Any
    count: int
    height: int
    width: int | None  # None for packed rows, which do not tell


def read_form(masks: AnyMasks, name: str) -> Form:
    """Check the dtype and shape of masks of any form.

    Raises:
        DataError: another dtype or shape.
    """
    if isinstance(masks, Masks):
        return Form((masks.counts, masks.offsets), len(masks), masks.height, masks.width)
    with kernel_errors(DataError, name):
        array = np.asarray(masks)
    known = array.dtype in (np.bool_, np.uint8, np.float32, np.uint64)
    if not known or array.ndim not in (2, 3):
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}",
            where=name,
            fix="pass Masks, or bool, uint8 or float32 (logits) of shape (N, H, W), or packed uint64",
        )
    batch = np.ascontiguousarray(array[None] if array.ndim == 2 else array)
    return Form(batch, batch.shape[0], batch.shape[1], None if batch.dtype == np.uint64 else batch.shape[2])


def common_size(
    prediction: Form, target: Form, ignore: Form | None = None, *, width: int | None = None
) -> tuple[int, int]:
    """Height and width of masks that are judged against each other; ``width`` where nothing else tells.

    Raises:
        ConfigError: sizes or numbers of masks that do not fit, no width, or a ``width`` that is not that of the masks.
    """
    widths = [form.width for form in (prediction, target) if form.width is not None]
    if width is not None:
        width = whole("width", width, least=1, most=2**32 - 1)
        if widths and width != widths[0]:
            raise ConfigError(f"width is {width}, the masks are {widths[0]} wide", where="width", fix="leave it out")
        widths.append(width)
    if not widths:
        raise ConfigError("packed rows do not tell how wide the masks are", where="width", fix="pass width=...")
    expected = (prediction.height, widths[0])
    others = [("prediction", prediction, {prediction.count}), ("target", target, {prediction.count})]
    if ignore is not None:
        others.append(("ignore", ignore, {0, 1, prediction.count}))
    for name, form, allowed in others:
        found = (form.height, expected[1] if form.width is None else form.width)
        if found != expected or form.count not in allowed:
            raise ConfigError(
                f"{name} has {form.count} masks of {found[0]} x {found[1]}, the prediction has "
                f"{prediction.count} of {expected[0]} x {expected[1]} (height x width)",
                where=name,
            )
    return expected
