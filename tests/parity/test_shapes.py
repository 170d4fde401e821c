"""Packed masks, crops, sizes, holes, specks, outlines and label maps beside numpy, scipy, Pillow and pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage

from samfast.errors import ConfigError, DataError
from samfast.masks import Masks, from_labels, polygons_to_numpy, polygons_to_packed, to_labels

CROSS, SQUARE = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


@st.composite
def pixels(draw: st.DrawFn, most: int = 3, side: int = 90) -> NDArray[np.bool_]:
    count, height, width = draw(st.integers(0, most)), draw(st.integers(1, side)), draw(st.integers(1, side))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        kind = draw(st.sampled_from(["noise", "blocks", "rings", "full", "empty"]))
        if kind == "noise":
            mask[:] = rng.random(mask.shape) < rng.random()
        elif kind == "blocks":
            for _ in range(rng.integers(1, 8)):
                y, x = rng.integers(0, height), rng.integers(0, width)
                mask[y : y + rng.integers(1, 30), x : x + rng.integers(1, 30)] ^= True
        elif kind == "rings":
            rows, columns = np.ogrid[:height, :width]
            y, x = rng.uniform(0, height), rng.uniform(0, width)
            mask[:] = np.hypot(rows - y, columns - x) % rng.uniform(2, 20) < rng.uniform(1, 10)
        else:
            mask[:] = kind == "full"
    return masks


@settings(max_examples=150, deadline=None)
@given(pixels())
def test_packed(masks: NDArray[np.bool_]) -> None:
    count, height, width = masks.shape
    ours = Masks.from_numpy(masks)
    words = ours.packed()
    assert words.shape == (count, height, -(-width // 64))
    padded = np.zeros((count, height, words.shape[2] * 64), bool)
    padded[..., :width] = masks
    assert np.array_equal(words.view(np.uint8), np.packbits(padded, axis=2, bitorder="little"))
    assert Masks.from_packed(words, width) == ours
    out = np.full(masks.shape, 7, np.uint8)
    assert count == 0 or np.shares_memory(ours.numpy(out=out), out)
    assert np.array_equal(out, masks)


@settings(max_examples=100, deadline=None)
@given(pixels(), st.data())
def test_crop(masks: NDArray[np.bool_], data: st.DataObject) -> None:
    _, height, width = masks.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    expected = masks[:, top : top + h, left : left + w]
    assert Masks.from_numpy(masks).crop(top, left, h, w) == Masks.from_numpy(expected)


@settings(max_examples=100, deadline=None)
@given(pixels(), st.integers(1, 150), st.integers(1, 150))
def test_resize(masks: NDArray[np.bool_], height: int, width: int) -> None:
    rows = (2 * np.arange(height) + 1) * masks.shape[1] // (2 * height)
    columns = (2 * np.arange(width) + 1) * masks.shape[2] // (2 * width)
    resized = Masks.from_numpy(masks).resize(height, width)
    assert resized == Masks.from_numpy(masks[:, rows][:, :, columns])


def test_resize_as_pillow_does_where_it_does_not_round() -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((48, 80)) < 0.5
    for height, width in ((96, 160), (24, 40), (480, 640), (6, 5), (3, 320)):
        pillow = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        assert np.array_equal(Masks.from_numpy(mask).resize(height, width).numpy()[0], pillow)


@settings(max_examples=100, deadline=None)
@given(pixels(), st.integers(0, 40))
def test_fill_holes(masks: NDArray[np.bool_], max_area: int) -> None:
    ours = Masks.from_numpy(masks)
    filled = [ndimage.binary_fill_holes(mask) for mask in masks]
    assert np.array_equal(ours.fill_holes().numpy(), np.array(filled, bool).reshape(masks.shape))
    small = ours.fill_holes(max_area=max_area, connectivity=8, at_border=True)
    expected = [mask | dropped_pieces(~mask, SQUARE, max_area + 1) for mask in masks]
    assert np.array_equal(small.numpy(), np.array(expected, bool).reshape(masks.shape))


def dropped_pieces(mask: NDArray[np.bool_], structure: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    labels, _ = ndimage.label(mask, structure)
    return mask & (np.bincount(labels.ravel())[labels] < min_area)


@settings(max_examples=100, deadline=None)
@given(pixels(), st.integers(0, 60), st.sampled_from([4, 8]))
def test_remove_small(masks: NDArray[np.bool_], min_area: int, connectivity: int) -> None:
    structure = SQUARE if connectivity == 8 else CROSS
    ours = Masks.from_numpy(masks)
    expected = [mask & ~dropped_pieces(mask, structure, min_area) for mask in masks]
    kept = ours.remove_small(min_area, connectivity=connectivity)  # type: ignore[arg-type]
    assert np.array_equal(kept.numpy(), np.array(expected, bool).reshape(masks.shape))
    largest = ours.remove_small(min_area, connectivity=connectivity, keep_largest=True).numpy()  # type: ignore[arg-type]
    for mask, expected_mask, found in zip(masks, expected, largest, strict=True):
        if expected_mask.any() or not mask.any():
            assert np.array_equal(found, expected_mask)
            continue
        labels, count = ndimage.label(mask, structure)
        sizes = np.bincount(labels.ravel())[1:]
        assert ndimage.label(found, structure)[1] == 1
        assert found.sum() == sizes.max()
        assert (mask | ~found).all()
        assert count == len(sizes)


@settings(max_examples=150, deadline=None)
@given(pixels(), st.sampled_from([4, 8]))
def test_outlines_rasterise_to_the_mask(masks: NDArray[np.bool_], connectivity: int) -> None:
    _, height, width = masks.shape
    ours = Masks.from_numpy(masks)
    outlines = ours.polygons(connectivity=connectivity)  # type: ignore[arg-type]
    assert [len(polygons) for polygons in outlines] == [
        ndimage.label(mask, SQUARE if connectivity == 8 else CROSS)[1] for mask in masks
    ]
    for mask, polygons in zip(masks, outlines, strict=True):
        for rule in ("coco", "pixel-center"):
            if polygons:
                assert np.array_equal(polygons_to_numpy([polygons], height, width, rule=rule)[0], mask)  # type: ignore[arg-type]
        if polygons:
            flat = [polygon.ravel().astype(float).tolist() for polygon in polygons]
            assert np.array_equal(coco.decode(coco.merge(coco.frPyObjects(flat, height, width))), mask)
            # Sides are upright or level, except on the way to a hole.
            steps = np.abs(np.diff(np.concatenate([polygons[0], polygons[0][:1]]), axis=0))
            assert ((steps == 0).sum(axis=1) >= 1).all() or len(polygons[0]) > 8
    dropped = ours.polygons(holes="drop", connectivity=connectivity)  # type: ignore[arg-type]
    other = CROSS if connectivity == 8 else SQUARE
    for mask, polygons in zip(masks, dropped, strict=True):
        if polygons:
            filled = ndimage.binary_fill_holes(mask, other)
            assert np.array_equal(polygons_to_numpy([polygons], height, width)[0], filled)


@settings(max_examples=100, deadline=None)
@given(pixels())
def test_polygons_to_pixels(masks: NDArray[np.bool_]) -> None:
    _, height, width = masks.shape
    objects = [polygons for polygons in Masks.from_numpy(masks).polygons() if polygons]
    expected = Masks.from_polygons(objects, height, width)
    assert np.array_equal(polygons_to_packed(objects, height, width), expected.packed())
    out = np.ones((len(objects), height, width), bool)
    assert polygons_to_numpy(objects, height, width, out=out) is not None
    assert np.array_equal(out, expected.numpy())


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32), st.integers(1, 12))
def test_labels_there_and_back(height: int, width: int, seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-3, 9, (-(-height // block), -(-width // block)))
    labels = np.kron(coarse, np.ones((block, block), int))[:height, :width]
    for background in (0, 5, 99):
        masks, values = from_labels(labels, background=background)
        assert values.tolist() == sorted(set(labels.ravel().tolist()) - {background})
        assert np.array_equal(masks.numpy(), np.array([labels == v for v in values], bool).reshape(-1, height, width))
        assert np.array_equal(to_labels(masks, values, background=background), labels)


def test_later_masks_lie_over_earlier_ones() -> None:
    masks = np.zeros((3, 4, 5), bool)
    masks[0, :, :3] = masks[1, 1:3] = masks[2, 2, 2] = True
    expected = np.where(masks[2], 3, np.where(masks[1], 2, np.where(masks[0], 1, 0)))
    assert np.array_equal(to_labels(Masks.from_numpy(masks)), expected)


def test_what_does_not_fit_is_refused() -> None:
    masks = Masks.from_numpy(np.ones((2, 5, 70), bool))
    for window in ((0, 0, 6, 1), (-1, 0, 2, 2), (4, 69, 2, 1), (0, 0, 0, 1), (2**70, 0, 1, 1)):
        with pytest.raises(ConfigError):
            masks.crop(*window)
    for size in ((0, 5), (-1, 5), (2**20, 2**20)):
        with pytest.raises(ConfigError):
            masks.resize(*size)
    for bad in ({"connectivity": 6}, {"max_area": -1}, {"max_area": 2**70}):
        with pytest.raises(ConfigError):
            masks.fill_holes(**bad)
    with pytest.raises(ConfigError):
        masks.remove_small(-1)
    with pytest.raises(ConfigError, match="bridge"):
        masks.polygons(holes="keep")  # type: ignore[arg-type]
    words = masks.packed()
    words[1, 3, 1] |= np.uint64(1 << 6)
    with pytest.raises(DataError, match="mask 1, row 3"):
        Masks.from_packed(words, 70)
    for bad_words in (words.astype(np.int64), words[0], words[..., :1]):
        with pytest.raises(DataError):
            Masks.from_packed(bad_words, 70)
    frozen = np.zeros((2, 5, 70), bool)
    frozen.flags.writeable = False
    for out in (frozen, np.zeros((2, 5, 71), bool), np.zeros((2, 5, 70), np.int8), np.zeros((70, 5, 2), bool).T):
        with pytest.raises(ConfigError):
            masks.numpy(out=out)
    for labels in (np.zeros((2, 2)), np.zeros(3, int), np.full((2, 2), 2**40), np.zeros((0, 4), int)):
        with pytest.raises(DataError):
            from_labels(labels)
    for values in ([1], [1, 2, 3], [1.5, 2], [2**40, 1]):
        with pytest.raises(ConfigError):
            to_labels(masks, values)
