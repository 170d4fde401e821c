"""Area average: exact overlaps of pixels and cells, as matrices in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from samfast import _rust
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, polygons_to_numpy, polygons_to_packed

SPECS = [
    PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1)),
    PreprocessSpec(512, 32, 128, (0, 0, 0), (1, 1, 1)),
    PreprocessSpec(1008, 72, 288, (0, 0, 0), (1, 1, 1), resize="stretch"),
]


def overlaps(length: int, cell: float, side: int) -> NDArray[np.float64]:
    """``(side, length)``: how much of each pixel lies in each cell."""
    start = np.arange(side)[:, None] * cell
    pixel = np.arange(length)[None]
    shared = np.clip(np.minimum(pixel + 1, start + cell) - np.maximum(pixel, start), 0, None)
    shared[shared.sum(axis=1) < 1e-9 * cell] = 0
    return shared


def oracle(masks: NDArray[np.bool_], cell_height: float, cell_width: float, side: int) -> NDArray[np.float64]:
    rows, columns = (overlaps(n, c, side) for n, c in zip(masks.shape[1:], (cell_height, cell_width), strict=True))
    on_image = np.outer(rows.sum(axis=1), columns.sum(axis=1))
    return np.divide(rows @ masks @ columns.T, on_image, out=np.zeros((len(masks), side, side)), where=on_image > 0)


def scenes(height: int, width: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 3) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 3) ** 2
    full, empty = np.ones_like(disc), np.zeros_like(disc)
    return np.stack([disc, full, empty, rng.random(disc.shape) < 0.5])


@pytest.mark.parametrize("spec", SPECS, ids=["sam1", "medsam2", "sam3"])
@pytest.mark.parametrize("size", [(551, 893), (893, 551), (700, 700), (101, 333), (60, 45), (1, 7), (1500, 40)])
def test_frames(spec: PreprocessSpec, size: tuple[int, int]) -> None:
    masks, frame = scenes(*size), spec.frame(*size)
    low_res = Masks.from_numpy(masks).rasterize(frame)
    assert low_res.dtype == np.float32
    assert low_res.shape == (4, spec.low_res, spec.low_res)
    assert np.abs(low_res - oracle(masks, *frame.cell, spec.low_res)).max() < 1e-6
    covered = frame.coverage() > 0
    assert (low_res[1] == 1.0).sum() >= 0.99 * covered.sum()
    assert not low_res[:, ~covered].any()
    # Weighted by what lies on the image, cells add up to the mask's pixels.
    pixels = (low_res * frame.coverage()).sum(axis=(1, 2), dtype=np.float64) * np.prod(frame.cell)
    assert np.allclose(pixels, masks.sum(axis=(1, 2)), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("cell", [(0.37, 0.71), (1, 1), (3, 5), (7.3, 2.9), (400, 300.5), (1e-3, 1e3)])
def test_any_cells(cell: tuple[float, float]) -> None:
    masks = scenes(47, 61)
    ours = Masks.from_numpy(masks)
    low_res = _rust.rle_area_average(ours.counts, ours.offsets, 47, 61, *cell, 24)
    assert np.abs(low_res - oracle(masks, *cell, 24)).max() < 1e-6


@pytest.mark.parametrize("spec", SPECS, ids=["sam1", "medsam2", "sam3"])
@pytest.mark.parametrize("size", [(551, 893), (101, 333), (1, 7), (1500, 40)])
def test_hard_is_the_mean_at_least_half(spec: PreprocessSpec, size: tuple[int, int]) -> None:
    masks, frame = scenes(*size), spec.frame(*size)
    hard = Masks.from_numpy(masks).rasterize(frame, hard=True)
    mean = oracle(masks, *frame.cell, spec.low_res)
    assert hard.dtype == np.bool_
    # Ties of the oracle's may be off by rounding.
    sure = np.abs(mean - 0.5) > 1e-6
    assert np.array_equal(hard[sure], mean[sure] >= 0.5)
    assert sure.mean() > 0.5
    assert np.array_equal(hard, Masks.from_numpy(masks).rasterize(frame) >= 0.5)


def test_exactly_half_is_hard() -> None:
    frame = PreprocessSpec(8, 2, 4, (0, 0, 0), (1, 1, 1)).frame(8, 8)
    stripes = np.zeros((8, 8), bool)
    stripes[::2, :6] = True
    assert Masks.from_numpy(stripes).rasterize(frame, hard=True)[0].tolist() == [[True] * 3 + [False]] * 4


@pytest.mark.parametrize("hard", [False, True])
def test_from_polygons_and_packed_masks(hard: bool) -> None:
    rng = np.random.default_rng(5)
    frame = SPECS[0].frame(551, 893)
    objects = [[(rng.uniform(0, 1, (6, 2)) * (893, 551)).ravel().tolist()] for _ in range(5)]
    pixels = polygons_to_numpy(objects, 551, 893)
    mean = oracle(pixels, *frame.cell, 256)
    ways = [Masks.from_polygons(objects, 551, 893), Masks.from_packed(polygons_to_packed(objects, 551, 893), 893)]
    for masks in ways:
        low_res = masks.rasterize(frame, hard=hard)
        if hard:
            sure = np.abs(mean - 0.5) > 1e-6
            assert np.array_equal(low_res[sure], mean[sure] >= 0.5)
        else:
            assert np.abs(low_res - mean).max() < 1e-6
    moved = oracle(np.roll(pixels, 1, axis=2), *frame.cell, 256)
    assert np.abs(mean - moved).max() > 0.1, "a mask moved by a pixel would be noticed"


def test_nearest_sampling_would_be_noticed() -> None:
    masks, frame = scenes(551, 893), SPECS[0].frame(551, 893)
    centres = [
        ((np.arange(256) + 0.5) * cell).astype(int).clip(0, n - 1)
        for cell, n in zip(frame.cell, (551, 893), strict=True)
    ]
    nearest = masks[0][np.ix_(*centres)]
    assert np.abs(nearest - oracle(masks, *frame.cell, 256)[0]).max() > 0.1
