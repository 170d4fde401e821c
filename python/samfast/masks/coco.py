"""What COCO annotations hold: run lengths and polygons, checked item by item."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import choice, kernel_errors, mask_size
from samfast.errors import DataError


def read_rles(rles: Sequence[Mapping[str, Any]]) -> tuple[int, int, NDArray[np.uint32], NDArray[np.int64]]:
    """Height, width, counts and offsets of COCO dicts, as :class:`~samfast.masks.Masks` holds them.

    Raises:
        DataError: no masks, masks of different sizes, or run lengths that are not a mask; names the index.
    """
    if isinstance(rles, Mapping):
        raise DataError("one mask is not a list of masks", where="rles", fix="pass [rle]")
    with kernel_errors(DataError, "rles"):
        rles = list(rles)
    if not rles:
        raise DataError("no run lengths, so no mask size", where="rles", fix="Masks.empty(height, width)")
    height, width = mask_size(*_size(rles[0], 0), DataError)
    for index, rle in enumerate(rles):
        if _size(rle, index) != (height, width):
            raise DataError(
                f"mask {index} has size {list(rle['size'])}, mask 0 has {[height, width]}",
                where=f"rles[{index}]",
                fix="one batch holds masks of one image",
            )
    written = [_written(rle.get("counts")) for rle in rles]
    try:
        counts, offsets = _rust.strings_to_rle(written, height, width)
    except (OverflowError, TypeError, ValueError):
        # Not all are strings, or one is wrong: one by one, which tells which.
        runs = [_runs(counts, index, height, width) for index, counts in enumerate(written)]
        counts, offsets = np.concatenate(runs), np.cumsum([0, *map(len, runs)], dtype=np.int64)
    return height, width, *_rust.rle_canonical(counts, offsets, height, width)


def _size(rle: Mapping[str, Any], index: int) -> tuple[int, int]:
    try:
        height, width = rle["size"]
        return operator.index(height), operator.index(width)
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"mask {index} has no size of two integers",
            where=f"rles[{index}]",
            fix='expected {"size": [height, width], "counts": ...}',
        ) from None


def _written(counts: Any) -> Any:
    """A compressed string as bytes, anything else as it is; what is not ASCII becomes bytes that no string may hold."""
    return counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts


def _runs(counts: Any, index: int, height: int, width: int) -> NDArray[np.uint32]:
    """The checked runs of one mask."""
    try:
        if isinstance(counts, bytes):
            return _rust.strings_to_rle([counts], height, width)[0]
        runs = np.asarray(counts)
        if runs.ndim != 1 or runs.dtype.kind not in "iu" or (len(runs) and not 0 <= runs.min() <= runs.max() < 2**32):
            raise ValueError("counts must be a compressed string or a list of non-negative integers")
        runs = np.ascontiguousarray(runs, np.uint32)
        _rust.check_rle(runs, np.array([0, len(runs)]), height, width)
    except (OverflowError, ValueError) as error:
        raise DataError(f"mask {index}: {str(error).removeprefix('mask 0: ')}", where=f"rles[{index}]") from None
    return runs


def polygon_coords(polygon: ArrayLike, index: int, part: int) -> NDArray[np.float64]:
    """Polygon ``part`` of object ``index`` as x, y, x, y, ..., whatever it came as."""
    name, where = f"object {index}, polygon {part}", f"objects[{index}]"
    try:
        coords = np.asarray(polygon)
    except ValueError:  # rows of several lengths
        coords = np.asarray(None)
    if coords.ndim == 0 and coords.dtype.kind in "iuf":
        raise DataError(
            f"object {index} is a flat list of numbers",
            where=where,
            fix="an object is a list of polygons: [[x0, y0, x1, y1, ...], ...]",
        )
    if coords.dtype.kind not in "iuf":
        raise DataError(f"{name} is not a list of numbers", where=where)
    if coords.ndim != 1 and coords.shape[-1] != 2:
        raise DataError(f"{name} has shape {coords.shape}", where=where, fix="[x0, y0, x1, y1, ...] or (K, 2)")
    return coords.astype(np.float64, copy=False).ravel()


def call_on_polygons(
    kernel: Callable[..., Any], objects: Sequence[Sequence[ArrayLike]], height: int, width: int, rule: str, *out: Any
) -> Any:
    """Call a kernel that rasterises objects.

    Raises:
        DataError: what is not a polygon or not finite, or a mask without pixels; names the object's index.
        ConfigError: an unknown rule.
    """
    choice("rule", rule, ("coco", "pixel-center", "opencv"))
    size = mask_size(height, width, DataError)
    with kernel_errors(DataError, "objects"):
        return kernel(objects, polygon_coords, *size, rule, *out)
