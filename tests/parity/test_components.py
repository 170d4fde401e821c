"""Connected components: the pieces scipy finds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from samfast.masks import Masks

STRUCTURE = {4: None, 8: np.ones((3, 3))}


def scipy_pieces(mask: NDArray[np.bool_], connectivity: int) -> list[bytes]:
    labels, count = ndimage.label(mask, STRUCTURE[connectivity])
    return sorted((labels == piece + 1).tobytes() for piece in range(count))


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.6, 0.8, 1.0])
def test_random_masks(connectivity: int, density: float) -> None:
    rng = np.random.default_rng(int(density * 100))
    for size in ((1, 1), (1, 30), (30, 1), (2, 2), (23, 31), (60, 17)):
        masks = rng.random((3, *size)) < density
        pieces, parents = Masks.from_numpy(masks).components(connectivity=connectivity)
        arrays = pieces.numpy()
        assert parents.tolist() == sorted(parents.tolist())
        for index, mask in enumerate(masks):
            own = sorted(piece.tobytes() for piece in arrays[parents == index])
            assert own == scipy_pieces(mask, connectivity)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_a_spiral_is_one_piece(connectivity: int) -> None:
    spiral = np.zeros((41, 41), bool)
    for ring in range(0, 20, 2):
        spiral[ring, ring : 41 - ring] = spiral[41 - ring - 1, ring : 41 - ring] = True
        spiral[ring : 41 - ring, ring] = spiral[ring : 41 - ring, 41 - ring - 1] = True
        spiral[ring + 1, ring] = False
        spiral[ring + 2, ring + 1] = True
    pieces, _ = Masks.from_numpy(spiral).components(connectivity=connectivity)
    assert len(pieces) == ndimage.label(spiral, STRUCTURE[connectivity])[1]


def test_order_is_of_the_first_pixel_down_the_columns() -> None:
    mask = np.zeros((4, 5), bool)
    mask[0, 4] = mask[3, 0] = mask[0, 2] = True
    pieces, parents = Masks.from_numpy(mask).components()
    assert pieces.boxes()[:, 0].tolist() == [0, 2, 4]
    assert parents.tolist() == [0, 0, 0]


def test_the_bottom_of_a_column_does_not_touch_the_top_of_the_next() -> None:
    mask = np.zeros((5, 4), bool)
    mask[4, 1] = mask[0, 2] = True
    assert len(Masks.from_numpy(mask).counts) == 3  # one run
    assert len(Masks.from_numpy(mask).components()[0]) == 2
