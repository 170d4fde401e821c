"""Places of masks, against definitions spelled out in numpy, scipy and fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.prompts import (
    center_points,
    centroid_points,
    farthest_points,
    jitter_boxes,
    negative_points,
    point_grid,
    sample_points,
    snap_to_grid,
)

Mask = NDArray[np.bool_]


@st.composite
def some_masks(draw: st.DrawFn) -> Mask:
    """``(N, H, W)``: noise or blobs, none empty; some touch the border, some fill the image."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    noise = rng.standard_normal((draw(st.integers(1, 3)), height, width))
    field = ndimage.gaussian_filter(noise, (0, *[draw(st.sampled_from([0, 1, 5]))] * 2))
    masks = field > np.quantile(field, draw(st.sampled_from([0.0, 0.2, 0.6, 0.95])))
    masks[:, rng.integers(height), rng.integers(width)] = True
    return masks


def deepest(mask: Mask) -> tuple[list[int], float]:
    """RITM's rule: pad by one, exact distances, the first largest row by row."""
    distances = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(distances.argmax(), mask.shape)
    return [int(x), int(y)], distances[y, x]


def farthest(mask: Mask, k: int) -> list[list[int]]:
    y, x = mask.nonzero()
    points = [deepest(mask)[0]]
    while len(points) < k:
        nearest = np.min([(x - u) ** 2 + (y - v) ** 2 for u, v in points], axis=0)
        best = nearest.argmax()
        points.append([int(x[best]), int(y[best])])
    return points


def nearest_to_centroid(mask: Mask) -> list[int]:
    y, x = (places.tolist() for places in mask.nonzero())
    u, v = Fraction(sum(x), len(x)), Fraction(sum(y), len(y))
    best = min(zip(y, x, strict=True), key=lambda place: ((place[1] - u) ** 2 + (place[0] - v) ** 2, place))
    return [best[1], best[0]]


@settings(max_examples=150, deadline=None)
@given(some_masks())
def test_center(masks: Mask) -> None:
    ours = Masks.from_numpy(masks)
    assert center_points(ours).tolist() == [deepest(mask)[0] for mask in masks]
    none = np.zeros((len(masks), 0, 2), np.int32)
    squares = _rust.rle_deepest(ours.counts, ours.offsets, ours.height, ours.width, none)[1]
    assert np.sqrt(squares).tolist() == [deepest(mask)[1] for mask in masks]


@settings(max_examples=100, deadline=None)
@given(some_masks())
def test_centroid(masks: Mask) -> None:
    assert centroid_points(Masks.from_numpy(masks)).tolist() == [nearest_to_centroid(mask) for mask in masks]


@settings(max_examples=100, deadline=None)
@given(some_masks(), st.integers(0, 9))
def test_farthest(masks: Mask, k: int) -> None:
    ours = farthest_points(Masks.from_numpy(masks), k)
    assert ours.tolist() == [farthest(mask, k)[:k] for mask in masks]


def test_large_masks() -> None:
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.standard_normal((3, 500, 700)), (0, 25, 25))
    y, x = np.mgrid[:500, :700]
    masks = np.concatenate([field > 0, [(y - 250) ** 2 + (x - 300) ** 2 < 230**2, (y > 3) & (x < 690)]])
    ours = Masks.from_numpy(masks)
    assert center_points(ours).tolist() == [deepest(mask)[0] for mask in masks]
    assert centroid_points(ours).tolist() == [nearest_to_centroid(mask) for mask in masks]
    assert farthest_points(ours, 6).tolist() == [farthest(mask, 6) for mask in masks]


def test_three_farthest_are_the_centre_and_opposite_ends() -> None:
    y, x = np.mgrid[:41, :121]
    ellipse = ((y - 20) / 12) ** 2 + ((x - 60) / 50) ** 2 <= 1
    centre, one, other = farthest_points(Masks.from_numpy(ellipse), 3)[0].tolist()
    assert centre == [60.0, 20.0]
    assert sorted([one, other]) == [[10.0, 20.0], [110.0, 20.0]]


def test_a_ring_has_no_centre_of_mass_inside() -> None:
    y, x = np.mgrid[:61, :61]
    ring = np.hypot(y - 30, x - 30).round() == 20
    (u, v) = centroid_points(Masks.from_numpy(ring))[0].astype(int)
    assert ring[v, u]
    assert ring[30, 30] == 0
    # All of the ring is about as near; the topmost of the nearest wins.
    assert (u - 30) ** 2 + (v - 30) ** 2 == ((x - 30) ** 2 + (y - 30) ** 2)[ring].min()


