"""Pairwise IoU: bit for bit what pycocotools makes of the same masks, crowds included."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from samfast import _rust
from samfast.errors import ConfigError
from samfast.masks import Masks
from samfast.metrics import pairwise_iou


def reference(a: Masks, b: Masks, crowd: list[bool]) -> NDArray[np.float64]:
    return np.asarray(coco.iou(a.rle(), b.rle(), crowd)).reshape(len(a), len(b))


def blobs(count: int, height: int, width: int, seed: int) -> Masks:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    found = []
    for _ in range(count):
        cy, cx = rng.uniform(0, [height, width])
        radius = rng.uniform(1, max(height, width) / 3)
        angle = np.arctan2(y - cy, x - cx)
        found.append(np.hypot(y - cy, x - cx) < radius * (1 + 0.4 * np.sin(rng.integers(1, 9) * angle)))
    return Masks.from_numpy(np.stack(found))


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (1, 50), (50, 1), (301, 257)])
def test_blobs(size: tuple[int, int]) -> None:
    a, b = blobs(9, *size, seed=0), blobs(7, *size, seed=1)
    crowd = [bool(i % 2) for i in range(7)]
    expected = reference(a, b, crowd)
    found = pairwise_iou(a, b, crowd=crowd)
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)
    assert not np.array_equal(pairwise_iou(a, b), expected), "crowds make a difference"
    assert np.array_equal(pairwise_iou(a, b), reference(a, b, [False] * 7))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_masks(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    densities = st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 1.0])
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))

    def some() -> Masks:
        chances = data.draw(st.lists(densities, min_size=1, max_size=4))
        masks = np.stack([rng.random((height, width)) < chance for chance in chances])
        if data.draw(st.booleans()):
            masks = np.repeat(np.repeat(masks, 5, axis=1), 3, axis=2)[:, :height, :width]
        return Masks.from_numpy(masks)

    a, b = some(), some()
    crowd = data.draw(st.lists(st.booleans(), min_size=len(b), max_size=len(b)))
    assert np.array_equal(pairwise_iou(a, b, crowd=crowd), reference(a, b, crowd))


@pytest.mark.parametrize(("height", "width"), [(70_000, 3), (65_536, 2), (65_535, 4), (32_768, 5), (3, 70_000)])
def test_tall_and_wide(height: int, width: int) -> None:
    a, b = (Masks.from_numpy(np.random.default_rng(i).random((2, height, width)) < 0.001 * 9**i) for i in range(2))
    full = Masks.from_numpy(np.ones((1, height, width), bool))
    a, b = Masks.concatenate([a, full]), Masks.concatenate([b, full])
    assert np.array_equal(pairwise_iou(a, b), reference(a, b, [False] * 3))


def test_more_columns_than_memory_for_them() -> None:
    pixels = 2**32 - 1
    runs = [[0, pixels], [7, pixels - 7], [0, 1, pixels - 2, 1], [pixels]]
    offsets = np.cumsum([0, *map(len, runs)])
    masks = Masks(1, pixels, np.concatenate(runs).astype(np.uint32), offsets)
    share = (pixels - 7) / pixels
    expected = [
        [1, share, 2 / pixels, 0],
        [share, 1, 1 / (pixels - 6), 0],
        [2 / pixels, 1 / (pixels - 6), 1, 0],
        [0] * 4,
    ]
    assert pairwise_iou(masks, masks).tolist() == expected


def test_torn_and_distant_stretches() -> None:
    # Two columns of many stretches, far apart, and one row through all columns: no layout by columns is small.
    mask = np.zeros((400, 900), bool)
    mask[::2, [0, -1]] = True
    other = mask.copy()
    mask[11] = True
    other[:, 450:] ^= True
    a, b = Masks.from_numpy(mask), Masks.from_numpy(np.stack([other, mask]))
    assert np.array_equal(pairwise_iou(a, b), reference(a, b, [False, False]))


def test_empty_runs_do_not_end_a_mask() -> None:
    # pycocotools stops where both masks have an empty run at once, and misses what follows: pixel 2 of the first.
    two, one = ([1, 1, 0, 1, 3], [1, 1, 0, 0, 4])
    masks = [Masks(2, 3, np.array(runs, np.uint32), np.array([0, len(runs)])) for runs in (two, one)]
    strings = [_rust.rle_to_strings(own.counts, own.offsets)[0] for own in masks]
    theirs = coco.iou(*([{"size": [2, 3], "counts": text}] for text in strings), [False])
    assert theirs.tolist() == [[1.0]]
    assert pairwise_iou(*masks).tolist() == [[0.5]]
    assert pairwise_iou(*(Masks.from_rle(own.rle()) for own in masks)).tolist() == [[0.5]]


def test_disjoint_empty_and_none() -> None:
    masks = np.zeros((3, 4, 6), bool)
    masks[0, 0, 0] = masks[1, 3, 5] = True
    some, none = Masks.from_numpy(masks), Masks.empty(4, 6)
    assert pairwise_iou(some, some).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    for a, b in ((some, none), (none, some), (none, none)):
        assert pairwise_iou(a, b).shape == (len(a), len(b))


def test_the_same_on_any_number_of_threads() -> None:
    # Large enough to be shared out; one row at a time is not.
    a = blobs(60, 120, 160, seed=2)
    together = pairwise_iou(a, a)
    assert np.array_equal(together, np.concatenate([pairwise_iou(a[i], a) for i in range(len(a))]))
    assert np.array_equal(together, together.T)


def test_what_does_not_fit() -> None:
    a = blobs(3, 20, 30, seed=3)
    with pytest.raises(ConfigError, match="target has masks of 30 x 20"):
        pairwise_iou(a, blobs(3, 30, 20, seed=3))
    for crowd in ([True], [[True, False, False]], np.array([0.5, 0, 0]), ["a", "b", "c"]):
        with pytest.raises(ConfigError, match="crowd is"):
            pairwise_iou(a, a, crowd=crowd)
    assert np.array_equal(pairwise_iou(a, a, crowd=[0, 2, 0]), pairwise_iou(a, a, crowd=[False, True, False]))
    with pytest.raises(ValueError, match="crowd has 2 items, expected 3"):
        _rust.rle_pairwise_iou(a.counts, a.offsets, a.counts, a.offsets, np.zeros(2, np.uint8), 20, 30)


def annotated(path: Path) -> list[tuple[Masks, list[bool]]]:
    """The objects of every image of a COCO file that has several, and which of them are crowds."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or "annotations" not in content:
        return []
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    by_image: dict[int, list[tuple[Masks, bool]]] = {}
    for annotation in content["annotations"]:
        shape, size = annotation.get("segmentation"), sizes[annotation["image_id"]]
        if isinstance(shape, dict):
            masks = Masks.from_rle([shape])
        elif shape and all(len(polygon) >= 6 for polygon in shape):
            masks = Masks.from_polygons([shape], *size)
        else:
            continue
        by_image.setdefault(annotation["image_id"], []).append((masks, bool(annotation.get("iscrowd"))))
    several = [objects for objects in by_image.values() if len(objects) > 1]
    return [(Masks.concatenate([m for m, _ in objects]), [c for _, c in objects]) for objects in several]


@pytest.mark.real
def test_real_annotations(real_data: Path) -> None:
    checked = crowds = 0
    for path in sorted(real_data.rglob("*.json")):
        for masks, crowd in annotated(path)[:40]:
            assert np.array_equal(pairwise_iou(masks, masks, crowd=crowd), reference(masks, masks, crowd))
            checked += len(masks) ** 2
            crowds += sum(crowd)
    assert checked > 5000
    assert crowds > 0


def test_rows_of_the_layout_meet_at_column_ends() -> None:
    # A run through the end of a column covers the bottom of one and the top of the next.
    masks = []
    for start, end in pairwise([0, 3, 9, 14, 21, 24]):
        flat = np.zeros(24, bool)
        flat[start:end] = True
        masks.append(flat.reshape(6, 4).T)
    some = Masks.from_numpy(np.stack([*masks, np.logical_or.reduce(masks[1:3])]))
    assert np.array_equal(pairwise_iou(some, some), reference(some, some, [False] * len(some)))
