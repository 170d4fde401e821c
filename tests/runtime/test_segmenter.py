"""OnnxSegmenter stands wherever a Segmenter does, and answers as the torch one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samfast.data.shapes import shape_scene
from samfast.errors import ConfigError
from samfast.inference.segmenter import Embedding, Segmenter, segment
from samfast.inference.tokens import tokenize
from samfast.models.segmenter import TorchSegmenter
from samfast.prompts import Prompts, box_prompts
from samfast.runtime import OnnxBundle, OnnxSegmenter

IMAGES = [shape_scene(2, index, size=size)[0] for index, size in enumerate(((90, 160), (170, 120)))]


@pytest.fixture(scope="session")
def segmenter(bundle: OnnxBundle) -> OnnxSegmenter:
    return OnnxSegmenter(bundle, device="cpu", threads=1)


def test_masks_of_the_torch_segmenter(segmenter: OnnxSegmenter, sam: Any) -> None:
    ours: Segmenter = segmenter
    torch_segmenter: Segmenter = TorchSegmenter(sam)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 50, (40, 2))], axis=1)  # more than one decoder chunk
    prompts = box_prompts(boxes)
    found = segment(ours, ours.embed(IMAGES[:1]), prompts)
    expected = segment(torch_segmenter, torch_segmenter.embed(IMAGES[:1]), prompts)
    np.testing.assert_allclose(found.low_res, expected.low_res, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert (found.masks.numpy() == expected.masks.numpy()).mean() >= 0.9999


def test_prompts_on_several_images(segmenter: OnnxSegmenter) -> None:
    embedding = segmenter.embed(IMAGES)
    assert [(frame.height, frame.width) for frame in embedding.frames] == [(90, 160), (170, 120)]
    boxes = np.array([[3, 4, 60, 70], [10, 12, 90, 88], [0, 0, 50, 50]], np.float32)
    one = box_prompts(boxes)
    mixed = Prompts(np.array([1, 0, 1]), one.points, one.labels, one.boxes)
    together = segmenter.decode(embedding, tokenize(mixed, embedding.frames))
    for prompt, image in enumerate(mixed.image_index):
        alone = segmenter.embed(IMAGES[image : image + 1])
        expected = segmenter.decode(alone, tokenize(box_prompts(boxes[prompt : prompt + 1]), alone.frames))
        for ours, theirs in zip(together, expected, strict=True):
            np.testing.assert_allclose(ours[prompt], theirs[0], atol=1e-4)


def test_half_precision_embeddings_are_taken(segmenter: OnnxSegmenter) -> None:
    embedding = segmenter.embed(IMAGES[:1])
    half = Embedding({"image_embeddings": embedding.features["image_embeddings"].astype(np.float16)}, embedding.frames)
    tokens = tokenize(box_prompts(np.array([[3, 4, 60, 70]])), embedding.frames)
    np.testing.assert_allclose(segmenter.decode(half, tokens)[0], segmenter.decode(embedding, tokens)[0], atol=0.02)


def test_no_prompts(segmenter: OnnxSegmenter) -> None:
    prediction = segment(segmenter, segmenter.embed(IMAGES[:1]), box_prompts(np.zeros((0, 4))))
    assert len(prediction.masks) == 0


def test_no_images(segmenter: OnnxSegmenter) -> None:
    with pytest.raises(ConfigError, match="no images"):
        segmenter.embed([])


def test_its_name(bundle: OnnxBundle, segmenter: OnnxSegmenter) -> None:
    assert segmenter.name == "tiny (onnx)"
    assert OnnxSegmenter(bundle, name="mine", device="cpu").name == "mine"
