"""Cluster bootstrap: how sure a figure is, when objects of one image (patient, site, video) resemble each other.

Whole clusters are drawn with replacement, as many as there are, and the figure is taken of each such set. Every figure
here is a function of sums over clusters, so a draw is a row of a matrix product and never touches single objects.
Reference: Field, Welsh, *Bootstrapping clustered data*, J. R. Stat. Soc. B 69 (2007); BCa: Efron, *Better bootstrap
confidence intervals*, JASA 82 (1987).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samfast.checks import choice, finite, kernel_errors, reals, whole
from samfast.errors import ConfigError, DataError

Method = Literal["percentile", "bca"]
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_CHUNK = 1 << 22  # weights held at once


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval.

    Attributes:
        value: the figure on the data as it is.
        low: lower end; NaN where fewer than two clusters have something to judge.
        high: upper end.
        confidence: how often an interval made like this holds the truth, such as 0.95.
        clusters: how many clusters were drawn from.
    """

    value: float
    low: float
    high: float
    confidence: float
    clusters: int

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap_mean(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> Interval:
    """The mean of ``(N,)`` values with its interval; NaN values (nothing to judge) take no part.

    >>> bootstrap_mean([0.75, 1.0, 0.5, 0.25], ["a", "a", "b", "c"]).value
    0.625

    Args:
        values: ``(N,)`` scores, one an object.
        groups: ``(N,)`` cluster ids, of any kind that sorts; None takes every object as a cluster of its own.
        confidence: of the interval, between 0 and 1.
        draws: how many sets of clusters are drawn.
        seed: of the draws. Which clusters are drawn depends on it, on ``draws`` and on how many there are, on nothing
            else; their sums are as exact as the machine's float64 matrix product.
        method: ``"percentile"``, or ``"bca"``, which corrects bias and skew and is better where clusters are few.

    Raises:
        DataError: values that are not numbers, or infinite.
        ConfigError: values and groups that do not fit, or an option out of range.
    """
    scores = _scores("values", values)
    judged = ~np.isnan(scores)
    sums = _sums_by_group(np.stack([np.where(judged, scores, 0.0), judged], axis=-1), groups)
    return bootstrap(
        sums[sums[:, 1] > 0], _mean_of, confidence=confidence, draws=draws, seed=seed, method=method
    )  # (G, 2)


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> Interval:
    """The mean of ``a - b`` with its interval, both judged on the same objects: paired, so what they share cancels.

    An object that either of them has no value for (NaN) takes no part. Where the interval does not
    hold 0, they differ.

    >>> interval = bootstrap_difference([0.8, 0.9, 0.7], [0.7, 0.8, 0.6])
    >>> round(interval.low, 6), round(interval.high, 6)
    (0.1, 0.1)

    Args:
        a: ``(N,)`` scores, one an object.
        b: ``(N,)`` scores of the same objects.
        groups: see :func:`bootstrap_mean`.
        confidence: see :func:`bootstrap_mean`.
        draws: see :func:`bootstrap_mean`.
        seed: see :func:`bootstrap_mean`.
        method: see :func:`bootstrap_mean`.

    Raises:
        DataError: values that are not numbers, or infinite.
        ConfigError: values and groups that do not fit, or an option out of range.
    """
    first, second = _scores("a", a), _scores("b", b)
    if first.shape != second.shape:
        raise ConfigError(f"a has shape {first.shape}, b has {second.shape}", where="b", fix="one value an object each")
    return bootstrap_mean(first - second, groups, confidence=confidence, draws=draws, seed=seed, method=method)


def bootstrap(
    sums: ArrayLike,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> Interval:
    """Any figure that is a function of sums over clusters, with its interval.

    The IoU of all pixels together, for one, is a function of the summed counts:

    >>> counts = np.array([[9, 1, 0, 0], [5, 2, 3, 0], [7, 0, 3, 0]])  # an image each: tp, fp, fn, tn
    >>> bootstrap(counts, lambda sums: sums[:, 0] / sums[:, :3].sum(axis=1)).value
    0.7

    Args:
        sums: ``(G, K)``: what each cluster adds.
        statistic: from ``(B, K)`` sums over clusters to ``(B,)`` figures.
        confidence: see :func:`bootstrap_mean`.
        draws: see :func:`bootstrap_mean`.
        seed: see :func:`bootstrap_mean`.
        method: see :func:`bootstrap_mean`.

    Raises:
        DataError: sums of another shape, or that are not finite numbers.
        ConfigError: an option out of range.
    """
    parts = reals("sums", sums)
    _check_options(parts, confidence, draws, seed, method)
    clusters = len(parts)
    if clusters == 0:
        return Interval(math.nan, math.nan, math.nan, confidence, 0)
    value = float(statistic(parts.sum(axis=0, keepdims=True))[0])
    if clusters == 1:
        return Interval(value, math.nan, math.nan, confidence, 1)
    figures = _draw(parts, statistic, draws, seed)  # (draws,)
    ends = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if method == "bca":
        ends = _corrected(ends, figures, value, parts, statistic)
    low, high = np.nanquantile(figures, ends)
    return Interval(value, float(low), float(high), confidence, clusters)


def _draw(parts: NDArray[np.float64], statistic: Statistic, draws: int, seed: int) -> NDArray[np.float64]:
    """The figure of each set of clusters drawn.

    Cluster ``j`` of draw ``i`` is the upper part of word ``i * G + j`` of Philox, times ``G``: raw words, so that the
    draws are the same with every version of numpy.
    """
    clusters = len(parts)
    stream = np.random.Philox(key=seed)
    figures = []
    step = max(1, _CHUNK // clusters)
    for first in range(0, draws, step):
        rows = min(step, draws - first)
        words = stream.random_raw(rows * clusters).reshape(rows, clusters) >> np.uint64(32)
        chosen = (words * np.uint64(clusters)) >> np.uint64(32)  # (rows, G)
        flat = chosen.astype(np.int64) + np.arange(rows)[:, None] * clusters
        weights = np.bincount(flat.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        figures.append(statistic(weights @ parts))  # (rows, K) -> (rows,)
    return np.concatenate(figures)


def _corrected(
    ends: NDArray[np.float64],
    figures: NDArray[np.float64],
    value: float,
    parts: NDArray[np.float64],
    statistic: Statistic,
) -> NDArray[np.float64]:
    """Efron's quantiles: corrected for bias (draws below the value) and for skew (leaving out a cluster at a time)."""
    normal = NormalDist()
    below = (np.mean(figures < value) + np.mean(figures <= value)) / 2
    if not 0 < below < 1:
        return ends
    bias = normal.inv_cdf(float(below))
    left = statistic(parts.sum(axis=0) - parts)  # (G,)
    deviations = left.mean() - left
    spread = np.sum(deviations**2)
    skew = float(np.sum(deviations**3) / (6 * spread**1.5)) if spread > 0 else 0.0
    shifted = [bias + normal.inv_cdf(float(end)) for end in ends]
    return np.array([normal.cdf(bias + z / (1 - skew * z)) for z in shifted])


def _mean_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(sums[:, 0] / sums[:, 1])


def _scores(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Scores, of which a mean can be taken where they are not NaN."""
    scores = reals(name, values)
    if np.isinf(scores).any():
        raise DataError(f"{name} holds {scores[np.isinf(scores)][0]}: no mean is finite then", where=name)
    return scores


def _sums_by_group(values: NDArray[np.float64], groups: ArrayLike | None) -> NDArray[np.float64]:
    """``(G, K)`` from ``(N, K)``, clusters in the order of their ids."""
    if values.ndim != 2:
        raise ConfigError(f"values have {values.ndim - 1} dimensions, expected one value an object", where="values")
    if groups is None:
        return values
    with kernel_errors(ConfigError, "groups"):
        ids = np.asarray(groups)
    if ids.shape != values.shape[:1]:
        raise ConfigError(f"{len(values)} values and groups of shape {ids.shape}", where="groups")
    with kernel_errors(ConfigError, "groups", fix="ids of one kind, which sorts"):
        found, owner = np.unique(ids, return_inverse=True)
    sums = np.zeros((len(found), values.shape[1]))
    np.add.at(sums, owner, values)
    return sums


def _check_options(parts: NDArray[np.float64], confidence: float, draws: int, seed: int, method: str) -> None:
    if parts.ndim != 2 or not np.isfinite(parts).all():
        raise DataError(f"sums of shape {parts.shape} are not (clusters, K) finite numbers", where="sums")
    if not 0 < finite("confidence", confidence) < 1:
        raise ConfigError(f"confidence is {confidence}", where="confidence", fix="between 0 and 1, such as 0.95")
    whole("draws", draws, least=1)
    whole("seed", seed, most=2**64 - 1)
    choice("method", method, get_args(Method))
