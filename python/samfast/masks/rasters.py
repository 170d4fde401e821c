"""Polygons to pixels without run lengths in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import kernel_errors, mask_size, writable
from samfast.errors import DataError
from samfast.masks.coco import call_on_polygons


def polygons_to_numpy(
    objects: Sequence[Sequence[ArrayLike]],
    height: int,
    width: int,
    *,
    rule: Literal["coco", "pixel-center", "opencv"] = "coco",
    out: NDArray[np.bool_] | NDArray[np.uint8] | None = None,
) -> NDArray[np.bool_]:
    """``(N, height, width)`` bool, what ``Masks.from_polygons(...).numpy()`` returns, several times as fast.

    >>> polygons_to_numpy([[[0, 0, 9, 0, 9, 9, 0, 9]]], 20, 20).sum()
    np.int64(81)

    Args:
        objects: ``N`` lists of polygons, as :meth:`Masks.from_polygons` takes them.
        height: of the masks, in pixels.
        width: of the masks, in pixels.
        rule: which pixels belong to a polygon, see :meth:`Masks.from_polygons`.
        out: C-contiguous bool or uint8 of that shape, written to and returned as bool.

    Raises:
        DataError: what is not a polygon or not finite, or a mask without pixels; names the object's index.
        ConfigError: an unknown ``rule``, or an ``out`` that does not fit.
    """
    writable(out, _shape(objects, height, width), np.bool_, np.uint8)
    masks: NDArray[np.uint8] = call_on_polygons(_rust.polygons_to_masks, objects, height, width, rule, out)
    return masks.view(np.bool_)


def polygons_to_packed(
    objects: Sequence[Sequence[ArrayLike]],
    height: int,
    width: int,
    *,
    rule: Literal["coco", "pixel-center", "opencv"] = "coco",
    out: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint64]:
    """``(N, height, ceil(width / 64))`` uint64, what ``Masks.from_polygons(...).packed()`` returns.

    Args:
        objects: ``N`` lists of polygons, as :meth:`Masks.from_polygons` takes them.
        height: of the masks, in pixels.
        width: of the masks, in pixels.
        rule: which pixels belong to a polygon, see :meth:`Masks.from_polygons`.
        out: C-contiguous uint64 of that shape, written to and returned.

    Raises:
        DataError: what is not a polygon or not finite, or a mask without pixels; names the object's index.
        ConfigError: an unknown ``rule``, or an ``out`` that does not fit.
    """
    count, rows, columns = _shape(objects, height, width)
    writable(out, (count, rows, -(-columns // 64)), np.uint64)
    packed: NDArray[np.uint64] = call_on_polygons(_rust.polygons_to_bits, objects, height, width, rule, out)
    return packed


def _shape(objects: Sequence[Sequence[ArrayLike]], height: int, width: int) -> tuple[int, int, int]:
    """(N, height, width), checked."""
    size = mask_size(height, width, DataError)
    with kernel_errors(DataError, "objects"):
        return (len(objects), *size)
