"""Draws: uniform, inside, and dependent on their keys alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.prompts import PADDING, Prompts, concatenate, draw_keys, jitter_boxes, sample_points

RING = np.zeros((20, 30), bool)
RING[3:17, 4:26] = True
RING[6:14, 8:22] = False


def keys_of(count: int, seed: int = 0) -> np.ndarray:
    return draw_keys(seed, "image", [f"object-{i}" for i in range(count)])


def splitmix64(key: int, purpose: bytes, draws: int) -> list[int]:
    """The documented stream, in Python integers."""

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    state = mix(key ^ int.from_bytes(purpose, "big"))
    return [mix((state + (n + 1) * 0x9E3779B97F4A7C15) % 2**64) for n in range(draws)]


def test_keys_are_the_documented_ones() -> None:
    parts = [b"7", b"2", b"1", b"image", b"a"]
    data = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    expected = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    assert draw_keys(7, "image", ["a"], epoch=2, draw=1).tolist() == [expected]
    assert draw_keys(7, "image", []).shape == (0,)


def test_every_part_of_a_key_counts() -> None:
    base = draw_keys(0, "image", ["a"])
    others = [
        draw_keys(1, "image", ["a"]),
        draw_keys(0, "imag", ["ea"]),
        draw_keys(0, "image", ["b"]),
        draw_keys(0, "image", ["a"], epoch=1),
        draw_keys(0, "image", ["a"], draw=1),
    ]
    assert len({int(keys[0]) for keys in [base, *others]}) == 6


def test_points_are_the_documented_draws() -> None:
    masks = Masks.from_numpy(np.ones((7, 9), bool))
    for key in (0, 1, 2**64 - 1, 1234567890123456789):
        (first,) = splitmix64(key, b"points  ", 1)
        rank = first * 63 >> 64
        point = sample_points(masks, np.array([key], np.uint64))[0, 0]
        assert point.tolist() == [rank // 7, rank % 7]


def test_boxes_are_the_documented_draws() -> None:
    # A ratio of an eighth: the products are exact.
    box = np.array([[10.0, 20.0, 42.0, 84.0]])
    for key in (0, 2**63):
        unit = np.array(splitmix64(key, b"boxes   ", 4)) // 2**11 / 2**53
        moved = box[0] + (2 * unit - 1) * [4.0, 8.0, 4.0, 8.0]
        ours = _rust.jitter_boxes(box, np.array([key], np.uint64), 0.125, 20.0, 200, 200)
        assert np.array_equal(ours[0], moved)


def test_points_are_inside_and_uniform() -> None:
    draws = 40_000
    masks = Masks.from_numpy(RING)[np.zeros(draws, int)]
    points = sample_points(masks, keys_of(draws))[:, 0].astype(int)
    assert RING[points[:, 1], points[:, 0]].all()
    histogram = np.zeros(RING.shape, int)
    np.add.at(histogram, (points[:, 1], points[:, 0]), 1)
    assert stats.chisquare(histogram[RING]).pvalue > 1e-3


def test_every_place_in_a_set_of_points_is_uniform() -> None:
    draws = 20_000
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    points = sample_points(Masks.from_numpy(mask)[np.zeros(draws, int)], keys_of(draws), 4).astype(int)
    ranks = points[..., 1] * 5 + points[..., 0]
    for place in range(4):
        assert stats.chisquare(np.unique(ranks[:, place], return_counts=True)[1]).pvalue > 1e-3
    assert all(len(set(row)) == 4 for row in ranks.tolist())
    pairs = ranks[:, 0] * 20 + ranks[:, 3]
    assert stats.chisquare(np.unique(pairs, return_counts=True)[1]).pvalue > 1e-3


def test_a_biased_draw_would_be_noticed() -> None:
    rng = np.random.default_rng(0)
    biased = np.minimum(rng.random(40_000), rng.random(40_000) + 0.1) * RING.sum()
    assert stats.chisquare(np.bincount(biased.astype(int), minlength=RING.sum())).pvalue < 1e-6


def test_small_masks_repeat_only_when_they_must() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 1:4] = True
    points = sample_points(Masks.from_numpy(mask), keys_of(1), 50)[0]
    assert len(np.unique(points[:3], axis=0)) == 3
    assert set(points[:, 0].tolist()) == {1.0, 2.0, 3.0}


def test_draws_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(1)
    masks = Masks.from_numpy(rng.random((300, 60, 70)) < 0.3)
    keys = keys_of(300)
    together = sample_points(masks, keys, 9)
    order = rng.permutation(300)
    assert np.array_equal(sample_points(masks[order], keys[order], 9), together[order])
    alone = np.concatenate([sample_points(masks[i], keys[i : i + 1], 9) for i in range(300)])
    assert np.array_equal(alone, together)
    assert np.array_equal(sample_points(masks, keys, 2), together[:, :2])
    assert not np.array_equal(sample_points(masks, keys_of(300, seed=1), 9), together)


def test_nothing_to_draw_from() -> None:
    masks = Masks.from_numpy(np.stack([RING, np.zeros_like(RING)]))
    with pytest.raises(DataError, match="mask 1 is empty"):
        sample_points(masks, keys_of(2))
    for keys in (keys_of(1), keys_of(2).astype(np.int64)):
        with pytest.raises(ConfigError, match="expected uint64"):
            sample_points(masks, keys)
    assert sample_points(Masks.empty(5, 5), keys_of(0)).shape == (0, 1, 2)
    assert sample_points(masks, keys_of(2), 0).shape == (2, 0, 2)


def test_jitter_is_uniform_within_its_reach() -> None:
    draws = 20_000
    box = np.array([100.0, 120.0, 180.0, 620.0])
    moved = jitter_boxes(np.tile(box, (draws, 1)), keys_of(draws), height=1000, width=1000)
    shift = moved - box
    for coordinate, reach in enumerate([8.0, 20.0, 8.0, 20.0]):
        assert np.abs(shift[:, coordinate]).max() <= reach + 1e-4
        uniform = stats.uniform(-reach, 2 * reach)
        assert stats.kstest(shift[:, coordinate], uniform.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(shift.T) - np.eye(4)).max() < 0.03


def test_jittered_boxes_stay_on_the_image_and_in_order() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 130, (5000, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    for ratio in (0.1, 1.5):
        moved = jitter_boxes(boxes, keys_of(5000), ratio=ratio, height=80, width=100)
        assert moved.dtype == np.float32
        assert (moved[:, :2] <= moved[:, 2:]).all()
        assert (moved >= 0).all()
        assert (moved <= [99, 79, 99, 79]).all()
    still = jitter_boxes(boxes.clip(0, 79), keys_of(5000), ratio=0, height=80, width=80)
    assert np.array_equal(still, boxes.clip(0, 79).astype(np.float32))


def test_boxes_that_are_none() -> None:
    size = {"height": 50, "width": 50}
    with pytest.raises(DataError, match=r"box 1: .* out of order"):
        jitter_boxes(np.array([[0, 0, 1, 1], [0, 0, -1, -1]]), keys_of(2), **size)
    with pytest.raises(DataError, match=r"box 0: .* not finite"):
        jitter_boxes(np.array([[0, np.nan, 1, 1]]), keys_of(1), **size)
    with pytest.raises(ConfigError, match="keys"):
        jitter_boxes(np.zeros((2, 4)), keys_of(1), **size)
    assert jitter_boxes(np.zeros((0, 4)), keys_of(0), **size).shape == (0, 4)


def prompts(count: int, points: int, *, logits: bool = False) -> Prompts:
    rng = np.random.default_rng(points)
    return Prompts(
        image_index=np.arange(count),
        points=rng.random((count, points, 2)).astype(np.float32),
        labels=np.ones((count, points), np.int64),
        boxes=np.full((count, 4), np.nan, np.float32),
        mask_logits=np.ones((count, 4, 4), np.float32) if logits else None,
    )


def test_concatenate_pads_points() -> None:
    a, b = prompts(2, 1), prompts(3, 4)
    both = concatenate([a, b])
    assert both.points.shape == (5, 4, 2)
    assert both.labels[:2, 1:].tolist() == [[PADDING] * 3] * 2
    assert np.array_equal(both.points[:2, :1], a.points)
    assert np.array_equal(both.points[2:], b.points)
    assert both.num_points.tolist() == [1, 1, 4, 4, 4]
    assert both.is_one_point.tolist() == [True, True, False, False, False]
    assert both.image_index.tolist() == [0, 1, 0, 1, 2]
    assert both.mask_logits is None
    assert concatenate([prompts(1, 1, logits=True)] * 2).mask_logits.shape == (2, 4, 4)  # type: ignore[union-attr]


def test_concatenate_refuses_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="no prompts"):
        concatenate([])
    small = replace(prompts(1, 1), mask_logits=np.zeros((1, 2, 2), np.float32))
    with pytest.raises(ConfigError, match="mask logits"):
        concatenate([small, replace(small, mask_logits=np.zeros((1, 3, 3), np.float32))])


def test_prompts_with_and_without_mask_logits_stay_what_they_are() -> None:
    both = concatenate([prompts(1, 1), prompts(1, 1, logits=True)])
    assert both.has_mask.tolist() == [False, True]
    assert both.is_one_point.tolist() == [True, False]
    assert both[1:].has_mask.tolist() == [True]
    assert not prompts(2, 1).has_mask.any()
