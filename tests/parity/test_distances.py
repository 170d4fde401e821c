"""The distance transform equals scipy's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from samfast.distances import distance_transform
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks


def scipy_distances(mask: NDArray[np.bool_], *, border: bool = False) -> NDArray[np.float64]:
    if border:
        return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return ndimage.distance_transform_edt(mask) if not mask.all() else np.full(mask.shape, np.inf)


def blobs(height: int, width: int, seed: int = 0) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((height, width)), min(height, width) / 12)
    return field > 0


@st.composite
def some_masks(draw: st.DrawFn) -> NDArray[np.bool_]:
    """Noise of any density, with rectangles of foreground and background laid over it."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 260))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.3, 0.9, 0.999, 1.0]))
    for value in rng.integers(0, 2, draw(st.integers(0, 4))).astype(bool):
        y, x = rng.integers(0, height, 2), rng.integers(0, width, 2)
        mask[y.min() : y.max() + 1, x.min() : x.max() + 1] = value
    return mask


@settings(max_examples=300, deadline=None)
@given(some_masks(), st.booleans())
def test_any_mask(mask: NDArray[np.bool_], border: bool) -> None:
    assert np.array_equal(distance_transform(mask, border=border), scipy_distances(mask, border=border))


@pytest.mark.parametrize("size", [(480, 640), (333, 1025), (700, 90), (1, 500), (500, 1)])
def test_large_masks(size: tuple[int, int]) -> None:
    y, x = np.ogrid[: size[0], : size[1]]
    disc = (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < (min(size) / 2) ** 2
    corner = np.ones(size, bool)
    corner[0, 0] = False
    masks = np.stack([blobs(*size), disc, ~disc, corner])
    ours = distance_transform(masks)
    assert ours.dtype == np.float64
    for mask, distances in zip(masks, ours, strict=True):
        assert np.array_equal(distances, scipy_distances(mask))


def test_other_spellings_of_a_mask() -> None:
    masks = np.stack([blobs(60, 70, seed) for seed in range(5)])
    expected = distance_transform(masks)
    assert np.array_equal(distance_transform(masks.astype(np.uint8) * 255), expected)
    assert np.array_equal(distance_transform(Masks.from_numpy(masks)), expected)
    assert np.array_equal(distance_transform(np.asfortranarray(masks)), expected)
    assert np.array_equal(distance_transform(masks[:, ::-1, ::2]), distance_transform(masks[:, ::-1, ::2].copy()))
    single = np.empty(masks.shape, np.float32)
    assert distance_transform(masks, out=single) is single
    assert np.array_equal(single, expected.astype(np.float32))
    assert distance_transform(masks[:0]).shape == (0, 60, 70)


@pytest.mark.parametrize("spacing", [(2.0, 1.0), (0.7, 1.3), (1e-3, 250.0), (3.3, 3.3)])
def test_spacing(spacing: tuple[float, float]) -> None:
    for mask in (blobs(97, 140), blobs(140, 61, 1), np.pad(np.ones((200, 300), bool), 1)):
        expected = ndimage.distance_transform_edt(mask, sampling=spacing)
        assert np.allclose(distance_transform(mask, spacing=spacing), expected, rtol=1e-12, atol=0)


def test_swapped_spacing_would_be_noticed() -> None:
    mask = blobs(97, 140)
    swapped = ndimage.distance_transform_edt(mask, sampling=(1.3, 0.7))
    assert not np.allclose(distance_transform(mask, spacing=(0.7, 1.3)), swapped, rtol=1e-3)


def test_without_background_distances_are_infinite() -> None:
    full = np.ones((3, 4), bool)
    assert np.isinf(distance_transform(full)).all()
    # The reference measures from a place beside the image.
    assert np.isfinite(ndimage.distance_transform_edt(full)).all()
    assert distance_transform(full, border=True).max() == 2


def test_opencv_is_less_precise() -> None:
    cv2 = pytest.importorskip("cv2")
    mask = blobs(480, 640)
    ours, theirs = distance_transform(mask), cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 0)
    assert np.array_equal(ours, scipy_distances(mask))
    assert not np.array_equal(ours, theirs)
    assert np.allclose(ours, theirs, atol=1e-4)


def test_bad_input() -> None:
    mask = np.ones((4, 5), bool)
    for masks in (mask.astype(float), mask[0], np.zeros((2, 0, 5), bool), np.zeros((3, 0), np.uint8)):
        with pytest.raises(DataError):
            distance_transform(masks)
    for spacing in [(0, 1), (1, -1), (np.nan, 1), (np.inf, 1), (1,), (1, 2, 3), "ab"]:
        with pytest.raises(ConfigError):
            distance_transform(mask, spacing=spacing)  # type: ignore[arg-type]
    read_only = np.empty((4, 5))
    read_only.flags.writeable = False
    for out in (np.empty((4, 6)), np.empty((4, 5), np.int32), np.empty((5, 4)).T, read_only):
        with pytest.raises(ConfigError):
            distance_transform(mask, out=out)  # type: ignore[arg-type]
