"""Boundary IoU: what boundary-iou-api defines, with scipy's and OpenCV's erosion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.metrics import boundaries, boundary_iou, boundary_width, pairwise_boundary_iou, pairwise_iou


def edge(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    inner = np.asarray(ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance))
    return mask & ~inner


def scenes(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.bool_]:
    """Blobs with holes, some of them reaching over the edge of the image."""
    y, x = np.mgrid[:height, :width]
    found = rng.random((count, height, width)) < rng.choice([0, 0.01], (count, 1, 1))
    for index in range(count):
        for _ in range(rng.integers(0, 4)):
            cy, cx, radius = *rng.uniform(0, [height, width]), rng.uniform(1, max(height, width))
            found[index] ^= np.hypot(y - cy, x - cx) < radius / 2
    return found


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 90), st.integers(1, 150), st.integers(1, 70))
def test_edges(seed: int, height: int, width: int, distance: int) -> None:
    masks = scenes(np.random.default_rng(seed), 2, height, width)
    ours = Masks.from_numpy(masks)
    found = Masks(height, width, *_rust.boundaries((ours.counts, ours.offsets), height, width, distance)).numpy()
    for mask, own in zip(masks, found, strict=True):
        assert np.array_equal(own, edge(mask, distance))


def test_edges_as_opencv_draws_them() -> None:
    cv2 = pytest.importorskip("cv2")
    mask = scenes(np.random.default_rng(1), 1, 480, 640)[0]
    distance = boundary_width(480, 640)
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    assert np.array_equal(boundaries(Masks.from_numpy(mask)).numpy()[0], mask & (inner == 0))


@pytest.mark.parametrize("size", [(480, 640), (45, 60), (64, 64), (1, 1), (100, 1), (37, 1000), (750, 1000)])
@pytest.mark.parametrize("ratio", [0.02, 0.005, 0.1])
def test_width_is_the_references(size: tuple[int, int], ratio: float) -> None:
    height, width = size
    diagonal = np.sqrt(height**2 + width**2)
    assert boundary_width(height, width, dilation_ratio=ratio) == max(1, int(round(ratio * diagonal)))  # noqa: RUF046


def test_width_rounds_half_to_even() -> None:
    # A diagonal of 75 pixels: 1.5 becomes 2; one of 125: 2.5 becomes 2 as well.
    assert boundary_width(45, 60) == 2
    assert boundary_width(75, 100) == 2


@pytest.mark.parametrize("seed", range(6))
def test_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 300, 2))
    a, b = scenes(rng, 5, height, width), scenes(rng, 5, height, width)
    b[0], a[1], b[1] = a[0], False, False
    for ratio in (0.02, 0.1, 2.0):
        distance = boundary_width(height, width, dilation_ratio=ratio)
        edges = [(edge(p, distance), edge(t, distance)) for p, t in zip(a, b, strict=True)]
        expected = [(p & t).sum() / (p | t).sum() if (p | t).any() else math.nan for p, t in edges]
        assert np.array_equal(boundary_iou(a, b, dilation_ratio=ratio), expected, equal_nan=True)
        other = boundary_iou(Masks.from_numpy(a), b.astype(np.float32) - 0.5, dilation_ratio=ratio)
        assert np.array_equal(other, expected, equal_nan=True)
    assert boundary_iou(a, b, empty=1.0)[1] == 1


def test_a_small_shift_shows_at_the_edge_alone() -> None:
    disc = np.hypot(*np.mgrid[-200:200, -200:200]) < 150
    shifted = np.roll(disc, 6, axis=1)
    iou = pairwise_iou(Masks.from_numpy(disc), Masks.from_numpy(shifted)).item()
    assert boundary_iou(disc, shifted).item() < iou - 0.3


def test_pairs_take_the_smaller_and_crowds_the_mask_alone() -> None:
    rng = np.random.default_rng(9)
    a, b = (Masks.from_numpy(scenes(rng, n, 90, 70)) for n in (4, 3))
    crowd = [False, True, False]
    found = pairwise_boundary_iou(a, b, crowd=crowd)
    of_masks, of_edges = pairwise_iou(a, b, crowd=crowd), pairwise_iou(boundaries(a), boundaries(b))
    assert np.array_equal(found[:, 1], of_masks[:, 1])
    assert np.array_equal(found[:, ::2], np.minimum(of_masks, of_edges)[:, ::2])
    assert (found < of_masks).any()


def test_what_does_not_fit() -> None:
    mask = np.ones((1, 8, 8), bool)
    for ratio in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="dilation_ratio"):
            boundary_iou(mask, mask, dilation_ratio=ratio)
    with pytest.raises(ConfigError, match="target has"):
        boundary_iou(mask, np.ones((1, 8, 9), bool))
    with pytest.raises(DataError, match="mask 0: a logit is NaN"):
        boundary_iou(np.full((1, 8, 8), np.nan, np.float32), mask)
    with pytest.raises(ValueError, match="distance is 0"):
        _rust.boundaries(mask, 8, 8, 0)
