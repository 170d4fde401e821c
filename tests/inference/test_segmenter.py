"""From prompts to masks, with a segmenter whose logits are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.inference import segmenter as module
from samfast.inference.contract import OutputContract
from samfast.inference.segmenter import Embedding, segment
from samfast.inference.tokens import Tokens
from samfast.prompts import box_prompts, point_prompts

SPEC = PreprocessSpec(64, 8, 16, (0, 0, 0), (1, 1, 1))


class Quadrants:
    """Token t of prompt p is positive in the model frame's quadrant (p + t) % 4; scores fall with t."""

    name = "quadrants"
    spec = SPEC
    contract = OutputContract()

    def embed(self, images: Sequence[np.ndarray]) -> Embedding:
        return Embedding({}, tuple(SPEC.frame(*image.shape[:2]) for image in images))

    def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        count = len(tokens.labels)
        logits = np.full((count, 4, 16, 16), -5.0, np.float32)
        for prompt in range(count):
            start = int(tokens.coords[prompt, 0, 0])
            for token in range(4):
                row, column = divmod((start + token) % 4, 2)
                logits[prompt, token, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 5.0
        scores = np.tile(np.array([0.9, 0.5, 0.8, 0.1], np.float32), (count, 1))
        return logits, scores


def test_masks_come_back_in_the_original_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DECODE_CHUNK", 2)
    model = Quadrants()
    embedding = model.embed([np.zeros((128, 128, 3), np.uint8)])
    prediction = segment(model, embedding, point_prompts(np.array([[[0, 0]], [[2, 0]], [[4, 0]]])))
    expected = np.zeros((3, 128, 128), bool)
    expected[0, :64, :64] = expected[1, :64, 64:] = expected[2, 64:, :64] = True
    away_from_edges = np.abs(np.arange(128) - 63.5) > 6
    inner = np.ix_(range(3), away_from_edges, away_from_edges)
    np.testing.assert_array_equal(prediction.masks.numpy()[inner], expected[inner])
    np.testing.assert_allclose(prediction.scores, 0.9)
    np.testing.assert_array_equal(prediction.tokens, 0)


def test_selection_rule_is_followed() -> None:
    model = Quadrants()
    embedding = model.embed([np.zeros((64, 64, 3), np.uint8)])
    best = segment(model, embedding, point_prompts(np.zeros((1, 1, 2))), selection="best-predicted")
    np.testing.assert_array_equal(best.tokens, [2])
    assert best.masks.numpy()[0, 40, 10]
    boxed = segment(model, embedding, box_prompts(np.array([[0, 0, 5, 5]])), selection="best-predicted")
    np.testing.assert_array_equal(boxed.tokens, [0])


def test_padding_is_cropped_away() -> None:
    model = Quadrants()
    embedding = model.embed([np.zeros((64, 128, 3), np.uint8)])
    prediction = segment(model, embedding, point_prompts(np.zeros((1, 1, 2))))
    assert prediction.masks.numpy().shape == (1, 64, 128)
    assert prediction.masks.numpy()[0, :, :62].all(), "the upper half of the model frame is the whole image"


def test_one_image_at_a_time_and_no_prompts() -> None:
    model = Quadrants()
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ConfigError, match="holds 2"):
        segment(model, model.embed([image, image]), point_prompts(np.zeros((1, 1, 2))))
    assert len(segment(model, model.embed([image]), point_prompts(np.zeros((0, 1, 2)))).masks) == 0
