"""What COCO annotations hold: run lengths and polygons, checked item by item."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.errors import DataError


def rle_size(rle: Mapping[str, Any], index: int) -> tuple[int, int]:
    """(height, width) of one COCO dict."""
    try:
        height, width = map(operator.index, rle["size"])
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"mask {index} has no size of two integers",
            where=f"rles[{index}]",
            fix='expected {"size": [height, width], "counts": ...}',
        ) from None
    return height, width


def rle_runs(rle: Mapping[str, Any], index: int, height: int, width: int) -> NDArray[np.uint32]:
    """The checked runs of one COCO dict."""
    counts = rle.get("counts")
    try:
        if isinstance(counts, str):
            counts = counts.encode("ascii")
        if isinstance(counts, bytes):
            return _rust.strings_to_rle([counts], height, width)[0]
        runs = np.asarray(counts)
        if runs.ndim != 1 or runs.dtype.kind not in "iu" or (len(runs) and not 0 <= runs.min() <= runs.max() < 2**32):
            raise ValueError("counts must be a compressed string or a list of non-negative integers")
        runs = np.ascontiguousarray(runs, np.uint32)
        _rust.check_rle(runs, np.array([0, len(runs)]), height, width)
    except ValueError as error:
        raise DataError(f"mask {index}: {str(error).removeprefix('mask 0: ')}", where=f"rles[{index}]") from None
    return runs


def polygon_coords(polygon: ArrayLike, index: int, part: int) -> NDArray[np.float64]:
    """Polygon ``part`` of object ``index`` as x, y, x, y, ..., whatever it came as."""
    try:
        coords = np.asarray(polygon, np.float64)
    except (OverflowError, TypeError, ValueError):
        raise DataError(f"object {index}, polygon {part} is not a list of numbers", where=f"objects[{index}]") from None
    if coords.ndim == 0:
        raise DataError(
            f"object {index} is a flat list of numbers",
            where=f"objects[{index}]",
            fix="an object is a list of polygons: [[x0, y0, x1, y1, ...], ...]",
        )
    return coords.ravel()
