"""Masks of logits: the signs of torch's two bilinear interpolations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from samfast import _rust
from samfast.errors import DataError
from samfast.frames import Frame, PreprocessSpec
from samfast.masks import Masks, logits_to_packed

torch = pytest.importorskip("torch")

SPECS = [
    PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1)),
    PreprocessSpec(512, 32, 128, (0, 0, 0), (1, 1, 1)),
    PreprocessSpec(1008, 72, 288, (0, 0, 0), (1, 1, 1), resize="stretch"),
    PreprocessSpec(64, 4, 16, (0, 0, 0), (1, 1, 1)),
]


def with_torch(logits: NDArray[np.float32], frame: Frame) -> NDArray[np.float32]:
    """``Sam.postprocess_masks``."""
    interpolate, spec = torch.nn.functional.interpolate, frame.spec
    maps = torch.from_numpy(logits)[:, None]
    maps = interpolate(maps, (spec.size, spec.size), mode="bilinear", align_corners=False)
    maps = maps[..., : frame.resized[0], : frame.resized[1]]
    return interpolate(maps, (frame.height, frame.width), mode="bilinear", align_corners=False)[:, 0].numpy()


def check(logits: NDArray[np.float32], frame: Frame, threshold: float) -> None:
    full = with_torch(logits, frame)
    ours = Masks.from_logits(logits, frame, threshold=threshold).numpy()
    small = min(2 * frame.spec.size, frame.height + frame.width) <= 128
    if small or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        # torch rounds otherwise without FMA, and for small outputs on one thread: what rounding decides may differ.
        undecided = np.abs(full - threshold) <= 1e-6 * np.abs(logits).max()
        assert np.array_equal(ours | undecided, (full > threshold) | undecided)
    else:
        assert np.array_equal(ours, full > threshold)
    words = logits_to_packed(logits, frame, threshold=threshold)
    assert np.array_equal(_rust.bits_to_masks(words, frame.width).view(bool), ours)


def maps(side: int, seed: int) -> NDArray[np.float32]:
    """Noise, blobs, terraces that end at the threshold, tiny and one-sided logits."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((side, side))
    blobs = ndimage.gaussian_filter(noise, side / 40) * 20
    cases = [
        noise,
        blobs,
        blobs.round(),
        noise * 1e-30,
        np.abs(noise),
        -np.abs(noise),
        np.zeros_like(noise),
        blobs * 1e30,
    ]
    return np.stack(cases).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS, ids=["sam1", "medsam2", "sam3", "small"])
@pytest.mark.parametrize(
    "size", [(551, 893), (480, 640), (300, 200), (37, 900), (1024, 1024), (64, 65), (1, 1), (900, 7)]
)
def test_sizes(spec: PreprocessSpec, size: tuple[int, int]) -> None:
    for threshold in (0.0, 1.0, -0.3):
        check(maps(spec.low_res, sum(size)), spec.frame(*size), threshold)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(SPECS[1:]), st.integers(0, 2**32), st.floats(-1, 1))
def test_any_size(height: int, width: int, spec: PreprocessSpec, seed: int, threshold: float) -> None:
    check(maps(spec.low_res, seed), spec.frame(height, width), threshold)


def test_the_last_bit_decides() -> None:
    """Logits whose interpolated values straddle the threshold by one unit in the last place."""
    rng = np.random.default_rng(0)
    level = np.float32(0.7)
    logits = np.nextafter(level, rng.choice([-np.inf, np.inf], (4, 128, 128)).astype(np.float32))
    check(logits.astype(np.float32), SPECS[1].frame(500, 431), float(level))


def test_one_interpolation_would_be_noticed() -> None:
    frame, logits = SPECS[0].frame(551, 893), maps(256, 0)[:1]
    once = torch.nn.functional.interpolate(torch.from_numpy(logits)[:, None], (893, 893), mode="bilinear")[:, 0, :551]
    assert (Masks.from_logits(logits, frame).numpy() != (once > 0).numpy()).any()


def test_bad_logits() -> None:
    frame = SPECS[3].frame(30, 40)
    good = np.zeros((2, 16, 16), np.float32)
    for logits in (good.astype(float), good[0], good[:, :15], good[:, :, :8]):
        for read in (Masks.from_logits, logits_to_packed):
            with pytest.raises(DataError, match="logits are"):
                read(logits, frame)
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[1, 3, 4] = value
        with pytest.raises(DataError, match="map 1 holds the logit"):
            Masks.from_logits(bad, frame)
    assert len(Masks.from_logits(good[:0], frame)) == 0
    assert np.array_equal(Masks.from_logits(np.asfortranarray(good + 1), frame).numpy(), np.ones((2, 30, 40), bool))
    for sizes in [(64, 65, 48, 30, 40), (64, 48, 65, 30, 40), (0, 1, 1, 30, 40), (64, 48, 64, 0, 40)]:
        with pytest.raises(ValueError):
            _rust.logits_to_rle(good, *sizes, 0.0)
