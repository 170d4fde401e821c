"""Corrective clicks and negative points, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats

from samfast import _rust
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks
from samfast.prompts import NEGATIVE, PADDING, POSITIVE, corrective_clicks, draw_keys, negative_points, sample_points

Mask = NDArray[np.bool_]


def keys_of(count: int) -> NDArray[np.uint64]:
    return draw_keys(0, "image", [str(i) for i in range(count)])


@st.composite
def some_pairs(draw: st.DrawFn) -> tuple[Mask, Mask, Mask]:
    """Predictions, targets and what to ignore, ``(N, H, W)`` each; some predictions are right."""
    height, width, count = draw(st.integers(1, 40)), draw(st.integers(1, 50)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    smooth = draw(st.sampled_from([0, 2, 6]))
    fields = ndimage.gaussian_filter(rng.standard_normal((3, count, height, width)), (0, 0, smooth, smooth))
    prediction, target, ignore = fields > fields.std() * np.array([0.2, 0, 1.5])[:, None, None, None]
    if draw(st.booleans()):
        prediction[0] = target[0]
    return prediction, target, ignore


def ritm(prediction: Mask, target: Mask, ignore: Mask, clicked: list[list[int]]) -> tuple[list[int], int]:
    depths = []
    for region in (target & ~prediction & ~ignore, prediction & ~target & ~ignore):
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        for x, y in clicked:
            depth[y, x] = 0
        depths.append(depth)
    missed, extra = depths
    if max(missed.max(), extra.max()) == 0:
        return [0, 0], PADDING
    is_missed = missed.max() > extra.max()
    depth = missed if is_missed else extra
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return [int(x), int(y)], POSITIVE if is_missed else NEGATIVE


@settings(max_examples=200, deadline=None)
@given(some_pairs())
def test_center_rule(masks: tuple[Mask, Mask, Mask]) -> None:
    prediction, target, ignore = (Masks.from_numpy(mask) for mask in masks)
    clicked: list[list[list[int]]] = [[] for _ in masks[0]]
    for _ in range(4):
        expected = [ritm(*each, done) for *each, done in zip(*masks, clicked, strict=True)]
        earlier = np.array(clicked, np.float32).reshape(len(target), -1, 2)
        points, labels = corrective_clicks(prediction, target, clicked=earlier, ignore=ignore)
        assert points.tolist() == [point for point, _ in expected]
        assert labels.tolist() == [label for _, label in expected]
        for done, (point, _) in zip(clicked, expected, strict=True):
            done.append(point)


@settings(max_examples=100, deadline=None)
@given(some_pairs(), st.integers(0, 2**63))
def test_random_rule_clicks_on_errors(masks: tuple[Mask, Mask, Mask], seed: int) -> None:
    prediction, target, ignore = masks
    keys = draw_keys(seed, "", [str(i) for i in range(len(target))])
    batches = (Masks.from_numpy(mask) for mask in masks)
    points, labels = corrective_clicks(next(batches), next(batches), keys, rule="random", ignore=next(batches))
    for i, ((x, y), label) in enumerate(zip(points.astype(int), labels, strict=True)):
        wrong = (prediction[i] != target[i]) & ~ignore[i]
        if label == PADDING:
            assert not wrong.any()
            assert (x, y) == (0, 0)
        else:
            assert wrong[y, x]
            assert label == (POSITIVE if target[i, y, x] else NEGATIVE)


def test_random_rule_is_uniform() -> None:
    target, prediction = np.zeros((2, 12, 15), bool)
    target[2:8, 2:9] = True
    prediction[5:11, 4:13] = True
    draws = 20_000
    batch = [Masks.from_numpy(mask)[np.zeros(draws, int)] for mask in (prediction, target)]
    points, _ = corrective_clicks(*batch, keys_of(draws), rule="random")
    x, y = points.astype(int).T
    seen = np.zeros(target.shape, int)
    np.add.at(seen, (y, x), 1)
    assert stats.chisquare(seen[prediction != target]).pvalue > 1e-3


def test_clicks_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(5)
    prediction, target = (Masks.from_numpy(rng.random((40, 50, 60)) < p) for p in (0.5, 0.4))
    keys, order = keys_of(40), rng.permutation(40)
    for options in ({}, {"keys": keys, "rule": "random"}):
        points, labels = corrective_clicks(prediction, target, **options)
        if options:
            options["keys"] = keys[order]
        again = corrective_clicks(prediction[order], target[order], **options)
        assert np.array_equal(again[0], points[order])
        assert np.array_equal(again[1], labels[order])


def test_nothing_to_correct() -> None:
    masks = Masks.from_numpy(np.eye(9, dtype=bool))
    for keys, rule in ((None, "center"), (keys_of(1), "random")):
        points, labels = corrective_clicks(masks, masks, keys, rule=rule)  # type: ignore[arg-type]
        assert (points.tolist(), labels.tolist()) == ([[0.0, 0.0]], [PADDING])
    elsewhere = corrective_clicks(masks, Masks.from_numpy(np.zeros((9, 9), bool)))
    assert elsewhere[1].tolist() == [NEGATIVE]


def test_what_does_not_fit() -> None:
    masks = Masks.from_numpy(np.ones((2, 4, 5), bool))
    clicks = np.zeros((2, 1, 2))
    for arguments, options in [
        ((masks, masks[:1]), {}),
        ((masks[:1], masks), {}),
        ((masks, Masks.from_numpy(np.ones((2, 5, 4), bool))), {}),
        ((masks, Masks.from_numpy(np.ones((2, 5, 4), bool)), keys_of(2)), {"rule": "random"}),
        ((masks, masks, keys_of(2)), {}),
        ((masks, masks), {"rule": "random"}),
        ((masks, masks, keys_of(3)), {"rule": "random"}),
        ((masks, masks, keys_of(2)), {"rule": "random", "clicked": clicks}),
        ((masks, masks), {"rule": "centre"}),
        ((masks, masks), {"clicked": clicks[:1]}),
        ((masks, masks), {"clicked": clicks[0]}),
    ]:
        with pytest.raises(ConfigError):
            corrective_clicks(*arguments, **options)  # type: ignore[arg-type]
    points, labels = corrective_clicks(masks, masks, clicked=np.full((2, 3, 2), np.nan))
    assert labels.tolist() == [PADDING] * 2
    assert not points.any()


@settings(max_examples=150, deadline=None)
@given(some_pairs(), st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 7.3, 1e9]))
def test_ring(masks: tuple[Mask, Mask, Mask], radius: float) -> None:
    target = masks[1]
    ours = Masks.from_numpy(target)
    size = (ours.height, ours.width)
    ring = Masks(*size, *_rust.rle_ring(ours.counts, ours.offsets, *size, radius)).numpy()
    for mask, found in zip(target, ring, strict=True):
        near = ndimage.distance_transform_edt(~mask) <= radius if mask.any() else np.zeros_like(mask)
        assert np.array_equal(found, near & ~mask)


@settings(max_examples=100, deadline=None)
@given(some_pairs(), st.sampled_from(["outside", "box", "ring"]))
def test_negatives_lie_where_they_should(masks: tuple[Mask, Mask, Mask], where: str) -> None:
    _, target, ignore = masks
    target[:, 0, 0] = False
    ignore[:, 0, 0] = False
    batch, ignored = Masks.from_numpy(target), Masks.from_numpy(ignore)
    points = negative_points(batch, keys_of(len(target)), 3, where=where, ring_px=2.5, ignore=ignored)  # type: ignore[arg-type]
    for mask, out, drawn in zip(target, ignore, points.astype(int), strict=True):
        free = ~mask & ~out
        y, x = mask.nonzero()
        box = np.zeros_like(mask)
        if where == "box" and len(y):
            box[y.min() : y.max() + 1, x.min() : x.max() + 1] = True
        if where == "ring" and len(y):
            box = ndimage.distance_transform_edt(~mask) <= 2.5
        region = free & box if (free & box).any() else free
        assert region[drawn[:, 1], drawn[:, 0]].all()
        assert len(np.unique(drawn, axis=0)) == min(3, region.sum())


def test_negatives_are_uniform_and_unrelated_to_positives() -> None:
    draws = 20_000
    mask = np.zeros((8, 10), bool)
    mask[:4] = True
    batch = Masks.from_numpy(mask)[np.zeros(draws, int)]
    negative = negative_points(batch, keys_of(draws))[:, 0].astype(int)
    positive = sample_points(batch, keys_of(draws))[:, 0].astype(int)
    ranks = (negative[:, 0] * 4 + negative[:, 1] - 4, positive[:, 0] * 4 + positive[:, 1])
    assert stats.chisquare(np.bincount(ranks[0], minlength=40)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(ranks[0] * 40 + ranks[1], minlength=1600)).pvalue > 1e-3


def test_no_room_for_negatives() -> None:
    masks = Masks.from_numpy(np.stack([np.zeros((4, 5), bool), np.ones((4, 5), bool)]))
    for where in ("outside", "box", "ring"):
        with pytest.raises(DataError, match="mask 1 leaves no pixel"):
            negative_points(masks, keys_of(2), where=where)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="where is"):
        negative_points(masks[0], keys_of(1), where="inside")  # type: ignore[arg-type]
    for ring_px in (-1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="ring_px"):
            negative_points(masks[0], keys_of(1), where="ring", ring_px=ring_px)
