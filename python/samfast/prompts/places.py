"""The places a mask is known by: points without chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast import _rust
from samfast.checks import mask_size, reals, whole
from samfast.errors import DataError
from samfast.masks import Masks
from samfast.masks.runs import call
from samfast.prompts.draws import checked_k, visible


def center_points(masks: Masks, *, ignore: Masks | None = None) -> NDArray[np.float32]:
    """``(N, 2)`` float32 (x, y) pixel indices, original frame: the pixel of each mask deepest inside.

    The pole of inaccessibility: the pixel farthest, centre to centre, from every pixel that is not of the mask, where
    nothing outside of the image is. Of several, the first row by row (RITM's rule).

    >>> center_points(Masks.from_numpy(np.pad(np.ones((3, 5), bool), 1)))
    array([[2., 2.]], dtype=float32)

    Args:
        masks: ``N`` masks.
        ignore: pixels that count as not of the mask: one mask for all, one each, or none.

    Raises:
        DataError: a mask without such pixels, names its index; or a side of more than 2**24 pixels, which float32 does
            not count one by one.
        ConfigError: ``ignore`` of another size or number.
    """
    masks = visible(masks, ignore)
    none = np.zeros((len(masks), 0, 2), np.int32)
    points, squares = call(_rust.rle_deepest, masks, none)
    if not squares.all():
        raise DataError(f"mask {squares.argmin()} is empty: there is no point inside", where="masks")
    return np.asarray(points, np.float32)


def centroid_points(masks: Masks, *, ignore: Masks | None = None) -> NDArray[np.float32]:
    """``(N, 2)`` float32 (x, y) pixel indices, original frame: the pixel of each mask nearest to its centre of mass.

    The centre of mass itself may lie beside a mask; this is the centre of mass moved inside. Of several pixels, the
    topmost, then the leftmost.

    >>> centroid_points(Masks.from_numpy(np.array([[1, 1, 1], [1, 0, 0], [1, 0, 0]], bool)))
    array([[1., 0.]], dtype=float32)

    Args:
        masks: ``N`` masks.
        ignore: pixels that count as not of the mask: one mask for all, one each, or none.

    Raises:
        DataError: a mask without such pixels, names its index; or a side of more than 2**24 pixels, which float32 does
            not count one by one.
        ConfigError: ``ignore`` of another size or number.
    """
    return np.asarray(call(_rust.rle_centroid_inside, visible(masks, ignore)), np.float32)


def farthest_points(masks: Masks, k: int, *, ignore: Masks | None = None) -> NDArray[np.float32]:
    """``(N, k, 2)`` float32 (x, y) pixel indices, original frame: pixels of each mask, far apart.

    The first is that of :func:`center_points`; each that follows is the pixel farthest from the nearest of those before
    it, the first such row by row (greedy k-centre, Gonzalez 1985). So three are the centre and a pair on opposite
    sides of it. A mask of fewer pixels repeats its first one.

    Args:
        masks: ``N`` masks.
        k: points of each mask.
        ignore: pixels that count as not of the mask: one mask for all, one each, or none.

    Raises:
        DataError: a mask without such pixels, names its index; or a side of more than 2**24 pixels, which float32 does
            not count one by one.
        ConfigError: a ``k`` below 0 or of 2**31 points in all, or ``ignore`` of another size or number.
    """
    masks = visible(masks, ignore)
    return np.asarray(call(_rust.rle_farthest, masks, checked_k(k, len(masks))), np.float32)


def point_grid(side: int, *, height: int, width: int) -> NDArray[np.float32]:
    """``(side * side, 2)`` float32 (x, y), original frame: the regular grid of SAM's automatic mask generator.

    Row by row; the outermost points are half a step from the edge. Equal to ``segment_anything``'s
    ``build_point_grid(side) * [width, height]``.

    >>> point_grid(2, height=4, width=8).tolist()
    [[2.0, 1.0], [6.0, 1.0], [2.0, 3.0], [6.0, 3.0]]

    Raises:
        ConfigError: a side, height or width below 1.
    """
    x, y = np.meshgrid(*_grid_axes(side, height, width))
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def snap_to_grid(points: ArrayLike, side: int, *, height: int, width: int) -> NDArray[np.float32]:
    """``(..., 2)`` float32: the point of :func:`point_grid` nearest to each ``(..., 2)`` (x, y), original frame.

    Half way between two it is the right or the lower one.

    >>> snap_to_grid([[3.5, 0.0]], 2, height=4, width=8).tolist()
    [[2.0, 1.0]]

    Raises:
        ConfigError: a side, height or width below 1.
        DataError: what is not points of finite coordinates.
    """
    axes = _grid_axes(side, height, width)
    given = reals("points", points)
    if given.shape[-1:] != (2,) or not np.isfinite(given).all():
        raise DataError(f"points of shape {given.shape} are not all finite (x, y)", where="points")
    cells = np.floor(given * side / np.array([width, height])).clip(0, side - 1).astype(int)
    return np.stack([axis[cells[..., i]] for i, axis in enumerate(axes)], axis=-1).astype(np.float32)


def _grid_axes(side: int, height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    side = whole("side", side, least=1, most=2**15)
    height, width = mask_size(height, width)
    offset = 1 / (2 * side)
    steps = np.linspace(offset, 1 - offset, side)
    return steps * width, steps * height
