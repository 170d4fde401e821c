"""Masks as mask prompts."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.masks import Masks
from samfast.prompts import mask_logits

SPECS = [PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1)), PreprocessSpec(512, 32, 128, (0, 0, 0), (1, 1, 1))]


@pytest.mark.parametrize("spec", SPECS, ids=["sam1", "medsam2"])
def test_logits_are_those_of_the_covered_fraction(spec: PreprocessSpec) -> None:
    y, x = np.mgrid[:300, :200]
    masks = Masks.from_numpy(np.stack([(y - 150) ** 2 + (x - 90) ** 2 < 70**2, np.zeros((300, 200), bool)]))
    frame = spec.frame(300, 200)
    logits, covered = mask_logits(masks, frame), masks.rasterize(frame)
    assert logits.dtype == np.float32
    between = (covered > 1e-3) & (covered < 1 - 1e-3)
    assert between.any()
    assert np.allclose(1 / (1 + np.exp(-logits[between].astype(float))), covered[between], atol=1e-6)
    assert np.allclose(logits[covered == 1], np.log(999), rtol=1e-6)
    assert np.allclose(logits[1], -np.log(999), rtol=1e-6)
    assert (logits[:, frame.coverage() == 0] < -6).all()


def test_they_come_back_as_the_mask() -> None:
    y, x = np.mgrid[:300, :400]
    mask = np.hypot((y - 150) / 2, x - 180) < 60
    frame = SPECS[0].frame(300, 400)
    back = Masks.from_logits(mask_logits(Masks.from_numpy(mask), frame), frame).numpy()[0]
    assert (back & mask).sum() / (back | mask).sum() > 0.99
    assert (back & ~mask).sum() / (back | mask).sum() < 0.01


def test_what_does_not_fit() -> None:
    masks = Masks.from_numpy(np.ones((30, 40), bool))
    with pytest.raises(ConfigError):
        mask_logits(masks, SPECS[0].frame(40, 30))
    for epsilon in (0.0, 0.5, -1.0, np.nan):
        with pytest.raises(ConfigError, match="epsilon"):
            mask_logits(masks, SPECS[0].frame(30, 40), epsilon=epsilon)
    assert mask_logits(Masks.empty(30, 40), SPECS[0].frame(30, 40)).shape == (0, 256, 256)
