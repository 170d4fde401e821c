"""Evaluation prompts: inside the object, out of ignored pixels, frozen, and independent of order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samfast.data.types import Sample, Target
from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.inference.prompt_sets import evaluation_prompts
from samfast.masks import Masks

SPEC = PreprocessSpec(64, 8, 32, (0, 0, 0), (1, 1, 1))
SAMPLE = Sample("a.png", "a.png", "ab" * 32, (40, 60), "test", "a", "labelled", ("1", "2"))


def make_target() -> Target:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:15, 10:30] = True
    masks[1, 20:39, 3:8] = True
    ignore = np.zeros((1, 40, 60), bool)
    ignore[0, 5:15, 10:20] = True
    return Target(Masks.from_numpy(masks), np.zeros(2, np.int64), ("1", "2"), Masks.from_numpy(ignore), "instance")


def test_points_lie_on_the_object_and_never_on_ignored_pixels() -> None:
    target = make_target()
    valid = target.masks.numpy() & ~target.ignore.numpy()
    for seed in range(50):
        prompts = evaluation_prompts("point", target, SAMPLE, SPEC, seed=seed)
        assert prompts.is_one_point.all()
        x, y = prompts.points[:, 0].astype(int).T
        assert valid[np.arange(2), y, x].all()


def test_boxes_are_tight_and_inclusive() -> None:
    target = replace(make_target(), ignore=Masks.empty(40, 60))
    prompts = evaluation_prompts("box", target, SAMPLE, SPEC)
    np.testing.assert_array_equal(prompts.boxes, [[10, 5, 29, 14], [3, 20, 7, 38]])
    assert prompts.labels.shape == (2, 0)


def test_a_prompt_depends_on_seed_image_and_object_alone() -> None:
    target = make_target()
    reversed_target = replace(target, masks=target.masks[np.array([1, 0])], ids=("2", "1"))
    points = evaluation_prompts("point", target, SAMPLE, SPEC, seed=3).points
    np.testing.assert_array_equal(evaluation_prompts("point", target, SAMPLE, SPEC, seed=3).points, points)
    np.testing.assert_array_equal(
        evaluation_prompts("point", reversed_target, SAMPLE, SPEC, seed=3).points[::-1], points
    )
    assert (evaluation_prompts("point", target, SAMPLE, SPEC, seed=4).points != points).any()
    assert (evaluation_prompts("point", target, replace(SAMPLE, key="cd" * 32), SPEC, seed=3).points != points).any()


def test_unknown_kind() -> None:
    with pytest.raises(ConfigError, match="choose from point"):
        evaluation_prompts("scribble", make_target(), SAMPLE, SPEC)