def test_ignored_pixels_are_not_of_the_mask() -> None:
    mask = np.zeros((20, 40), bool)
    mask[2:18, 2:38] = True
    ignored = np.zeros_like(mask)
    ignored[:, 16:] = True
    ours, ignore, seen = (Masks.from_numpy(m) for m in (mask, ignored, mask & ~ignored))
    for place in (center_points, centroid_points):
        assert np.array_equal(place(ours, ignore=ignore), place(seen))
        assert not np.array_equal(place(ours), place(seen))
        assert np.array_equal(place(ours, ignore=Masks.empty(20, 40)), place(ours))
    assert np.array_equal(farthest_points(ours, 4, ignore=ignore), farthest_points(seen, 4))
    with pytest.raises(ConfigError):
        center_points(ours, ignore=Masks.from_numpy(mask.T))


def test_no_place_in_an_empty_mask() -> None:
    masks = Masks.from_numpy(np.stack([np.ones((4, 5), bool), np.zeros((4, 5), bool)]))
    for place in (center_points, centroid_points, lambda masks: farthest_points(masks, 2)):
        with pytest.raises(DataError, match="mask 1 is empty"):
            place(masks)
        assert len(place(Masks.empty(4, 5))) == 0
    with pytest.raises(ConfigError):
        farthest_points(masks, -1)


def test_places_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(3)
    masks = Masks.from_numpy(ndimage.gaussian_filter(rng.standard_normal((64, 200, 220)), (0, 9, 9)) > 0)
    order = rng.permutation(64)
    for place in (center_points, centroid_points, lambda masks: farthest_points(masks, 3)):
        together = place(masks)
        assert np.array_equal(place(masks[order]), together[order])
        assert np.array_equal(place(masks[7]), together[7:8])


def test_grid_is_segment_anythings() -> None:
    amg = pytest.importorskip("segment_anything.utils.amg")
    for side, height, width in [(32, 480, 640), (1, 7, 9), (3, 1, 100), (64, 1024, 1024)]:
        expected = (amg.build_point_grid(side) * [width, height]).astype(np.float32)
        assert np.array_equal(point_grid(side, height=height, width=width), expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_snapping_takes_the_nearest(side: int, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-10, 1.1 * max(height, width), (4, 5, 2))
    snapped = snap_to_grid(points, side, height=height, width=width)
    grid = point_grid(side, height=height, width=width)
    assert snapped.shape == points.shape
    assert {tuple(point) for point in snapped.reshape(-1, 2).tolist()} <= {tuple(point) for point in grid.tolist()}
    apart = np.hypot(*(points.reshape(-1, 1, 2) - grid).transpose(2, 0, 1))
    taken = np.hypot(*(points - snapped).reshape(-1, 2).T)
    assert np.allclose(taken, apart.min(axis=1), atol=1e-3)


def test_bad_grids() -> None:
    for side, height, width in [(0, 5, 5), (2, 0, 5), (2, 5, -1)]:
        with pytest.raises(ConfigError):
            point_grid(side, height=height, width=width)
    for points in ([1.0, 2.0, 3.0], [[np.nan, 0]], 3.0, "ab"):
        with pytest.raises(DataError):
            snap_to_grid(points, 4, height=5, width=5)  # type: ignore[arg-type]
    assert snap_to_grid(np.zeros((0, 2)), 4, height=5, width=5).shape == (0, 2)


LONG = 2**24 + 1
"""A side with a pixel whose index float32 does not hold."""


@pytest.mark.parametrize("shape", [(1, LONG), (LONG, 1)])
@pytest.mark.parametrize(
    "call",
    [
        Masks.boxes,
        center_points,
        centroid_points,
        lambda masks: farthest_points(masks, 1),
        lambda masks: sample_points(masks, np.zeros(1, np.uint64)),
        lambda masks: negative_points(masks, np.zeros(1, np.uint64)),
        lambda masks: jitter_boxes(np.zeros((1, 4)), np.zeros(1, np.uint64), height=masks.height, width=masks.width),
    ],
    ids=["boxes", "center", "centroid", "farthest", "sample", "negative", "jitter"],
)
def test_sides_that_float32_does_not_count_are_refused(call: Callable[[Masks], object], shape: tuple[int, int]) -> None:
    height, width = shape
    # The last pixel alone, and all but the first.
    for counts in ([LONG - 1, 1], [1, LONG - 1]):
        masks = Masks.from_rle([{"size": [height, width], "counts": counts}])
        with pytest.raises(DataError, match=r"2\^24 pixels"):
            call(masks)


def test_the_last_pixel_of_the_longest_side() -> None:
    masks = Masks.from_rle([{"size": [1, LONG - 1], "counts": [LONG - 2, 1]}])
    assert center_points(masks).tolist() == [[LONG - 2, 0]]
    assert masks.boxes().tolist() == [[LONG - 2, 0, LONG - 2, 0]]
