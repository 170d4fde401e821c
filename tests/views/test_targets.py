"""What is annotated on a view: masks where the image is, whole objects, and nothing learned off the image."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.data.shapes import shape_scene
from samfast.data.types import Target
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, from_labels
from samfast.prompts import draw_keys, sample_points
from samfast.train.targets import soft_targets, visible
from samfast.views import Geometry, Placement, Recipe, draw_placement, view_image, view_target

SPEC = PreprocessSpec(96, 12, 48, (120.0, 110.0, 100.0), (50.0, 60.0, 70.0))
WILD = Recipe("wild", Geometry(0.5, 0.5, True, 40, (0.6, 2.0), 15))


def target_of(masks: Masks, ignore: np.ndarray | None = None) -> Target:
    ignored = np.zeros((1, masks.height, masks.width), bool) if ignore is None else ignore
    ids = tuple(f"object {number}" for number in range(len(masks)))
    return Target(masks, np.arange(len(masks)), ids, Masks.from_numpy(ignored), "instance")


def painted(seed: int) -> tuple[np.ndarray, Masks]:
    """A picture whose colours say which mask each pixel belongs to."""
    _, labels = shape_scene(seed, 0, size=(90, 130))
    masks, values = from_labels(labels)
    colours = np.random.default_rng(seed).integers(0, 256, (len(values), 3))
    colours = np.where(np.abs(colours - SPEC.mean).min(-1, keepdims=True) < 40, 250 - colours, colours)
    image = np.full((90, 130, 3), 30, np.uint8)
    for value, colour in zip(values, colours, strict=True):
        image[labels == value] = np.clip(colour, 60, 255)
    return image, masks


def alignment(image: np.ndarray, target: Target, placement: Placement, first: Masks) -> float:
    """How much of what the masks hold in the model frame has the colour that it has in the image."""
    shown = view_image(image, WILD, placement, SPEC, seed=0, image_key="", view=1).astype(int)
    agreed = total = 0
    for number, name in enumerate(target.ids):
        original = first[int(name.split()[1])].numpy()[0]
        colour = image[original][0].astype(int)
        soft = target.masks[number].numpy()[0].astype(np.uint8) * 255
        inside = SPEC.resize_image(np.repeat(soft[..., None], 3, -1))[..., 0] > 250
        agreed += (np.abs(shown[inside] - colour).max(-1) < 40).sum()
        total += inside.sum()
    return agreed / max(total, 1)


def test_image_and_masks_stay_aligned_and_a_wrong_matrix_does_not() -> None:
    right, wrong = [], []
    for view in range(1, 25):
        image, masks = painted(view)
        placement = draw_placement(WILD, image.shape[:2], seed=0, image_key="", view=view)
        target = view_target(target_of(masks), placement)
        if len(target.masks) == 0:
            continue
        right.append(alignment(image, target, placement, masks))
        flip = np.array([[-1.0, 0, placement.width], [0, 1, 0], [0, 0, 1]])
        mirrored = Placement(flip @ placement.matrix, *placement.size)
        shifted = Placement(np.array([[1.0, 0, 6], [0, 1, 6], [0, 0, 1]]) @ placement.matrix, *placement.size)
        wrong += [alignment(image, target, other, masks) for other in (mirrored, shifted)]
    assert len(right) > 15
    assert min(right) > 0.99
    assert np.mean(wrong) < 0.9
    assert np.mean(np.array(wrong) < 0.97) > 0.9


def test_boxes_and_points_are_those_of_the_moved_masks() -> None:
    _, masks = painted(3)
    placement = draw_placement(WILD, (90, 130), seed=0, image_key="", view=4)
    target = view_target(target_of(masks), placement)
    assert len(target.masks)
    for mask, box in zip(target.masks.numpy(), target.masks.boxes(), strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    keys = draw_keys(0, "image", target.ids)
    inverse = np.linalg.inv(placement.matrix)
    for name, (x, y) in zip(target.ids, sample_points(target.masks, keys)[:, 0], strict=True):
        source = inverse @ [x + 0.5, y + 0.5, 1]
        assert masks[int(name.split()[1])].numpy()[0, int(source[1]), int(source[0])]


@pytest.mark.parametrize(("shift", "is_kept"), [(0, True), (14, True), (15, True), (16, False), (20, False)])
@pytest.mark.parametrize("zoom", [1.0, 2.0, 3.0])
def test_objects_with_less_than_a_quarter_left_are_dropped(shift: int, zoom: float, is_kept: bool) -> None:
    mask = np.zeros((2, 40, 40), bool)
    mask[0, 10:30, 0:20] = True
    mask[1, 15:25, 20:25] = True  # beside the first, and never moved out
    matrix = np.array([[zoom, 0, -shift * zoom], [0, zoom, 0], [0, 0, 1]])
    target = view_target(target_of(Masks.from_numpy(mask)), Placement(matrix, int(40 * zoom), int(40 * zoom)))
    assert ("object 0" in target.ids) == is_kept
    assert target.classes.tolist() == [int(name.split()[1]) for name in target.ids]


def test_ignored_regions_follow_and_what_is_off_the_image_is_ignored() -> None:
    mask, ignore = np.zeros((1, 40, 60), bool), np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 10:50] = True
    ignore[0, :, 30:36] = True
    for view in range(1, 12):
        placement = draw_placement(WILD, (40, 60), seed=1, image_key="", view=view)
        target = view_target(target_of(Masks.from_numpy(mask), ignore), placement)
        inverse = np.linalg.inv(placement.matrix)
        x, y = np.meshgrid(np.arange(placement.width) + 0.5, np.arange(placement.height) + 0.5)
        source = np.floor(inverse[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])).astype(int)
        inside = (source[0] >= 0) & (source[0] < 60) & (source[1] >= 0) & (source[1] < 40)
        expected = np.ones(x.size, bool)
        expected[inside] = ignore[0, source[1][inside], source[0][inside]]
        np.testing.assert_array_equal(target.ignore.numpy()[0], expected.reshape(placement.size))

        frame = SPEC.frame(*placement.size)
        shown = visible(target)
        soft, weight = soft_targets(shown.masks, shown.ignore, frame)
        ignored = target.ignore.rasterize(frame)[0]
        assert weight[ignored > 1 - 1e-6].max(initial=0) < 1e-5
        np.testing.assert_allclose(weight, frame.coverage() * (1 - ignored), atol=1e-6)
        assert soft[:, weight < 1e-7].max(initial=0) == 0
