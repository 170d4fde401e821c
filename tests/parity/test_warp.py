"""Masks under an affine map, against the definition in numpy, and against what Pillow makes of a mask's picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from samfast.errors import ConfigError
from samfast.masks import Masks

SIDE = st.integers(1, 40) | st.integers(60, 140)  # a kernel may take stretches that are alike in one step


def by_definition(masks: np.ndarray, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """A new pixel is the old pixel in which the place lies that its centre comes from."""
    (a, b, c), (d, e, f), _ = np.linalg.inv(matrix)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    source_x, source_y = np.floor(a * x + b * y + c), np.floor(d * x + e * y + f)
    inside = (source_x >= 0) & (source_x < masks.shape[2]) & (source_y >= 0) & (source_y < masks.shape[1])
    column, row = (np.where(inside, source, 0).astype(int) for source in (source_x, source_y))
    return masks[:, row, column] & inside


def drawn(seed: int, height: int, width: int, density: float) -> tuple[np.ndarray, np.ndarray]:
    """Masks with blocks and specks, one of them empty and one full, and an affine map."""
    rng = np.random.default_rng(seed)
    masks = rng.random((4, height, width)) < density
    masks[0], masks[1] = False, True
    masks[2, height // 3 :, : width // 2] = True
    masks[3, height // 4 :, width // 4 :] = False
    masks[3, height // 2 :, width // 2 :] = True
    matrix = np.eye(3)
    matrix[:2, :2] = rng.normal(size=(2, 2)) if seed % 3 else rng.permutation(np.diag(rng.choice([-1.0, 1, 2], 2)))
    matrix[:2, 2] = rng.uniform(-1, 2, 2) * max(height, width)
    return masks, matrix


@settings(max_examples=300, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 10_000), st.sampled_from([0.02, 0.5, 0.98]))
def test_every_pixel_comes_from_where_the_definition_says(
    height: int, width: int, new_height: int, new_width: int, seed: int, density: float
) -> None:
    masks, matrix = drawn(seed, height, width, density)
    warped = Masks.from_numpy(masks).warp(matrix, new_height, new_width)
    np.testing.assert_array_equal(warped.numpy(), by_definition(masks, matrix, new_height, new_width))
    assert warped == Masks.from_numpy(warped.numpy())  # in canonical form


@pytest.mark.parametrize("seed", range(1, 30, 4))
def test_a_mask_moves_as_pillow_moves_its_picture(seed: int) -> None:
    masks, matrix = drawn(seed, 61, 83, 0.5)
    inverse = tuple(np.linalg.inv(matrix)[:2].ravel().tolist())
    warped = Masks.from_numpy(masks).warp(matrix, 50, 90).numpy()
    for mask, found in zip(masks, warped, strict=True):
        picture = Image.fromarray(mask.astype(np.uint8) * 255)
        moved = picture.transform((90, 50), Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST)
        different = (np.asarray(moved) > 127) != found
        assert different.mean() < 2e-3  # Pillow steps along a row in fixed point


def test_flips_and_quarter_turns_lose_nothing() -> None:
    mask = np.random.default_rng(0).random((2, 17, 9)) < 0.5
    masks = Masks.from_numpy(mask)
    flip = np.array([[-1.0, 0, 9], [0, 1, 0], [0, 0, 1]])
    turn = np.array([[0.0, -1, 17], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(masks.warp(flip, 17, 9).numpy(), mask[:, :, ::-1])
    np.testing.assert_array_equal(masks.warp(turn, 9, 17).numpy(), np.rot90(mask, -1, axes=(1, 2)))
    assert masks.warp(flip, 17, 9).warp(flip, 17, 9) == masks


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 3)),
        np.eye(2),
        np.diag([1.0, 0, 1]),
        np.diag([1.0, np.nan, 1]),
        np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 1]]),
    ],
)
def test_what_is_no_affine_map_with_an_inverse_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ConfigError):
        Masks.from_numpy(np.ones((2, 2), bool)).warp(matrix, 2, 2)


def test_a_size_without_pixels_is_refused() -> None:
    with pytest.raises(ConfigError):
        Masks.from_numpy(np.ones((2, 2), bool)).warp(np.eye(3), 0, 2)
