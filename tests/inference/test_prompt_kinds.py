"""Prompt kinds: what they ask for, by their definitions in numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from samfast.data.types import Target
from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.inference.prompt_kinds import prompt_kind
from samfast.inference.tokens import tokenize
from samfast.masks import Masks
from samfast.prompts import NEGATIVE, PADDING, POSITIVE, Prompts

H, W, N = 50, 70, 5
SPEC = PreprocessSpec(96, 12, 48, (0, 0, 0), (1, 1, 1))
FRAME = SPEC.frame(H, W)


@pytest.fixture
def shown() -> np.ndarray:
    """Blobs; the last is the whole image, the one before it two pixels."""
    draw = np.random.default_rng(1)
    masks = np.zeros((N, H, W), bool)
    for mask in masks[:3]:
        y, x = draw.integers(0, 20, 2)
        mask[y : y + 22, x : x + 30] = ndimage.gaussian_filter(draw.random((22, 30)), 2) > 0.48
    masks[3, 10, 20:22] = True
    masks[4] = True
    return masks


def ask(kind: str, masks: np.ndarray, *, seed: int = 0, ignore: np.ndarray | None = None) -> Prompts:
    keys = np.random.default_rng(seed).integers(0, 2**63, len(masks)).astype(np.uint64)
    hidden = Masks.empty(H, W) if ignore is None else Masks.from_numpy(ignore[None])
    ids = tuple(map(str, range(len(masks))))
    target = Target(Masks.from_numpy(masks), np.zeros(len(masks), np.int64), ids, hidden, "instance")
    return prompt_kind(kind).draw(target, FRAME, keys)


def at(masks: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``(N, M)``: what the masks are at their points."""
    x, y = points.astype(int).transpose(2, 0, 1)
    return masks[np.arange(len(masks))[:, None], y, x]


def test_points_inside_and_outside_as_many_as_there_are(shown) -> None:
    ignore = np.zeros((H, W), bool)
    ignore[:, 60:] = True
    shown &= ~ignore
    for seed in range(20):
        prompts = ask("points:4,3", shown, seed=seed, ignore=ignore)
        assert prompts.labels.shape == (N, 7)
        inside, outside = prompts.labels == POSITIVE, prompts.labels == NEGATIVE
        assert inside.sum(1).tolist() == [4, 4, 4, 2, 4]
        assert outside.sum(1).tolist() == [3, 3, 3, 3, 0]  # nothing is outside of the whole image
        hit = at(shown, prompts.points)
        assert hit[inside].all()
        assert not hit[outside].any()
        assert not at(np.broadcast_to(ignore, shown.shape), prompts.points)[inside | outside].any()
        for row, count in zip(prompts.points, inside.sum(1), strict=True):
            assert len(np.unique(row[:count], axis=0)) == count
    assert (tokenize(prompts, [FRAME]).labels[4] == PADDING).sum() == 3


def test_centres_are_deepest_inside_and_snap_to_sams_grid(shown) -> None:
    points = ask("center", shown).points[:, 0]
    for mask, (x, y) in zip(shown[:4], points, strict=False):
        depth = ndimage.distance_transform_edt(mask)
        assert depth[int(y), int(x)] == depth.max()
    snaps_to_the_grid(points, ask("center@8", shown).points[:, 0])


def test_centres_of_mass_snap_to_sams_grid_as_well(shown) -> None:
    points = ask("centroid-inside", shown).points[:, 0]
    assert not np.array_equal(points, ask("center", shown).points[:, 0])
    snaps_to_the_grid(points, ask("centroid-inside@8", shown).points[:, 0])


def snaps_to_the_grid(points: np.ndarray, snapped: np.ndarray) -> None:
    """Whether each of ``snapped`` is the point of SAM's grid, 8 a side, that is nearest to its point."""
    grid = (np.arange(8) + 0.5) / 8
    for side, value, found in zip((W, H), points.T, snapped.T, strict=True):
        assert np.isin(found, (grid * side).astype(np.float32)).all()
        np.testing.assert_allclose(np.abs(found - value), np.abs(grid * side - value[:, None]).min(1), rtol=1e-6)


