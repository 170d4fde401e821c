"""Overlays: what is coloured, what is left alone, and what a person can tell from it."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.errors import ConfigError
from samfast.inference.draw import HALO, NEGATIVE_FILL, POSITIVE_FILL, colour, line_width_px, overlay
from samfast.masks import Masks
from samfast.prompts import Prompts, box_prompts, point_prompts


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)


def disc(height: int, width: int, centre: tuple[int, int], radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def test_fill_is_the_stated_blend_and_the_rest_is_untouched() -> None:
    image, mask = noise(60, 90), disc(60, 90, (30, 40), 15)
    before = image.copy()
    drawn = overlay(image, Masks.from_numpy(mask), 0.25, contours=False)
    expected = image.astype(float)
    expected[mask] = 0.75 * expected[mask] + 0.25 * np.array(colour(0))
    np.testing.assert_allclose(drawn, expected, atol=0.51)
    np.testing.assert_array_equal(drawn[~mask], image[~mask])
    np.testing.assert_array_equal(image, before)


def test_contour_lies_on_the_mask_side_of_the_edge() -> None:
    from scipy import ndimage

    image, mask = noise(300, 1000), disc(300, 1000, (150, 500), 90)
    mask[:, 990:] = True
    drawn = overlay(image, Masks.from_numpy(mask), 0.0)
    width = line_width_px(300, 1000)
    assert width == 2
    inner = ndimage.binary_erosion(mask, np.ones((2 * width + 1, 2 * width + 1)), border_value=1)
    changed = (drawn != image).any(axis=2)
    np.testing.assert_array_equal(changed, mask & ~inner & (image != colour(0)).any(axis=2))
    np.testing.assert_array_equal(drawn[mask & ~inner], np.broadcast_to(colour(0), ((mask & ~inner).sum(), 3)))
    assert not changed[:, 995:].any(), "the image's own border is no contour"


def test_small_masks_stay_visible_on_large_ones() -> None:
    small, large = disc(80, 80, (40, 40), 8), disc(80, 80, (40, 40), 30)
    drawn = overlay(np.zeros((80, 80, 3), np.uint8), Masks.from_numpy(np.stack([small, large])), 1.0)
    assert tuple(drawn[40, 40]) == colour(0)
    assert tuple(drawn[40, 60]) == colour(1)


def test_colours_are_far_apart() -> None:
    colours = np.array([colour(index) for index in range(64)], float)
    assert len({tuple(each) for each in colours}) == 64
    first = colours[:10]
    distance = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(10)
    assert distance.min() > 60


def test_prompts_are_told_apart_and_padding_is_not_drawn() -> None:
    image, nothing = np.full((100, 100, 3), 128, np.uint8), Masks.empty(100, 100)
    prompts = Prompts(
        np.zeros(1, np.int64),
        np.array([[[20, 30], [70, 60], [5, 90]]], np.float32),
        np.array([[1, 0, -10]]),
        np.full((1, 4), np.nan, np.float32),
    )
    drawn = overlay(image, nothing, prompts=prompts)
    off_centre = 4
    assert tuple(drawn[30 - off_centre, 20 - off_centre]) == POSITIVE_FILL
    assert tuple(drawn[60 - off_centre, 70 - off_centre]) == NEGATIVE_FILL
    assert tuple(drawn[30, 20]) == tuple(drawn[60, 70]) == (255, 255, 255)
    assert tuple(drawn[27, 20]) == (255, 255, 255), "a plus has a vertical bar"
    assert tuple(drawn[57, 70]) == NEGATIVE_FILL, "a minus has none"
    np.testing.assert_array_equal(drawn[80:, :20], image[80:, :20])


def test_box_is_drawn_where_it_is() -> None:
    image = np.full((200, 200, 3), 255, np.uint8)
    drawn = overlay(image, Masks.empty(200, 200), prompts=box_prompts(np.array([[50, 60, 149, 120], [5, 160, 9, 170]])))
    assert tuple(drawn[60, 100]) == tuple(drawn[90, 50]) == tuple(drawn[120, 100]) == tuple(drawn[90, 149]) == colour(0)
    assert tuple(drawn[165, 5]) == colour(1)
    assert tuple(drawn[59, 100]) == HALO
    np.testing.assert_array_equal(drawn[65:115, 55:145], 255)
    np.testing.assert_array_equal(drawn[:50], 255)
    alone = overlay(image, Masks.empty(200, 200), prompts=box_prompts(np.array([[50, 60, 149, 120]])))
    assert tuple(alone[90, 50]) == (255, 255, 255)
    assert tuple(alone[59, 100]) == HALO


@pytest.mark.parametrize("size", [(219, 330), (3456, 5184)])
def test_lines_scale_with_the_image(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    drawn = overlay(image, Masks.empty(*size), prompts=point_prompts(np.array([[[size[1] / 2, size[0] / 2]]])))
    mark = np.flatnonzero((drawn[size[0] // 2] != 0).any(axis=1))
    assert 0.015 < (mark[-1] - mark[0]) / max(size) < 0.06


def test_bad_arguments_are_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"1\.5"):
        overlay(image, Masks.empty(8, 8), 1.5)
    with pytest.raises(ConfigError, match="9x8"):
        overlay(image, Masks.empty(8, 9))
