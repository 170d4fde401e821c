"""Intervals: against scipy's bootstrap, against the coverage they promise, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from samfast.errors import ConfigError
from samfast.metrics import bootstrap, bootstrap_difference, bootstrap_mean


def clustered(seed: int, clusters: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Values whose clusters differ by more than what they hold, of 1 to 9 objects each."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(clusters), rng.integers(1, 10, clusters))
    return rng.gamma(2, 0.1, clusters)[groups] + rng.normal(0, 0.02, len(groups)), groups


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_ends_are_scipys(method: str, theirs: str) -> None:
    values, groups = clustered(0)
    sums = np.bincount(groups, values), np.bincount(groups).astype(float)

    def mean(total: np.ndarray, count: np.ndarray, axis: int = -1) -> np.ndarray:
        return total.sum(axis=axis) / count.sum(axis=axis)

    draws = 20_000
    ours = bootstrap_mean(values, groups, draws=draws, method=method)
    found = stats.bootstrap(
        sums, mean, paired=True, vectorized=True, n_resamples=draws, method=theirs, rng=np.random.default_rng(0)
    )
    width = ours.high - ours.low
    assert ours.value == pytest.approx(values.mean(), rel=1e-12)
    assert ours.clusters == 40
    assert ours.low == pytest.approx(found.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(found.confidence_interval.high, abs=0.03 * width)


def test_bca_moves_the_ends() -> None:
    values, groups = clustered(1, clusters=15)
    plain, corrected = (bootstrap_mean(values, groups, draws=5000, method=m) for m in ("percentile", "bca"))
    assert corrected.low > plain.low
    assert corrected.high > plain.high


def test_clusters_widen_the_interval_and_cover_the_truth() -> None:
    covered = {True: 0, False: 0}
    for seed in range(120):
        values, groups = clustered(seed)
        for by_cluster in covered:
            interval = bootstrap_mean(values, groups if by_cluster else None, draws=400, seed=seed)
            covered[by_cluster] += interval.low <= 0.2 <= interval.high
    assert covered[True] >= 0.86 * 120
    assert covered[False] <= 0.75 * 120, "objects are not independent, and an interval that thinks so is too narrow"


def test_pairing_cancels_what_is_shared() -> None:
    values, groups = clustered(2)
    better = values + 0.01 + np.random.default_rng(0).normal(0, 0.005, len(values))
    paired = bootstrap_difference(better, values, groups)
    assert 0.005 < paired.low < paired.value < paired.high < 0.015
    alone = bootstrap_mean(better, groups)
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)
    nothing = bootstrap_difference(values + np.random.default_rng(1).normal(0, 0.01, len(values)), values, groups)
    assert nothing.low < 0 < nothing.high


def test_what_cannot_be_judged_takes_no_part() -> None:
    values, groups = clustered(3)
    blank = values.copy()
    blank[::3] = np.nan
    blank[groups == 5] = np.nan
    kept = ~np.isnan(blank)
    assert bootstrap_mean(blank, groups) == bootstrap_mean(values[kept], groups[kept])
    assert bootstrap_difference(blank, values, groups).value == 0
    assert bootstrap_mean(blank, groups).clusters == len(np.unique(groups[kept])) < 40


def test_order_does_not_matter_and_the_seed_does() -> None:
    values, groups = clustered(4)
    turned = np.random.default_rng(0).permutation(len(values))
    names = np.array([f"site-{group:02}" for group in groups])
    first = bootstrap_mean(values, groups)
    for other in (bootstrap_mean(values[turned], groups[turned]), bootstrap_mean(values, names)):
        assert (other.low, other.high) == pytest.approx((first.low, first.high), rel=1e-12)
    assert bootstrap_mean(values, groups, seed=1).low != first.low
    assert bootstrap_mean(values, groups) == first


def test_the_draws_are_pinned() -> None:
    interval = bootstrap_mean([1.0, 2.0, 4.0, 8.0], draws=9, seed=7)
    words = np.random.Philox(key=7).random_raw(36).reshape(9, 4) >> np.uint64(32)
    chosen = (words * np.uint64(4)) >> np.uint64(32)
    figures = np.array([1.0, 2.0, 4.0, 8.0])[chosen.astype(int)].mean(axis=1)
    assert (interval.low, interval.high) == tuple(np.quantile(figures, [0.025, 0.975]))


def test_many_draws_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = clustered(5)
    whole = bootstrap_mean(values, groups, draws=500)
    monkeypatch.setattr("samfast.metrics.intervals._CHUNK", 1000)
    assert bootstrap_mean(values, groups, draws=500) == whole


def test_any_figure_of_sums() -> None:
    counts = np.random.default_rng(6).integers(0, 100, (30, 4))
    interval = bootstrap(counts, lambda sums: sums[:, 0] / sums[:, :3].sum(axis=1), confidence=0.5)
    assert interval.value == counts[:, 0].sum() / counts[:, :3].sum()
    assert interval.low < interval.value < interval.high
    wide = bootstrap(counts, lambda sums: sums[:, 0] / sums[:, :3].sum(axis=1), confidence=0.99)
    assert wide.low < interval.low
    assert str(interval).startswith(f"{interval.value:.4f} [")


@pytest.mark.parametrize(("values", "clusters"), [([], 0), ([np.nan], 0), ([0.5], 1)])
def test_too_few_clusters(values: list[float], clusters: int) -> None:
    interval = bootstrap_mean(values)
    assert interval.clusters == clusters
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan(interval.value) if clusters == 0 else interval.value == 0.5


@pytest.mark.parametrize(
    "options",
    [{"confidence": 1.0}, {"confidence": 95}, {"draws": 0}, {"seed": -1}, {"method": "normal"}, {"groups": [1]}],
)
def test_options_out_of_range(options: dict) -> None:
    with pytest.raises(ConfigError):
        bootstrap_mean([1.0, 2.0], **options)


def test_values_of_other_shapes() -> None:
    with pytest.raises(ConfigError):
        bootstrap_mean([[1.0, 2.0]])
    with pytest.raises(ConfigError):
        bootstrap_difference([1.0, 2.0], [1.0])
