"""The torch Segmenter against SamPredictor, from original-frame prompts to original-frame masks."""

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from samfast.errors import ConfigError
from samfast.frames import Frame
from samfast.inference.contract import OutputContract
from samfast.inference.segmenter import Embedding, segment
from samfast.inference.tokens import tokenize
from samfast.models.segmenter import TorchSegmenter, pick_device
from samfast.prompts import Prompts

SIZES = {"landscape": (219, 330), "portrait": (401, 263), "square": (256, 256)}
NO_BOX = np.full(4, np.nan, np.float32)


@pytest.fixture(scope="module")
def segmenter(draw_model):
    return TorchSegmenter(draw_model("tiny", seed=21))


def prompts_on(height, width, low_res):
    """Prompts as users give them, with the SamPredictor call that asks the same."""
    rng = np.random.default_rng(3)

    def xy(count):
        return (rng.random((count, 2)) * (width - 1, height - 1)).astype(np.float32)

    box = np.concatenate([xy(20).min(axis=0), xy(20).max(axis=0)])
    one, several = xy(1), xy(4)
    logits = (4 * rng.standard_normal((1, low_res, low_res))).astype(np.float32)
    return [
        (one, [1], None, None),
        (several, [1, 0, 0, 1], None, None),
        (None, [], box, None),
        (one, [1], box, None),
        (one, [0], None, logits),
        (None, [], box, logits),
        (None, [], None, logits),
    ]


@pytest.mark.parametrize("shape", SIZES)
def test_segment_equals_sam_predictor(segmenter, official, shape):
    height, width = SIZES[shape]
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    predictor = SamPredictor(official(segmenter.sam))
    predictor.set_image(image)
    embedding = segmenter.embed([image])
    for points, labels, box, logits in prompts_on(height, width, segmenter.spec.low_res):
        prompts = Prompts(
            np.zeros(1, np.int64),
            np.zeros((1, 0, 2), np.float32) if points is None else points[None],
            np.array([labels], np.int64),
            (NO_BOX if box is None else box)[None],
            logits,
        )
        found = segment(segmenter, embedding, prompts)
        masks, scores, low_res = predictor.predict(
            points, np.array(labels) if labels else None, box, logits, multimask_output=False
        )
        assert np.abs(found.low_res - low_res).max() < 1e-4 * np.abs(low_res).max()
        assert np.abs(found.scores - scores).max() < 1e-4
        agreement = (found.masks.numpy() == masks).mean()
        assert agreement > 0.9999
        assert 0 < masks.mean() < 1


def test_best_predicted_equals_the_best_of_sam_predictors_three(segmenter, official):
    image = np.random.default_rng(2).integers(0, 256, (200, 300, 3), np.uint8)
    predictor = SamPredictor(official(segmenter.sam))
    predictor.set_image(image)
    embedding = segmenter.embed([image])
    for point in ([10.0, 20.0], [150.0, 150.0], [290.0, 7.0]):
        prompts = Prompts(
            np.zeros(1, np.int64),
            np.array([[point]], np.float32),
            np.ones((1, 1), np.int64),
            NO_BOX[None],
        )
        found = segment(segmenter, embedding, prompts, selection="best-predicted")
        _, scores, low_res = predictor.predict(np.array([point]), np.array([1]), multimask_output=True)
        assert found.tokens[0] == scores.argmax() + 1
        assert np.abs(found.low_res[0] - low_res[scores.argmax()]).max() < 1e-4 * np.abs(low_res).max()


def test_features_may_be_numpy_half_or_read_only(segmenter):
    image = np.random.default_rng(4).integers(0, 256, (60, 90, 3), np.uint8)
    embedding = segmenter.embed([image])
    prompts = Prompts(
        np.zeros(2, np.int64),
        np.array([[[5, 5]], [[40, 30]]], np.float32),
        np.ones((2, 1), np.int64),
        np.stack([NO_BOX] * 2),
    )
    tokens = tokenize(prompts, embedding.frames)
    wanted, _ = segmenter.decode(embedding, tokens)
    array = embedding.features["image_embeddings"].numpy()
    array.flags.writeable = False
    same, _ = segmenter.decode(Embedding({"image_embeddings": array}, embedding.frames), tokens)
    half, _ = segmenter.decode(Embedding({"image_embeddings": array.astype(np.float16)}, embedding.frames), tokens)
    assert np.array_equal(wanted, same)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_names_and_contract(draw_model):
    sam = draw_model("tiny", decoder_only=True)
    plain = TorchSegmenter(sam)
    assert (plain.name, plain.contract, plain.spec) == ("tiny", OutputContract(), sam.spec)
    tuned = TorchSegmenter(sam, OutputContract(one_point=(0,)), name="runs/a")
    assert (tuned.name, tuned.contract.one_point) == ("runs/a", (0,))
    assert tuned.spec.frame(10, 20) == Frame(10, 20, sam.spec)


def test_pick_device():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="no device"):
        pick_device("gpu please")
    with pytest.raises(ConfigError, match="not there"):
        pick_device(f"cuda:{torch.cuda.device_count()}")
