"""Training prompts: where they lie, and what they depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.inference.contract import OutputContract
from samfast.masks import Masks
from samfast.train.config import REGIME_NAMES
from samfast.train.regimes import REGIMES, choose_objects, get_regime, training_prompts
from samfast.train.targets import visible

H, W, N = 60, 90, 6


@pytest.fixture
def sample() -> Sample:
    ids = tuple(f"a{n}" for n in range(N))
    return Sample("x.png", Path("x.png"), "ab" * 32, (H, W), "train", "x", "labelled", ids)


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Six blobs with ragged borders, and an ignored band across them."""
    draw = np.random.default_rng(0)
    masks = np.zeros((N, H, W), bool)
    for n in range(N):
        y, x = 5 + 25 * (n % 2), 4 + 28 * (n // 2)
        masks[n, y : y + 20, x : x + 22] = draw.random((20, 22)) < 0.7
    ignore = np.zeros((H, W), bool)
    ignore[15:35] = True
    return masks, ignore


def target_of(masks: np.ndarray, ignore: np.ndarray, sample: Sample, order: list[int] | None = None) -> Target:
    order = list(range(N)) if order is None else order
    ids = tuple(sample.annotation_ids[n] for n in order)
    hidden = Masks.from_numpy(ignore[None])
    return visible(Target(Masks.from_numpy(masks[order]), np.zeros(len(order), np.int64), ids, hidden, "instance"))


def draw(regime: str, target: Target, sample: Sample, *, seed: int = 0, epoch: int = 1, rounds: int = 1):
    objects = np.arange(len(target.ids))
    return training_prompts(
        get_regime(regime), target, sample, objects, seed=seed, epoch=epoch, prompts_per_object=rounds
    )


def test_every_name_has_a_regime() -> None:
    assert tuple(REGIMES) == REGIME_NAMES
    with pytest.raises(ConfigError, match="lasso"):
        get_regime("lasso")


def test_contracts() -> None:
    assert get_regime("point").contract == OutputContract(one_point=(0, 1, 2, 3), other=())
    assert get_regime("box").contract == OutputContract(one_point=(), other=(0,))
    for mixed in ("point+box", "clicks"):
        assert get_regime(mixed).contract == OutputContract(one_point=(0, 1, 2, 3), other=(0,))


def test_points_lie_inside_and_never_in_the_ignored_region(arrays, sample) -> None:
    masks, ignore = arrays
    seen = np.zeros((N, H, W), bool)
    for epoch in range(60):
        prompts = draw("point", target_of(masks, ignore, sample), sample, epoch=epoch)
        assert prompts.points.shape == (N, 1, 2)
        x, y = prompts.points[:, 0].astype(int).T
        assert masks[np.arange(N), y, x].all()
        assert not ignore[y, x].any()
        seen[np.arange(N), y, x] = True
    rows = np.flatnonzero(seen.any(axis=(0, 2)))
    assert rows.min() < 10
    assert rows.max() > 45  # not from one end of the masks only


def test_boxes_are_jittered_around_the_visible_part(arrays, sample) -> None:
    masks, ignore = arrays
    shown = masks & ~ignore
    boxes = np.stack([draw("box", target_of(masks, ignore, sample), sample, epoch=e).boxes for e in range(200)])
    for n in range(N):
        y, x = np.nonzero(shown[n])
        tight = np.array([x.min(), y.min(), x.max(), y.max()])
        side = np.array([x.max() - x.min() + 1, y.max() - y.min() + 1] * 2)
        off = boxes[:, n] - tight
        assert np.abs(off).max() <= 20
        assert (np.abs(off).mean(0) < 0.2 * side).all()
        assert (off.std(0) > 0.02 * side).all()
    assert boxes.min() >= 0
    assert (boxes.max((0, 1)) <= [W - 1, H - 1] * 2).all()


def test_the_mixed_regime_draws_both_half_the_time(arrays, sample) -> None:
    masks, ignore = arrays
    target = target_of(masks, ignore, sample)
    boxed = np.stack([draw("point+box", target, sample, epoch=e).has_box for e in range(100)])
    assert 0.42 < boxed.mean() < 0.58
    assert boxed.any(1).mean() > 0.9  # mixed across objects, not by epoch
    prompts = draw("point+box", target, sample, rounds=20)
    assert (prompts.is_one_point ^ prompts.has_box).all()
    points, boxes = draw("point", target, sample, rounds=20), draw("box", target, sample, rounds=20)
    assert np.array_equal(prompts.boxes[prompts.has_box], boxes.boxes[prompts.has_box])
    assert np.array_equal(prompts.points[prompts.is_one_point], points.points[prompts.is_one_point])


@pytest.mark.parametrize("regime", REGIME_NAMES)
def test_prompts_depend_on_what_they_are_for_alone(regime, arrays, sample) -> None:
    masks, ignore = arrays
    whole = draw(regime, target_of(masks, ignore, sample), sample)
    order = [4, 1, 5]
    part = draw(regime, target_of(masks, ignore, sample, order), sample)
    assert np.array_equal(part.points, whole.points[order])
    assert np.array_equal(part.boxes, whole.boxes[order], equal_nan=True)
    for other in (draw(regime, target_of(masks, ignore, sample), sample, epoch=2),
                  draw(regime, target_of(masks, ignore, sample), sample, seed=1)):  # fmt: skip
        assert not np.array_equal(other.points, whole.points) or not np.array_equal(
            other.boxes, whole.boxes, equal_nan=True
        )


def test_object_choice_is_fresh_each_epoch_and_skips_what_is_ignored(arrays, sample) -> None:
    masks, ignore = arrays
    masks[2] &= ignore
    target = target_of(masks, ignore, sample)
    chosen = [choose_objects(target, sample, seed=0, epoch=e, at_most=2) for e in range(40)]
    assert all(len(c) == 2 for c in chosen)
    assert target.ids == ("a0", "a1", "a3", "a4", "a5")
    assert {int(n) for c in chosen for n in c} == set(range(5))
    assert choose_objects(target, sample, seed=0, epoch=0, at_most=99).tolist() == list(range(5))
    shuffled = target_of(masks, ignore, sample, [5, 3, 0, 1, 4, 2])
    found = choose_objects(shuffled, sample, seed=0, epoch=7, at_most=2)
    assert {shuffled.ids[n] for n in found} == {target.ids[n] for n in chosen[7]}
