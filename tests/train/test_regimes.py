"""Training prompts: where they lie, and what they depend on."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.inference.contract import OutputContract
from samfast.masks import Masks
from samfast.train.regimes import choose_objects, get_regime, training_prompts
from samfast.train.targets import visible

H, W, N = 60, 90, 6
FRAME = PreprocessSpec(96, 12, 48, (0, 0, 0), (1, 1, 1)).frame(H, W)
FRESH = ("point", "box", "point+box", "point&box", "points:3,2", "center+box", "mask", "point+mask", "clicks:3", "sam")
FIXED = ("center", "center@8", "centroid-inside", "farthest")


@pytest.fixture
def sample() -> Sample:
    ids = tuple(f"a{n}" for n in range(N))
    return Sample("x.png", "x.png", "ab" * 32, (H, W), "train", "x", "labelled", ids)


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
        get_regime(regime), target, sample, FRAME, objects, seed=seed, epoch=epoch, prompts_per_object=rounds
    )


@pytest.mark.parametrize(
    "name", ["lasso", "", "point+", "point&", "clicks:0", "points:0,2", "mask~0%", "none+box", "sam+box"]
)
def test_what_is_no_regime_says_what_is(name) -> None:
    with pytest.raises(ConfigError, match=r"points:K|clicks:1") as caught:
        get_regime(name)
    assert repr(name) in str(caught.value) or name == ""


def test_contracts() -> None:
    assert get_regime("point").contract == OutputContract(one_point=(0, 1, 2, 3), other=())
    assert get_regime("box").contract == OutputContract(one_point=(), other=(0,))
    for mixed in ("point+box", "clicks", "clicks:2", "sam", "center+point&box"):
        assert get_regime(mixed).contract == OutputContract(one_point=(0, 1, 2, 3), other=(0,))
    for lone in ("center", "center@32", "centroid-inside", "centroid-inside@32", "points:1", "clicks:1"):
        assert get_regime(lone).contract.one_point == (0, 1, 2, 3)
    for other in ("points:2", "points:1,1", "point&box", "mask", "farthest"):
        assert get_regime(other).contract == OutputContract(one_point=(), other=(0,))


def test_what_a_regime_is_validated_with() -> None:
    assert get_regime("point+box").kinds == get_regime("clicks:4").kinds == get_regime("sam").kinds == ("point", "box")
    assert get_regime("box~30%").kinds == ("box",)
    assert get_regime("center&box+mask").kinds == ("center&box", "mask~10%")


def test_alternatives_are_equally_likely_whatever_their_number(arrays, sample) -> None:
    target = target_of(*arrays, sample)
    drawn = [draw("point+box+mask+points:2", target, sample, epoch=epoch) for epoch in range(300)]
    shares = [
        np.mean([prompts.is_one_point for prompts in drawn]),
        np.mean([prompts.has_box for prompts in drawn]),
        np.mean([prompts.has_mask for prompts in drawn]),
        np.mean([prompts.num_points == 2 for prompts in drawn]),
    ]
    assert sum(shares) == 1
    assert np.allclose(shares, 0.25, atol=0.05)


def test_sams_schedule_repeats_the_answer_once_among_the_clicks_and_at_the_end() -> None:
    regime = get_regime("sam")
    keys = np.random.default_rng(0).integers(0, 2**63, (2000, regime.corrections)).astype(np.uint64)
    added = regime.adds_click(keys)
    assert added.shape == (2000, 10)
    assert (added.sum(1) == 8).all()
    assert not added[:, -1].any()
    assert np.allclose((~added[:, :-1]).mean(0), 1 / 9, atol=0.03)
    assert get_regime("clicks:5").adds_click(keys[:, :4]).all()


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


@pytest.mark.parametrize("regime", FRESH + FIXED)
def test_prompts_depend_on_what_they_are_for_alone(regime, arrays, sample) -> None:
    masks, ignore = arrays
    whole = draw(regime, target_of(masks, ignore, sample), sample)
    order = [4, 1, 5]
    part = draw(regime, target_of(masks, ignore, sample, order), sample)
    assert np.array_equal(part.points, whole.points[order])
    assert np.array_equal(part.boxes, whole.boxes[order], equal_nan=True)
    if whole.mask_logits is not None:
        assert np.array_equal(part.mask_logits, whole.mask_logits[order], equal_nan=True)
    for other in (draw(regime, target_of(masks, ignore, sample), sample, epoch=2),
                  draw(regime, target_of(masks, ignore, sample), sample, seed=1)):  # fmt: skip
        is_fresh = [
            not np.array_equal(getattr(other, name), getattr(whole, name), equal_nan=True)
            for name in ("points", "boxes", "mask_logits")
            if getattr(whole, name) is not None
        ]
        assert any(is_fresh) == (regime in FRESH)


def test_every_object_takes_part_once_before_any_does_again(arrays, sample) -> None:
    masks, ignore = arrays
    masks[2] &= ignore
    target = target_of(masks, ignore, sample)
    assert target.ids == ("a0", "a1", "a3", "a4", "a5")
    chosen = [choose_objects(target.ids, sample.key, seed=0, epoch=epoch, at_most=2).tolist() for epoch in range(1, 31)]
    assert {len(each) for each in chosen} == {1, 2}
    turns = [np.concatenate(chosen[start : start + 3]).tolist() for start in range(0, 30, 3)]
    assert all(sorted(turn) == list(range(5)) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 5  # shuffled anew
    assert choose_objects(target.ids, sample.key, seed=0, epoch=1, at_most=99).tolist() == list(range(5))
    shuffled = target_of(masks, ignore, sample, [5, 3, 0, 1, 4, 2])
    found = choose_objects(shuffled.ids, sample.key, seed=0, epoch=8, at_most=2)
    assert {shuffled.ids[n] for n in found} == {target.ids[n] for n in chosen[7]}
    assert choose_objects((), sample.key, seed=0, epoch=3, at_most=2).tolist() == []
