"""Overlap counts and scores against pixel logic."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from samfast.errors import ConfigError
from samfast.masks import Masks
from samfast.metrics import overlap_counts, scores

RNG = np.random.default_rng(0)
PREDICTION, TARGET, IGNORE = (RNG.random((3, 6, 31, 43)) < np.array([0.5, 0.4, 0.2])[:, None, None, None]).copy()


def expected_counts(prediction: np.ndarray, target: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    cells = [prediction & target, prediction & ~target, ~prediction & target, ~prediction & ~target]
    return np.stack([(cell & ~ignore).sum(axis=(1, 2)) for cell in cells], axis=1)


def test_counts() -> None:
    prediction, target = Masks.from_numpy(PREDICTION), Masks.from_numpy(TARGET)
    nothing = np.zeros_like(IGNORE)
    assert np.array_equal(overlap_counts(prediction, target), expected_counts(PREDICTION, TARGET, nothing))
    each = overlap_counts(prediction, target, Masks.from_numpy(IGNORE))
    assert np.array_equal(each, expected_counts(PREDICTION, TARGET, IGNORE))
    shared = overlap_counts(prediction, target, Masks.from_numpy(IGNORE[0]))
    assert np.array_equal(shared, expected_counts(PREDICTION, TARGET, IGNORE[:1]))
    assert np.array_equal(overlap_counts(prediction, target, Masks.empty(31, 43)), overlap_counts(prediction, target))


def test_ignored_pixels_do_not_count() -> None:
    ignore = Masks.from_numpy(IGNORE)
    wrong = PREDICTION ^ IGNORE
    before = overlap_counts(Masks.from_numpy(PREDICTION), Masks.from_numpy(TARGET), ignore)
    after = overlap_counts(Masks.from_numpy(wrong), Masks.from_numpy(TARGET), ignore)
    assert np.array_equal(before, after)
    assert not np.array_equal(overlap_counts(Masks.from_numpy(wrong), Masks.from_numpy(TARGET)), before)
    assert (before.sum(axis=1) == (~IGNORE).sum(axis=(1, 2))).all()


def test_scores() -> None:
    found = scores(overlap_counts(Masks.from_numpy(PREDICTION), Masks.from_numpy(TARGET)))
    both, either = (PREDICTION & TARGET).sum((1, 2)), (PREDICTION | TARGET).sum((1, 2))
    assert np.array_equal(found["iou"], both / either)
    assert np.array_equal(found["dice"], 2 * both / (PREDICTION.sum((1, 2)) + TARGET.sum((1, 2))))
    assert np.array_equal(found["precision"], both / PREDICTION.sum((1, 2)))
    assert np.array_equal(found["recall"], both / TARGET.sum((1, 2)))
    assert all(score.dtype == np.float64 for score in found.values())
    rles = [Masks.from_numpy(masks).rle() for masks in (PREDICTION, TARGET)]
    assert np.array_equal(found["iou"], np.diag(coco.iou(*rles, [False] * 6)))


@pytest.mark.parametrize("empty", [None, 0.0, 1.0])
def test_nothing_to_judge(empty: float | None) -> None:
    # Rows: both empty, nothing predicted, nothing to find.
    counts = np.array([[0, 0, 0, 9], [0, 0, 4, 5], [0, 4, 0, 5]])
    found = scores(counts) if empty is None else scores(counts, empty=empty)
    blank = np.nan if empty is None else empty
    expected = {
        "iou": [blank, 0, 0],
        "dice": [blank, 0, 0],
        "precision": [blank, blank, 0],
        "recall": [blank, 0, blank],
    }
    for name, values in expected.items():
        assert np.array_equal(found[name], values, equal_nan=True), name


def test_large_counts_are_exact() -> None:
    assert scores(np.array([[2**40 + 1, 0, 2**40 - 1, 0]]))["iou"].tolist() == [(2**40 + 1) / 2**41]


def test_what_does_not_fit() -> None:
    prediction, target = Masks.from_numpy(PREDICTION), Masks.from_numpy(TARGET)
    for other in (target[:2], target[0], Masks.from_numpy(TARGET.transpose(0, 2, 1))):
        with pytest.raises(ConfigError, match="target has"):
            overlap_counts(prediction, other)
    with pytest.raises(ConfigError, match="ignore has"):
        overlap_counts(prediction, target, target[:2])
