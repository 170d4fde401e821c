"""Surface distances: MONAI's, DeepMind's and MedPy's numbers, the last from their definition with scipy."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.metrics import surface_distances

Mask = NDArray[np.bool_]
Scores = dict[str, float]


def medpy(a: Mask, b: Mask, spacing: tuple[float, float], tolerance: float) -> Scores:
    """MedPy's ``hd``, ``hd95`` and ``assd``; Dice of its distances."""
    rims = [mask ^ ndimage.binary_erosion(mask, ndimage.generate_binary_structure(2, 1)) for mask in (a, b)]
    fields = [ndimage.distance_transform_edt(~rim, sampling=spacing) for rim in rims]
    there, back = fields[1][rims[0]], fields[0][rims[1]]
    pooled = np.hstack((there, back))
    return {
        "hd": pooled.max(),
        "hd95": np.percentile(pooled, 95),
        "assd": np.mean((there.mean(), back.mean())),
        "nsd": (pooled <= tolerance).mean(),
    }


def deepmind(a: Mask, b: Mask, spacing: tuple[float, float], tolerance: float) -> Scores:
    """DeepMind's package by its definition: corners, their contour lengths, weighted quantiles."""
    height, width = spacing
    diagonal = 0.5 * math.sqrt(height**2 + width**2)
    by_code = np.zeros(16)
    by_code[[1, 2, 4, 8, 7, 11, 13, 14]] = diagonal
    by_code[[3, 12]], by_code[[5, 10]], by_code[[6, 9]] = width, height, 2 * diagonal
    codes = []
    for mask in (a, b):
        m = np.pad(mask, 1).astype(int)
        codes.append(8 * m[:-1, :-1] + 4 * m[:-1, 1:] + 2 * m[1:, :-1] + m[1:, 1:])
    rims = [(code > 0) & (code < 15) for code in codes]
    fields = [ndimage.distance_transform_edt(~rim, sampling=spacing) for rim in rims]
    sides = []
    for own, other in ((0, 1), (1, 0)):
        pairs = np.array(sorted(zip(fields[other][rims[own]], by_code[codes[own][rims[own]]], strict=True)))
        sides.append((pairs[:, 0], pairs[:, 1]))

    def quantile(q: float) -> float:
        ends = []
        for distances, lengths in sides:
            shares = np.cumsum(lengths) / np.sum(lengths)
            ends.append(distances[min(np.searchsorted(shares, q), len(distances) - 1)])
        return max(ends)

    within = sum(np.sum(lengths[distances <= tolerance]) for distances, lengths in sides)
    return {
        "hd": quantile(1.0),
        "hd95": quantile(0.95),
        "assd": np.mean([np.sum(d * w) / np.sum(w) for d, w in sides]),
        "nsd": within / sum(np.sum(lengths) for _, lengths in sides),
    }


def torch_quantile(values: NDArray[np.float32], q: float) -> np.float32:
    """``torch.quantile`` in single precision."""
    values = np.sort(values)
    rank = np.float32(q) * np.float32(len(values) - 1)
    low, weight = int(rank), rank - np.floor(rank)
    below, above = values[low], values[min(low + 1, len(values) - 1)]
    step = above - below
    return below + weight * step if weight < 0.5 else above - step * (np.float32(1) - weight)


def monai(a: Mask, b: Mask, spacing: tuple[float, float], tolerance: float) -> Scores:
    """MONAI's numbers by their definition, in single precision."""
    rims = [mask ^ ndimage.binary_erosion(mask) for mask in (a, b)]
    fields = [ndimage.distance_transform_edt(~rim, sampling=spacing).astype(np.float32) for rim in rims]
    there, back = fields[1][rims[0]], fields[0][rims[1]]
    pooled = np.hstack((there, back))
    return {
        "hd": pooled.max(),
        "hd95": max(torch_quantile(there, 0.95), torch_quantile(back, 0.95)),
        "assd": pooled.mean(dtype=np.float64),
        "nsd": (pooled <= np.float32(tolerance)).mean(),
    }


