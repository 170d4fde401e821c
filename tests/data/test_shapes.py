from __future__ import annotations

import numpy as np
import pytest

from samfast.data.shapes import MAX_OBJECTS, MIN_AREA, shape_scene


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [shape_scene(5, index, size=(192, 160)) for index in range(40)]


def test_images_and_labels_have_the_promised_types_and_shapes(scenes) -> None:
    for image, labels in scenes:
        assert image.shape == (192, 160, 3)
        assert image.dtype == np.uint8
        assert labels.shape == (192, 160)
        assert labels.dtype == np.int32
    assert shape_scene(0, 0)[0].shape == (256, 256, 3)


def test_a_scene_depends_on_its_seed_and_index_alone() -> None:
    first = shape_scene(3, 8)
    shape_scene(3, 9)
    again = shape_scene(3, 8)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    for other in (shape_scene(3, 9), shape_scene(4, 8)):
        assert not np.array_equal(first[0], other[0])


def test_objects_are_numbered_without_gaps_and_large_enough_to_see(scenes) -> None:
    for _, labels in scenes:
        areas = np.bincount(labels.ravel())[1:]
        assert len(areas) <= MAX_OBJECTS
        assert (areas >= MIN_AREA).all()


def test_objects_vary_in_number_and_size(scenes) -> None:
    counts = [labels.max() for _, labels in scenes]
    assert len(set(counts)) >= 6
    sizes = np.concatenate([np.bincount(labels.ravel())[1:] for _, labels in scenes]) / scenes[0][1].size
    assert np.quantile(sizes, 0.1) < 0.01
    assert np.quantile(sizes, 0.9) > 0.15
    background = np.mean([(labels == 0).mean() for _, labels in scenes])
    assert 0.15 < background < 0.75


def test_objects_differ_from_their_surroundings_in_the_image_and_not_only_on_the_map(scenes) -> None:
    """Colours vary less within objects than over the image; with the map turned around they do not."""

    def explained(image: np.ndarray, labels: np.ndarray) -> float:
        grey = image.astype(float).mean(axis=2)
        counts = np.bincount(labels.ravel())
        means = np.bincount(labels.ravel(), grey.ravel()) / np.maximum(counts, 1)
        return 1 - float(((grey - means[labels]) ** 2).mean() / grey.var())

    right = [explained(*scene) for scene in scenes]
    wrong = [explained(image, labels[::-1, ::-1]) for image, labels in scenes]
    assert np.mean(right) > 0.35
    assert np.mean(wrong) < np.mean(right) - 0.15
