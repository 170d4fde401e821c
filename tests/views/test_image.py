"""What an encoder is shown of a view, against Pillow and OpenCV; and what it depends on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from samfast.data.shapes import shape_scene
from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.views import (
    PRESETS,
    Blur,
    Colour,
    Fog,
    Geometry,
    Glare,
    Noise,
    Placement,
    Rain,
    Recipe,
    Step,
    draw_placement,
    view_image,
)

SPEC = PreprocessSpec(96, 12, 48, (120.0, 110.0, 100.0), (50.0, 60.0, 70.0))
DRAW: dict[str, Any] = {"seed": 3, "image_key": "ab" * 32, "view": 2}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return shape_scene(7, 3, size=(80, 120))[0]


def shown(image: np.ndarray, recipe: Recipe, **draw: Any) -> np.ndarray:
    draw = DRAW | draw
    placement = draw_placement(recipe, image.shape[:2], **draw)
    return view_image(image, recipe, placement, SPEC, **draw)


@pytest.mark.parametrize(
    ("matrix", "size", "expected"),
    [
        ([[-1, 0, 120], [0, 1, 0]], (80, 120), lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ([[1, 0, 0], [0, -1, 80]], (80, 120), lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
        ([[0, -1, 80], [1, 0, 0]], (120, 80), lambda image: image.transpose(Image.Transpose.ROTATE_270)),
        ([[-1, 0, 120], [0, -1, 80]], (80, 120), lambda image: image.transpose(Image.Transpose.ROTATE_180)),
        ([[0, 1, 0], [-1, 0, 120]], (120, 80), lambda image: image.transpose(Image.Transpose.ROTATE_90)),
    ],
)
def test_flips_and_quarter_turns_are_pillows(image: np.ndarray, matrix: Any, size: Any, expected: Any) -> None:
    placement = Placement(np.array([*matrix, [0, 0, 1]], float), *size)
    found = view_image(image, Recipe("r"), placement, SPEC, **DRAW)
    np.testing.assert_array_equal(found, SPEC.resize_image(np.asarray(expected(Image.fromarray(image)))))


def test_other_placements_are_opencvs(image: np.ndarray) -> None:
    recipe = Recipe("r", Geometry(0.5, 0.5, True, 40, (0.7, 1.5), 10))
    for view in range(1, 20):
        placement = draw_placement(recipe, image.shape[:2], **DRAW | {"view": view})
        found = view_image(image, recipe, placement, SPEC, **DRAW)
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV's pixel (0, 0) is a point, not a square
        matrix = (np.linalg.inv(half) @ placement.matrix @ half)[:2]
        background = tuple(np.round(SPEC.mean).tolist())
        size = (placement.width, placement.height)
        moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=background)
        expected = SPEC.resize_image(moved)
        difference = np.abs(found.astype(int) - expected)
        inside = cv2.erode((found != np.array(background)).any(-1).astype(np.uint8), np.ones((5, 5))) > 0
        assert difference[inside].mean() < 0.6  # OpenCV interpolates in steps of 1/32
        assert inside.mean() > 0.2


def test_what_lies_off_the_image_is_the_colour_the_model_pads_with(image: np.ndarray) -> None:
    recipe = Recipe("r", Geometry(zoom=(0.5, 0.5)), (Colour(brightness=0.9), Fog(probability=1), Noise(probability=1)))
    placement = Placement(np.array([[0.5, 0, 30], [0, 0.5, 20], [0, 0, 1]]), 80, 120)
    found = view_image(image, recipe, placement, SPEC, **DRAW)
    assert (found[:15] == [120, 110, 100]).all()
    assert (found[:, :23] == [120, 110, 100]).all()
    assert abs(SPEC.preprocess(found)[:, :15]).max() < 1e-6
    assert (found[20:44, 30:66] != [120, 110, 100]).any(-1).mean() > 0.9


@pytest.mark.parametrize("name", PRESETS)
def test_a_view_depends_on_seed_image_and_number_alone(image: np.ndarray, name: str) -> None:
    recipe = PRESETS[name]
    views = [shown(image, recipe, view=view) for view in range(1, 9)]
    assert all(not np.array_equal(views[0], view) for view in views[1:])
    with ThreadPoolExecutor(8) as threads:  # in another order, at once
        again = list(threads.map(lambda view: shown(image, recipe, view=view), range(8, 0, -1)))
    for one, other in zip(views, again[::-1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(shown(image, recipe), shown(image, recipe, seed=4))
    assert not np.array_equal(shown(image, recipe), shown(image, recipe, image_key="cd" * 32))


def test_the_image_is_left_as_it_was(image: np.ndarray) -> None:
    def blacken(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image[:] = 0
        return image

    before = image.copy()
    shown(image, Recipe("r", photometric=(Step("black", 1, blacken),)))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "step",
    [
        Colour(brightness=0.5),
        Colour(contrast=0.5),
        Colour(saturation=0.9),
        Colour(hue=0.3),
        Colour(gamma=1.0),
        Blur(sigma=0.03, probability=1),
        Noise(sigma=30, probability=1),
        Fog(probability=1),
        Rain(probability=1),
        Glare(probability=1),
    ],
    ids=str,
)
def test_every_step_changes_the_image_and_moves_nothing(image: np.ndarray, step: Any) -> None:
    for seed in range(5):
        found = step(image.copy(), np.random.default_rng(seed))
        assert found.shape == image.shape
        assert found.dtype == np.uint8
        assert 0.2 < np.abs(found.astype(float) - image).mean() < 120
        # What was moved would be correlated best with the image at another place.
        grey, other = (np.diff(array.mean(-1), axis=1) for array in (image, found))
        scores = [(grey[:, 4:-4] * np.roll(other, shift, 1)[:, 4:-4]).mean() for shift in range(-3, 4)]
        assert np.argmax(scores) == 3


@pytest.mark.parametrize(
    "step",
    [
        Blur(probability=0),
        Noise(probability=0),
        Fog(probability=0),
        Rain(probability=0),
        Glare(probability=0),
        Colour(),
    ],
    ids=str,
)
def test_a_step_that_is_off_changes_nothing(image: np.ndarray, step: Any) -> None:
    np.testing.assert_array_equal(step(image.copy(), np.random.default_rng(0)), image)


def test_blur_is_a_gaussian(image: np.ndarray) -> None:
    step = Blur(sigma=0.02, probability=1)
    rng = np.random.default_rng(5)
    sigma = 0.02 * np.random.default_rng(5).random(2)[1] * 120
    expected = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs(step(image, rng).astype(int) - expected).max() <= 3


@pytest.mark.parametrize(
    "function",
    [
        lambda image, rng: image[:-1],
        lambda image, rng: image.transpose(1, 0, 2),
        lambda image, rng: image.astype(np.float32),
        lambda image, rng: image[..., 0],
    ],
)
def test_a_step_that_changes_the_shape_is_refused(image: np.ndarray, function: Any) -> None:
    with pytest.raises(ConfigError, match="'crooked'"):
        shown(image, Recipe("r", photometric=(Step("crooked", 1, function),)))