DEFINITIONS = {"medpy": medpy, "monai": monai, "deepmind": deepmind}
RELATIVE = {"medpy": 1e-9, "monai": 1e-6, "deepmind": 1e-9}


def blob(rng: np.random.Generator, height: int, width: int) -> Mask:
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(rng.integers(1, 4)):
        cy, cx, radius = *rng.uniform(0, [height, width]), rng.uniform(0.7, max(2, min(height, width)) / 2)
        mask ^= np.hypot(y - cy, x - cx) < radius
    return mask | (rng.random(mask.shape) < rng.choice([0, 0, 0.002, 0.3]))


def check(a: Mask, b: Mask, convention: Any, spacing: tuple[float, float], tolerance: float) -> None:
    expected = DEFINITIONS[convention](a, b, spacing, tolerance)
    found = surface_distances(a, b, convention=convention, spacing=spacing, tolerance=tolerance)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=RELATIVE[convention], abs=1e-12), name


@pytest.mark.parametrize("convention", DEFINITIONS)
@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 70), st.integers(1, 140))
def test_definitions(convention: str, seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = blob(rng, height, width), blob(rng, height, width)
    assume(a.any() and b.any())
    check(a, b, convention, (1.0, 1.0), float(rng.choice([0, 1, 1.5, 3])))


@pytest.mark.parametrize("convention", DEFINITIONS)
@pytest.mark.parametrize("spacing", [(0.5, 0.5), (2.0, 0.7), (0.3, 1.9)])
def test_spacing(convention: str, spacing: tuple[float, float]) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        a, b = blob(rng, 60, 90), blob(rng, 60, 90)
        if a.any() and b.any():
            check(a, b, convention, spacing, 2.2)


@pytest.mark.parametrize("convention", DEFINITIONS)
def test_far_apart_and_at_the_edges(convention: str) -> None:
    corners = np.zeros((4, 300, 500), bool)
    corners[0, :3, :2] = corners[1, -2:, -4:] = corners[2, 100:200, 200:300] = corners[3] = True
    for a in corners:
        for b in corners:
            check(a, b, convention, (1.0, 1.0), 1.0)


@pytest.mark.parametrize("convention", DEFINITIONS)
def test_outlines_of_many_distances(convention: str) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:400, :700]
    for _ in range(4):
        (cy, cx), (dy, dx) = rng.uniform(100, 300, 2), rng.uniform(-90, 90, 2)
        angle = np.arctan2(y - cy, x - cx)
        a = np.hypot(y - cy, x - cx) < 80 + 15 * np.sin(5 * angle)
        b = np.hypot(y - cy - dy, x - cx - dx) < 70 + 20 * np.cos(7 * angle)
        check(a, b, convention, (1.0, 1.0), 5.0)


