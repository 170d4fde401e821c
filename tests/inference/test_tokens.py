"""Prompts to tokens: SAM's layout, its padding rule, and what fills a ragged batch."""

from __future__ import annotations

import numpy as np

from samfast.frames import PreprocessSpec
from samfast.inference.tokens import tokenize
from samfast.prompts import Prompts

SPEC = PreprocessSpec(256, 32, 128, (0, 0, 0), (1, 1, 1))
NO_BOX = [np.nan] * 4


def prompts(points: list, labels: list, boxes: list, image_index: list | None = None, **kwargs: object) -> Prompts:
    count = len(boxes)
    return Prompts(
        np.asarray(image_index or [0] * count, np.int64),
        np.asarray(points, np.float32).reshape(count, -1, 2),
        np.asarray(labels, np.int64).reshape(count, -1),
        np.asarray(boxes, np.float32),
        **kwargs,
    )


def test_a_lone_point_gets_the_pad_token() -> None:
    tokens = tokenize(prompts([[[100, 50]]], [[1]], [NO_BOX]), [SPEC.frame(128, 512)])
    np.testing.assert_array_equal(tokens.labels, [[1, -1]])
    np.testing.assert_allclose(tokens.coords, [[[50, 25], [0, 0]]])
    np.testing.assert_array_equal(tokens.has_mask, [0])


def test_a_box_gets_none() -> None:
    tokens = tokenize(prompts([[]], [[]], [[10, 20, 30, 40]]), [SPEC.frame(256, 256)])
    np.testing.assert_array_equal(tokens.labels, [[2, 3]])
    np.testing.assert_allclose(tokens.coords, [[[10, 20], [30, 40]]])


def test_mixed_prompts_are_filled_with_nothing() -> None:
    mixed = prompts([[[4, 6], [8, 2]], [[2, 2], [0, 0]]], [[1, 0], [1, -10]], [NO_BOX, [1, 2, 3, 4]], [1, 0])
    tokens = tokenize(mixed, [SPEC.frame(256, 256), SPEC.frame(512, 512)])
    np.testing.assert_array_equal(tokens.labels, [[1, 0, -1, -10], [1, -10, 2, 3]])
    np.testing.assert_allclose(tokens.coords[0], [[2, 3], [4, 1], [0, 0], [0, 0]])
    np.testing.assert_allclose(tokens.coords[1], [[2, 2], [0, 0], [1, 2], [3, 4]])
    np.testing.assert_array_equal(mixed.is_one_point, [False, False])


def test_a_mask_alone_has_no_tokens() -> None:
    logits = np.ones((1, 128, 128), np.float32)
    tokens = tokenize(prompts([[]], [[]], [NO_BOX], mask_logits=logits), [SPEC.frame(256, 256)])
    assert (tokens.labels == -10).all()
    np.testing.assert_array_equal(tokens.has_mask, [1])
    np.testing.assert_array_equal(tokens.mask[0, 0], logits[0])


def test_masks_are_laid_out_where_there_are_some() -> None:
    logits = np.full((3, 128, 128), np.nan, np.float32)
    logits[1] = 7
    tokens = tokenize(prompts([[]] * 3, [[]] * 3, [[1, 2, 3, 4]] * 3, mask_logits=logits), [SPEC.frame(256, 256)])
    assert tokens.mask is not None
    assert tokens.mask.shape == (3, 1, 128, 128)
    assert tokens.mask.mean((1, 2, 3)).tolist() == [0, 7, 0]
    assert tokens[2:].mask is None
    assert tokens[1:].mask is not None
    for none in (None, np.full((3, 128, 128), np.nan, np.float32)):
        without = prompts([[]] * 3, [[]] * 3, [[1, 2, 3, 4]] * 3, mask_logits=none)
        assert tokenize(without, [SPEC.frame(256, 256)]).mask is None


def test_parts_of_a_batch() -> None:
    tokens = tokenize(prompts([[[1, 1]]] * 5, [[1]] * 5, [NO_BOX] * 5), [SPEC.frame(10, 10)])
    assert len(tokens[2:4].labels) == 2
