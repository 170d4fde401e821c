"""Means and sums by class, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.errors import ConfigError
from samfast.metrics import mean_by_class, scores, sum_by_class

RNG = np.random.default_rng(0)


def test_means() -> None:
    values, classes = RNG.random(200), RNG.integers(0, 7, 200)
    values[RNG.random(200) < 0.2] = np.nan
    values[classes == 3] = np.nan
    means, counted = mean_by_class(values, classes, 8)
    for label in range(8):
        own = values[(classes == label) & ~np.isnan(values)]
        assert counted[label] == len(own)
        assert np.isnan(means[label]) if len(own) == 0 else means[label] == pytest.approx(own.mean(), rel=1e-12)
    assert counted[[3, 7]].tolist() == [0, 0]


def test_sums_are_exact() -> None:
    counts, classes = RNG.integers(0, 2**50, (90, 4)), RNG.integers(0, 4, 90)
    sums = sum_by_class(counts, classes, 5)
    assert sums.dtype == np.int64
    assert np.array_equal(sums, [counts[classes == label].sum(axis=0) for label in range(5)])
    assert np.isnan(scores(sums)["iou"][4])


def test_no_objects() -> None:
    means, counted = mean_by_class([], [], 2)
    assert np.isnan(means).all()
    assert counted.tolist() == [0, 0]
    assert sum_by_class(np.zeros((0, 4), np.int64), [], 2).tolist() == [[0] * 4] * 2


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2], [0, -1, 1], [0.0, 1.0, 1.0], [[0, 1, 1]]])
def test_what_does_not_fit(classes: list) -> None:
    with pytest.raises(ConfigError):
        mean_by_class([1.0, 2.0, 3.0], classes, 2)
    with pytest.raises(ConfigError):
        sum_by_class(np.zeros((3, 4), np.int64), classes, 2)