@pytest.mark.parametrize("seed", range(8))
def test_surface_distance_of_deepmind(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("surface_distance")
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    rng = np.random.default_rng(seed)
    a, b = blob(rng, 90, 120), blob(rng, 90, 120)
    spacing = [(1.0, 1.0), (2.0, 0.7)][seed % 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = package.compute_surface_distances(a, b, spacing)
    found = surface_distances(a, b, convention="deepmind", spacing=spacing, tolerance=[0.0, 1.0, 2.5])
    assert found["hd"].item() == pytest.approx(package.compute_robust_hausdorff(raw, 100), rel=1e-9)
    assert found["hd95"].item() == pytest.approx(package.compute_robust_hausdorff(raw, 95), rel=1e-9)
    assert found["assd"].item() == pytest.approx(np.mean(package.compute_average_surface_distance(raw)), rel=1e-9)
    expected = [package.compute_surface_dice_at_tolerance(raw, tolerance) for tolerance in (0.0, 1.0, 2.5)]
    assert found["nsd"][0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_monai_itself(seed: int) -> None:
    metrics: Any = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    a, b = blob(rng, 90, 120), blob(rng, 90, 120)
    spacing = [(1.0, 1.0), (2.0, 0.7)][seed % 2]
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (a, b)]
    options = {"include_background": True, "spacing": list(spacing)}
    found = surface_distances(a, b, spacing=spacing, tolerance=2.0)
    expected = {
        "hd": metrics.compute_hausdorff_distance(*pair, **options),
        "hd95": metrics.compute_hausdorff_distance(*pair, percentile=95, **options),
        "assd": metrics.compute_average_surface_distance(*pair, symmetric=True, **options),
        "nsd": metrics.compute_surface_dice(*pair, [2.0], **options),
    }
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6), name


def test_the_conventions_differ() -> None:
    rng = np.random.default_rng(3)
    a, b = blob(rng, 200, 200), blob(rng, 200, 200)
    found = [surface_distances(a, b, convention=name)["hd95"].item() for name in ("monai", "medpy", "deepmind")]
    assert len({round(value, 6) for value in found}) == 3


def test_batches_and_forms() -> None:
    rng = np.random.default_rng(4)
    a, b = (np.stack([blob(rng, 50, 70) for _ in range(5)]) for _ in range(2))
    a[1], b[2], a[3], b[3] = False, False, False, False
    together = surface_distances(a, b, tolerance=(1.0, 2.0))
    assert together["nsd"].shape == (5, 2)
    forms = [Masks.from_numpy(a), a.astype(np.uint8) * 7, a.astype(np.float32) - 0.5]
    for form in forms:
        other = surface_distances(form, Masks.from_numpy(b), tolerance=(1.0, 2.0))
        for name, values in together.items():
            assert np.array_equal(other[name], values, equal_nan=True)
    for index in range(5):
        alone = surface_distances(a[index], b[index], tolerance=2.0)
        assert alone["nsd"].shape == (1,)
        assert np.array_equal(alone["hd95"], together["hd95"][index : index + 1], equal_nan=True)


@pytest.mark.parametrize("convention", DEFINITIONS)
def test_empty_masks(convention: Any) -> None:
    mask, none = np.ones((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    both = surface_distances(none, none, convention=convention)
    assert all(np.isnan(values).all() for values in both.values())
    perfect = surface_distances(none, none, convention=convention, empty="perfect")
    assert [perfect[name][0] for name in ("hd", "hd95", "assd", "nsd")] == [0, 0, 0, 1]
    for pair in ((mask, none), (none, mask)):
        one = surface_distances(*pair, convention=convention, empty="perfect")
        assert [one[name][0] for name in ("hd", "hd95", "assd", "nsd")] == [np.inf, np.inf, np.inf, 0]
    if convention == "medpy":
        for pair in ((none, none), (mask, none)):
            with pytest.raises(DataError, match="mask 0 is empty"):
                surface_distances(*pair, convention=convention, empty="convention")
    else:
        package = surface_distances(none, none, convention=convention, empty="convention")
        assert np.isinf(package["hd"]).all() if convention == "deepmind" else np.isnan(package["hd"]).all()
        assert np.isnan(package["nsd"]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"convention": "MONAI"},
        {"empty": "zero"},
        {"tolerance": -1.0},
        {"tolerance": math.nan},
        {"tolerance": [[1.0]]},
        {"spacing": 0.0},
        {"spacing": (1.0, math.inf)},
        {"spacing": (1.0, 1.0, 1.0)},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    mask = np.ones((4, 4), bool)
    with pytest.raises(ConfigError):
        surface_distances(mask, mask, **options)


def test_long_sides() -> None:
    for size in ((40_000, 3), (3, 40_000)):
        a, b = np.zeros((2, *size), bool)
        a[0, 0] = b[-1, -1] = True
        found = surface_distances(a, b, convention="medpy")
        assert found["hd"].item() == math.hypot(size[0] - 1, size[1] - 1)
