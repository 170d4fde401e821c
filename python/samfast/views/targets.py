"""What is annotated on an image, in the frame of one of its views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Target
from samfast.masks import Masks
from samfast.views.geometry import Matrix, Placement

LEAST_LEFT = 0.25
"""The fraction of its area that must be left of an object for it to count as being there."""


def view_target(target: Target, placement: Placement) -> Target:
    """The target of a view: every mask under the same map as the image.

    Objects of which less than a quarter of the area lies in the view are left out. What lies off the image is ignored,
    and so is what was ignored.

    Args:
        target: original frame.
        placement: of the view.

    Returns:
        view frame.
    """
    masks = target.masks.warp(placement.matrix, *placement.size)
    (a, b, _), (d, e, _), _ = placement.matrix
    whole = target.masks.area() * abs(a * e - b * d)
    kept = np.flatnonzero((masks.area() > 0) & (masks.area() >= LEAST_LEFT * whole))
    size = (target.masks.height, target.masks.width)
    image = _full(*size).warp(placement.matrix, *placement.size)
    outside = _full(*placement.size).subtract(image)
    ignore = Masks.concatenate([target.ignore.warp(placement.matrix, *placement.size), outside]).union()
    return replace(target, masks=masks, ignore=ignore).select(kept)


def covered(size: tuple[int, int], matrix: Matrix, frame: tuple[int, int]) -> NDArray[np.bool_]:
    """``(h, w)`` bool: the pixels of a frame of that (height, width) where ``matrix`` puts an image of ``size``."""
    image: NDArray[np.bool_] = _full(*size).warp(matrix, *frame).numpy()[0]
    return image


def _full(height: int, width: int) -> Masks:
    """One mask: every pixel."""
    return Masks(height, width, np.array([0, height * width], np.uint32), np.array([0, 2], np.int64))