def test_farthest_is_the_centre_and_two_points_far_away(shown) -> None:
    prompts = ask("farthest", shown)
    assert prompts.num_points.tolist() == [3, 3, 3, 2, 3]
    np.testing.assert_array_equal(prompts.points[:, :1], ask("center", shown).points)
    assert at(shown, prompts.points)[prompts.labels == POSITIVE].all()
    mask, (first, second, _) = shown[0], prompts.points[0]
    pixels = np.argwhere(mask)[:, ::-1]
    assert np.linalg.norm(second - first) == pytest.approx(np.linalg.norm(pixels - first, axis=1).max())


def test_boxes_are_tight_and_move_by_the_noise_that_their_name_says(shown) -> None:
    tight = ask("box", shown).boxes
    for mask, box in zip(shown, tight, strict=True):
        y, x = np.nonzero(mask)
        assert box.tolist() == [x.min(), y.min(), x.max(), y.max()]
    spread = [
        np.mean([np.abs(ask(f"box~{percent}%", shown[:3], seed=seed).boxes - tight[:3]) for seed in range(60)])
        for percent in (5, 20)
    ]
    assert 3 < spread[1] / spread[0] < 5


def test_a_mask_is_moved_as_its_box_is(shown) -> None:
    shown = shown[:3]
    logits = ask("mask~10%", shown).mask_logits
    tight, moved = ask("box", shown).boxes, ask("box~10%", shown).boxes
    assert logits is not None
    side = FRAME.cell[0]
    for mask, plane, old, new in zip(shown, logits, tight, moved, strict=True):
        grown = [(new[i + 2] - new[i] + 1) / (old[i + 2] - old[i] + 1) for i in (0, 1)]
        cells = np.arange(SPEC.low_res)
        found = np.zeros_like(plane, bool)
        for row in cells:
            for column in cells:  # back from a cell's centre in the moved mask to the pixel it came from
                x, y = ((centre + 0.5) * side for centre in (column, row))
                x, y = ((v - new[i]) / grown[i] + old[i] for i, v in ((0, x), (1, y)))
                found[row, column] = 0 <= x < W and 0 <= y < H and mask[int(y), int(x)]
        agree = ((plane > 0) & found).sum() / ((plane > 0) | found).sum()
        assert agree > 0.85
        assert plane.min() < -6.5
        assert 4 < plane.max() < 7
    plain = ask("mask~1%", shown).mask_logits
    assert plain is not None
    assert ((plain > 0) != (logits > 0)).any()


def test_joined_kinds_ask_for_both(shown) -> None:
    prompts = ask("center&box~10%&mask~10%", shown)
    np.testing.assert_array_equal(prompts.points, ask("center", shown).points)
    np.testing.assert_array_equal(prompts.boxes, ask("box~10%", shown).boxes)
    np.testing.assert_array_equal(prompts.mask_logits, ask("mask~10%", shown).mask_logits)
    assert not prompts.is_one_point.any()
    tokens = tokenize(prompts, [FRAME])
    assert tokens.labels.tolist() == [[1, 2, 3]] * N
    assert tokens.has_mask.tolist() == [1.0] * N


def test_what_is_a_lone_point_and_what_is_drawn_anew(shown) -> None:
    fixed = ("center", "center@4", "centroid-inside", "centroid-inside@4", "farthest", "box", "box~0%", "center&box")
    for name in (*fixed, "point", "points:1", "points:2", "box~9%", "mask~10%", "point&box"):
        kind = prompt_kind(name)
        first, second = (ask(name, shown[:3], seed=seed) for seed in (0, 1))
        assert (first.is_one_point == kind.is_one_point).all(), name
        same = all(
            np.array_equal(getattr(first, field), getattr(second, field), equal_nan=True)
            for field in ("points", "boxes", "mask_logits")
            if getattr(first, field) is not None
        )
        assert same == (name in fixed), name


@pytest.mark.parametrize(
    "name",
    ["scribble", "box~10", "points:0", "points:", "center@0", "centroid-inside@0", "mask", "mask~0%", "point&", ""],
)
def test_what_is_no_kind(name) -> None:
    with pytest.raises(ConfigError, match="is no prompt kind") as caught:
        ask(name, np.ones((1, H, W), bool))
    assert caught.value.fix
