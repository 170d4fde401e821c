"""Exact Euclidean distances within masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.checks import flag, kernel_errors, pixel_spacing, writable
from samfast.errors import DataError
from samfast.masks import Masks


def distance_transform(
    masks: Masks | NDArray[Any],
    *,
    spacing: float | tuple[float, float] = 1.0,
    border: bool = False,
    out: NDArray[np.float64] | NDArray[np.float32] | None = None,
) -> NDArray[np.floating]:
    """The distance from the centre of each foreground pixel to the nearest background pixel's; 0 on background.

    Exact, by the algorithm of Meijster, Roerdink and Hesselink (2000). At the default spacing every distance is the
    correctly rounded root of an integer, bit for bit that of ``scipy.ndimage.distance_transform_edt``; at others it is
    ``sqrt((dy * height)**2 + (dx * width)**2)`` of the nearest pixel, to a few units in the last place.

    >>> distance_transform(np.array([[0, 1, 1, 1]], bool))
    array([[0., 1., 2., 3.]])

    Args:
        masks: ``(N, H, W)`` or ``(H, W)`` bool or uint8, where every value that is not 0 is foreground, or
            :class:`Masks`; sides of at most 2**26 pixels.
        spacing: size of a pixel, one number or (height, width), in the unit distances shall have.
        border: whether what lies outside the image is background, too. Without it, a mask that has no background is
            infinite all over.
        out: where to write: C-contiguous, float64 or float32 (rounded from float64), of the result's shape.

    Returns:
        ``(N, H, W)`` float64, ``(H, W)`` for an ``(H, W)`` mask; ``out`` if it was passed.

    Raises:
        DataError: masks of another dtype or shape, or without pixels.
        ConfigError: a ``spacing`` that is not one or two numbers above 0, or an ``out`` that does not fit.
    """
    height, width = pixel_spacing(spacing)
    border = flag("border", border)
    with kernel_errors(DataError, "masks"):
        pixels = masks.numpy() if isinstance(masks, Masks) else np.asarray(masks)
    if pixels.ndim not in (2, 3) or pixels.dtype not in (np.bool_, np.uint8):
        raise DataError(
            f"masks are {pixels.dtype} of shape {pixels.shape}",
            where="masks",
            fix="pass bool or uint8 of shape (N, H, W) or (H, W)",
        )
    writable(out, pixels.shape, np.float64, np.float32)
    out = np.empty(pixels.shape) if out is None else out
    pixels = np.ascontiguousarray(pixels).view(np.uint8)
    batch = (pixels, out) if pixels.ndim == 3 else (pixels[None], out[None])
    if 0 in batch[0].shape[1:]:
        raise DataError(f"masks of {batch[0].shape[1]} x {batch[0].shape[2]} pixels have no pixels", where="masks")
    with kernel_errors(DataError, "masks"):
        _rust.distance_transform(batch[0], height, width, border, batch[1])
    return out
