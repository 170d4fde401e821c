"""Soft targets against a pixel-by-pixel average, on images whose size the cells do not divide."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.frames import PreprocessSpec
from samfast.masks import Masks
from samfast.train.targets import soft_targets

SPEC = PreprocessSpec(64, 4, 16, (0, 0, 0), (1, 1, 1))


def by_hand(masks: np.ndarray, ignore: np.ndarray, frame) -> tuple[np.ndarray, np.ndarray]:
    """Split every pixel among the cells it overlaps."""
    (height, width), (cell_h, cell_w), side = masks.shape[1:], frame.cell, SPEC.low_res
    rows, columns = (
        np.array([[max(0.0, min(p + 1, (c + 1) * cell) - max(p, c * cell)) for p in range(n)] for c in range(side)])
        for n, cell in ((height, cell_h), (width, cell_w))
    )
    area = rows.sum(1)[:, None] * columns.sum(1)
    counted = rows @ (~ignore).astype(float) @ columns.T
    shown = rows @ (masks & ~ignore).astype(float) @ columns.T
    target = np.divide(shown, counted, out=np.zeros_like(shown), where=counted > 1e-9)
    share = np.divide(counted, area, out=np.zeros_like(counted), where=area > 1e-9)
    return target, frame.coverage() * share


@pytest.mark.parametrize("size", [(40, 64), (64, 27), (100, 73), (31, 31)])
@pytest.mark.parametrize("is_ignored", [False, True])
def test_targets_are_area_averages_of_what_counts(size, is_ignored) -> None:
    draw = np.random.default_rng(1)
    ignore = np.zeros(size, bool)
    if is_ignored:
        ignore[5:25, 3:20] = draw.random((20, 17)) < 0.8
        ignore[:10] = True
    masks = draw.random((3, *size)) < 0.4
    frame = SPEC.frame(*size)
    target, weight = soft_targets(Masks.from_numpy(masks & ~ignore), Masks.from_numpy(ignore[None]), frame)
    expected, expected_weight = by_hand(masks, ignore, frame)
    counts = expected_weight > 1e-4
    assert np.abs(weight - expected_weight).max() < 1e-5
    assert np.abs(target - expected)[:, counts].max() < 1e-3
    assert (target[:, weight == 0] == 0).all()
    assert 0 <= target.min() <= target.max() <= 1
