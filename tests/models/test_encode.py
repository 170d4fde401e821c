"""encode against segment_anything's own preprocessing and image encoder."""

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.utils.transforms import ResizeLongestSide

from samfast.errors import ConfigError
from samfast.models.segmenter import TorchSegmenter

TOLERANCE = 1e-5
SIZES = {"landscape": (219, 330), "portrait": (401, 263), "square": (256, 256), "tall": (700, 90), "small": (40, 61)}


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@torch.no_grad()
def official_embedding(oracle, image):
    predictor = SamPredictor(oracle)
    predictor.set_image(image)
    return predictor.features


def difference(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(scope="module")
def tiny(draw_model):
    return draw_model("tiny", seed=11)


@pytest.mark.parametrize("shape", SIZES)
def test_encode_equals_segment_anything(tiny, official, shape):
    image = picture(*SIZES[shape])
    found = TorchSegmenter(tiny).embed([image]).features["image_embeddings"]
    assert found.shape == (1, 128, 32, 32)
    assert difference(found, official_embedding(official(tiny), image)) < TOLERANCE


def test_a_batch_of_mixed_sizes_equals_segment_anything(tiny, official):
    images = [picture(*size, seed) for seed, size in enumerate(SIZES.values())]
    embedding = TorchSegmenter(tiny).embed(images)
    assert [(frame.height, frame.width) for frame in embedding.frames] == list(SIZES.values())
    for found, image in zip(embedding.features["image_embeddings"], images, strict=True):
        assert difference(found[None], official_embedding(official(tiny), image)) < TOLERANCE


def test_padding_before_normalising_is_noticed(tiny, official):
    image = picture(*SIZES["landscape"])
    resized = ResizeLongestSide(tiny.spec.size).apply_image(image)
    padded = np.zeros((tiny.spec.size, tiny.spec.size, 3), np.float32)
    padded[: resized.shape[0], : resized.shape[1]] = resized
    normalised = (padded - np.array(tiny.spec.mean)) / np.array(tiny.spec.std)
    with torch.no_grad():
        found = tiny.encode(torch.from_numpy(normalised.transpose(2, 0, 1)[None]).float())["image_embeddings"]
    assert difference(found, official_embedding(official(tiny), image)) > 100 * TOLERANCE


@pytest.mark.parametrize("table", ["rel_pos_h", "rel_pos_w", "pos_embed"])
def test_zeroed_position_tables_are_noticed(draw_model, official, table):
    image = picture(*SIZES["square"])
    wanted = official_embedding(official(draw_model("tiny", seed=11)), image)
    sam = draw_model("tiny", seed=11)
    for name, parameter in sam.image_encoder.named_parameters():
        if name.endswith(table):
            parameter.data.zero_()
    found = TorchSegmenter(sam).embed([image]).features["image_embeddings"]
    assert difference(found, wanted) > 100 * TOLERANCE


def test_a_decoder_only_model_says_that_it_cannot_encode(draw_model):
    sam = draw_model("tiny", decoder_only=True)
    with pytest.raises(ConfigError, match="decoder-only"):
        sam.encode(torch.zeros(1, 3, 256, 256))
    with pytest.raises(ConfigError, match="decoder-only"):
        sam.encoder_state()


def test_no_images_are_refused(tiny):
    with pytest.raises(ConfigError, match="no images"):
        TorchSegmenter(tiny).embed([])


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["landscape", "portrait"])
def test_vit_b_encode_equals_segment_anything(draw_model, official, shape):
    sam = draw_model("vit_b", seed=2)
    image = picture(*SIZES[shape])
    found = TorchSegmenter(sam).embed([image]).features["image_embeddings"]
    assert difference(found, official_embedding(official(sam), image)) < TOLERANCE
