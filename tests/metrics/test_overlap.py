"""Overlap counts and scores against pixel logic."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.metrics import overlap_counts, scores, stability_scores

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


def logits_of(masks: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(1).random(masks.shape, np.float32)
    return np.where(masks, np.nextafter(np.float32(threshold), np.float32(9)) + noise, threshold - noise)


def forms_of(masks: np.ndarray) -> dict[str, Any]:
    return {
        "runs": Masks.from_numpy(masks),
        "bool": masks,
        "uint8": masks.astype(np.uint8) * np.random.default_rng(0).integers(1, 256, masks.shape).astype(np.uint8),
        "logits": logits_of(masks),
        "packed": _rust.masks_to_bits(masks),
    }


@pytest.mark.parametrize("ignored", ["none", "one", "each"])
@pytest.mark.parametrize("size", [(31, 43), (8, 64), (1, 1), (5, 129)])
def test_every_form_against_every_other(size: tuple[int, int], ignored: str) -> None:
    rng = np.random.default_rng(5)
    prediction, target, ignore = rng.random((3, 3, *size)) < np.array([0.5, 0.3, 0.2])[:, None, None, None]
    ignore = {"none": ignore & False, "one": np.repeat(ignore[:1], 3, axis=0), "each": ignore}[ignored]
    expected = expected_counts(prediction, target, ignore)
    some = ignore[:1] if ignored == "one" else ignore
    for name, a in forms_of(prediction).items():
        for other, b in forms_of(target).items():
            width = size[1] if name == other == "packed" else None
            if ignored == "none":
                assert np.array_equal(overlap_counts(a, b, width=width), expected), (name, other)
                continue
            for third, c in forms_of(some).items():
                assert np.array_equal(overlap_counts(a, b, c, width=width), expected), (name, other, third)


def test_one_large_mask_is_counted_in_pieces() -> None:
    rng = np.random.default_rng(6)
    prediction, target = rng.random((2, 1, 1031, 1033)) < 0.5
    expected = expected_counts(prediction, target, prediction & False)
    assert np.array_equal(overlap_counts(prediction, target), expected)
    assert np.array_equal(
        overlap_counts(logits_of(prediction), target, ~target), [[expected[0, 0], 0, expected[0, 2], 0]]
    )


@pytest.mark.parametrize("threshold", [0.0, 0.1, -2.5, 1e-30])
def test_foreground_lies_above_the_threshold(threshold: float) -> None:
    logits = np.random.default_rng(7).normal(threshold, 1, (2, 20, 30)).astype(np.float32)
    logits[0, 0, :6] = [threshold, -0.0, np.inf, -np.inf, np.nextafter(np.float32(threshold), np.float32(9)), 0]
    target = TARGET[:2, :20, :30]
    expected = expected_counts(logits > np.float32(threshold), target, target & False)
    for other in (target, Masks.from_numpy(target)):
        assert np.array_equal(overlap_counts(logits, other, threshold=threshold), expected)


def test_a_logit_that_is_nan_is_an_error() -> None:
    logits = logits_of(PREDICTION)
    logits[4, 30, 42] = np.nan
    for other in (TARGET, Masks.from_numpy(TARGET)):
        with pytest.raises(DataError, match="mask 4: a logit is NaN"):
            overlap_counts(logits, other)
        with pytest.raises(DataError, match="mask 4: a logit is NaN"):
            overlap_counts(other, logits)


def test_what_is_written_to_out() -> None:
    out = np.full((6, 4), -1)
    assert overlap_counts(PREDICTION, TARGET, out=out) is out
    assert np.array_equal(out, overlap_counts(PREDICTION, TARGET))
    for bad in (np.zeros((5, 4), np.int64), np.zeros((6, 8), np.int64)[:, ::2]):
        with pytest.raises(ConfigError, match="out is"):
            overlap_counts(PREDICTION, TARGET, out=bad)
    out.flags.writeable = False
    with pytest.raises(ConfigError, match="out is"):
        overlap_counts(PREDICTION, TARGET, out=out)


def test_any_layout() -> None:
    expected = overlap_counts(PREDICTION, TARGET)
    assert np.array_equal(overlap_counts(np.asfortranarray(PREDICTION), TARGET[:, ::-1][:, ::-1]), expected)
    assert np.array_equal(overlap_counts(PREDICTION[2], TARGET[2]), expected[2:3])


@pytest.mark.parametrize(
    "bad", [PREDICTION.astype(np.int64), PREDICTION.astype(np.float64), PREDICTION[None], PREDICTION[0, 0], "mask"]
)
def test_what_are_no_masks(bad: Any) -> None:
    with pytest.raises(DataError, match="prediction is"):
        overlap_counts(bad, TARGET)
    with pytest.raises(DataError, match="target is"):
        overlap_counts(TARGET, bad)


def test_packed_rows_do_not_tell_their_width() -> None:
    words = _rust.masks_to_bits(PREDICTION)
    with pytest.raises(ConfigError, match="how wide"):
        overlap_counts(words, words)
    with pytest.raises(DataError, match="expected"):
        overlap_counts(words, words, width=65)
    words[1, 3, 0] |= np.uint64(1 << 63)
    with pytest.raises(DataError, match="mask 1, row 3: bits are set beyond the width"):
        overlap_counts(words, words, width=43)


def test_accuracy() -> None:
    found = scores(overlap_counts(PREDICTION, TARGET, IGNORE))["accuracy"]
    agree, judged = PREDICTION == TARGET, ~IGNORE
    assert np.array_equal(found, (agree & judged).sum((1, 2)) / judged.sum((1, 2)))
    assert np.isnan(scores(overlap_counts(PREDICTION, TARGET, np.ones((1, 31, 43), bool)))["accuracy"]).all()


@pytest.mark.parametrize(("threshold", "offset"), [(0.0, 1.0), (0.5, 0.3), (-1.0, 0.0)])
def test_stability_is_segment_anythings(threshold: float, offset: float) -> None:
    torch = pytest.importorskip("torch")
    amg = pytest.importorskip("segment_anything.utils.amg")
    logits = np.random.default_rng(8).normal(0, 2, (5, 40, 50)).astype(np.float32)
    logits[4] = -9
    found = stability_scores(logits, threshold=threshold, offset=offset)
    expected = amg.calculate_stability_score(torch.from_numpy(logits), threshold, offset).numpy()
    assert np.allclose(found, expected, rtol=1e-6, equal_nan=True)
    assert np.isnan(found[4])
    assert stability_scores(logits, threshold=threshold, offset=offset, empty=0.0)[4] == 0


def test_stability_of_wide_masks() -> None:
    # The reference sums rows in 16 bits, which 40 000 pixels leave.
    assert stability_scores(np.full((1, 2, 40_000), 5, np.float32)).tolist() == [1.0]


def test_stability_of_what_are_no_logits() -> None:
    for bad in (PREDICTION, PREDICTION.astype(np.float64)):
        with pytest.raises(DataError, match="logits are"):
            stability_scores(bad)
    for offset in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="offset"):
            stability_scores(np.zeros((1, 2, 2), np.float32), offset=offset)
    with pytest.raises(DataError, match="NaN"):
        stability_scores(np.full((1, 2, 2), np.nan, np.float32))


ARRAYS = [
    np.ones((2, 3, 70), np.uint8),
    np.ones((1, 3, 70), bool),
    np.zeros((2, 3, 70), np.float32),
    np.full((2, 3, 2), 2**64 - 1, np.uint64),
    np.zeros((2, 3, 2), np.uint64),
    np.zeros((0, 3, 70), np.uint8),
    np.zeros((2, 3, 70), np.float64),
    np.ones((2, 6, 70), np.uint8)[:, ::2],
    np.ones((3, 70), np.uint8),
    (np.array([210], np.uint32), np.array([0, 1])),
    (np.array([200], np.uint32), np.array([0, 1])),
    (np.zeros(0, np.uint32), np.zeros(1, np.int64)),
    (np.zeros(0, np.uint32),),
    None,
]


@settings(max_examples=300, deadline=None)
@given(*[st.sampled_from(ARRAYS)] * 3, st.sampled_from([-1, 0, 3, 2**40]), st.sampled_from([0, 70, 64, 2**62]))
def test_kernels_refuse_or_run_on_anything(a: Any, b: Any, c: Any, height: int, width: int) -> None:
    calls = [
        lambda: _rust.overlap_counts(a, b, c, height, width, (0.0, float("nan"))),
        lambda: _rust.overlap_counts(a, b, None, height, width, (0.0, 0.0), c),
        lambda: _rust.boundary_counts(a, b, height, width, 2**63, 0.0),
        lambda: _rust.boundaries(a, height, width, 1),
        lambda: _rust.surface_distances(a, b, height, width, 0.0, "deepmind", (1.0, 1e-9), [0.0, 1e300]),
    ]
    for call in calls:
        with contextlib.suppress(ValueError, TypeError):
            call()


LEVELS = """
import numpy as np
from samfast import _rust
from samfast.metrics import *
from samfast.masks import Masks
rng = np.random.default_rng(0)
y, x = np.mgrid[:150, :200]
a, b = (np.stack([np.hypot(y - cy, x - cx) < r for cy, cx, r in rng.uniform(30, 120, (4, 3))]) for _ in range(2))
logits = (60 - np.hypot(y - 70, x - 90)).astype(np.float32)
ours, theirs = Masks.from_numpy(a), Masks.from_numpy(b)
distances = [surface_distances(a, b, convention=c, spacing=s) for c in ("monai", "medpy", "deepmind") for s in (1, 2.5)]
print(_rust.build_info()["simd"])
print(overlap_counts(a, theirs, logits > 50).tolist(), overlap_counts(logits, a[0], threshold=9).tolist())
print(overlap_counts(a, b).tolist(), pairwise_iou(ours, theirs).tolist(), boundary_iou(a, b).tolist())
print([{name: values.tolist() for name, values in found.items()} for found in distances])
"""


def test_every_instruction_set_finds_the_same() -> None:
    found = {}
    for level in ("portable", "avx2", "avx512"):
        run = [sys.executable, "-c", LEVELS]
        done = subprocess.run(
            run, capture_output=True, text=True, env={**os.environ, "SAMFAST_SIMD": level}, check=False
        )
        if done.returncode == 0:
            name, _, found[level] = done.stdout.partition("\n")
            assert name == level
        else:
            assert "no further than" in done.stderr
    assert "portable" in found
    assert len(set(found.values())) == 1
