"""Frames against segment_anything's own transforms and post-processing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from samfast.errors import ConfigError
from samfast.frames import Frame, PreprocessSpec

SAM = PreprocessSpec(1024, 64, 256, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
SMALL = PreprocessSpec(256, 32, 128, (120.0, 110.0, 100.0), (50.0, 51.0, 52.0))
SIZES = [(551, 893), (893, 551), (640, 640), (37, 200), (2000, 1333), (1, 9), (1024, 683)]


@pytest.mark.parametrize("spec", [SAM, SMALL], ids=["1024", "256"])
@pytest.mark.parametrize("size", SIZES)
def test_coordinates_equal_resize_longest_side(spec: PreprocessSpec, size: tuple[int, int]) -> None:
    oracle = ResizeLongestSide(spec.size)
    frame = spec.frame(*size)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, max(size), (7, 3, 2))
    assert frame.resized == oracle.get_preprocess_shape(*size, spec.size)
    np.testing.assert_allclose(frame.points_to_model(points), oracle.apply_coords(points, size), rtol=1e-6)
    boxes = rng.uniform(0, max(size), (5, 4))
    np.testing.assert_allclose(frame.boxes_to_model(boxes), oracle.apply_boxes(boxes, size), rtol=1e-6)


@pytest.mark.parametrize("size", [(551, 893), (90, 60), (256, 256)])
def test_preprocess_equals_segment_anything(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    resized = ResizeLongestSide(SMALL.size).apply_image(image)
    stub = _sam_stub(SMALL)
    expected = Sam.preprocess(stub, torch.as_tensor(resized).permute(2, 0, 1)[None].float())[0].numpy()
    np.testing.assert_allclose(SMALL.preprocess(image), expected, atol=1e-5)
    padding = (0, 0, 0, SMALL.size - resized.shape[1], 0, SMALL.size - resized.shape[0])
    padded = torch.nn.functional.pad(torch.as_tensor(resized), padding).permute(2, 0, 1)[None].float()
    padded_first = Sam.preprocess(stub, padded)[0].numpy()
    if resized.shape[0] != resized.shape[1]:
        assert np.abs(SMALL.preprocess(image) - padded_first).max() > 1.0, "the order of padding must matter"


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch interpolates with another kernel on one thread, and differs from itself by 1e-3 on noise like this."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("spec", [SAM, SMALL], ids=["1024", "256"])
@pytest.mark.parametrize("size", [(551, 893), (893, 551), (300, 300), (40, 171)])
def test_upscaling_equals_postprocess_masks(spec: PreprocessSpec, size: tuple[int, int]) -> None:
    logits = np.random.default_rng(2).normal(size=(3, spec.low_res, spec.low_res)).astype(np.float32) * 10
    frame = spec.frame(*size)
    oracle = Sam.postprocess_masks(_sam_stub(spec), torch.from_numpy(logits)[None], frame.resized, size)[0].numpy()
    got = frame.logits_to_original(logits)
    np.testing.assert_allclose(got, oracle, atol=5e-5)
    assert ((got > 0) == (oracle > 0)).mean() > 0.99999


def test_coverage_is_the_fraction_of_each_cell_on_the_image() -> None:
    frame = SMALL.frame(101, 256)
    assert frame.resized == (101, 256)
    coverage = frame.coverage()
    assert coverage.shape == (128, 128)
    np.testing.assert_allclose(coverage[:, 0], np.clip((101 - np.arange(128) * 2) / 2, 0, 1))
    assert coverage.sum() * 4 == pytest.approx(101 * 256)


def test_stretch_fills_the_square() -> None:
    spec = PreprocessSpec(512, 32, 128, (0, 0, 0), (1, 1, 1), resize="stretch")
    frame = spec.frame(100, 300)
    assert frame.resized == (512, 512)
    assert frame.coverage().min() == 1.0
    np.testing.assert_allclose(frame.points_to_model(np.array([[150.0, 50.0]])), [[256.0, 256.0]])


def test_spec_survives_a_round_trip_and_names_what_is_wrong() -> None:
    assert PreprocessSpec.from_dict(SAM.to_dict()) == SAM
    with pytest.raises(ConfigError, match="mean"):
        PreprocessSpec.from_dict({"size": 3})
    with pytest.raises(ConfigError, match="surprise"):
        PreprocessSpec.from_dict({**SAM.to_dict(), "surprise": 1})


def _sam_stub(spec: PreprocessSpec) -> Sam:
    """A ``Sam`` with the geometry and statistics of ``spec`` and no weights."""
    encoder = torch.nn.Identity()
    encoder.img_size = spec.size
    return Sam(encoder, torch.nn.Identity(), torch.nn.Identity(), list(spec.mean), list(spec.std))


def test_frame_is_a_value() -> None:
    assert SAM.frame(3, 4) == Frame(3, 4, SAM)
