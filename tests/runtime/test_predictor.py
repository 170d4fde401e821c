"""OnnxPredictor against segment_anything's SamPredictor over the same weights, and its edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from segment_anything import SamPredictor

from samfast.errors import ConfigError, DataError
from samfast.runtime import OnnxBundle, OnnxPredictor
from samfast.runtime.onnxfile import append_metadata

POINTS = np.array([[60, 80], [100, 40], [20, 130]])
LABELS = np.array([1, 0, 1])
BOX = np.array([15, 22, 150, 141])

PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": POINTS[:1], "point_labels": LABELS[:1]},
    "background point": {"point_coords": POINTS[1:2], "point_labels": LABELS[1:2]},
    "points": {"point_coords": POINTS, "point_labels": LABELS},
    "box": {"box": BOX},
    "point and box": {"point_coords": POINTS[:2], "point_labels": LABELS[:2], "box": BOX},
    "nothing": {},
}


@pytest.fixture(scope="session")
def predictor(bundle: OnnxBundle) -> OnnxPredictor:
    return OnnxPredictor(bundle, device="cpu", threads=1)


@pytest.fixture(scope="session")
def both(predictor: OnnxPredictor, official_predictor: SamPredictor, image: Any) -> tuple[OnnxPredictor, SamPredictor]:
    """Both predictors on the same image."""
    predictor.set_image(image)
    official_predictor.set_image(image)
    return predictor, official_predictor


def assert_same(found: Any, expected: Any) -> None:
    masks, ious, low_res = found
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(low_res, expected[2], atol=1e-3)
    np.testing.assert_allclose(ious, expected[1], atol=1e-4)
    if masks.dtype == bool:
        assert (masks == expected[0]).mean() >= 0.9999
        assert expected[2].min() < 0 < expected[2].max()  # something to agree on
    else:
        np.testing.assert_allclose(masks, expected[0], atol=1e-3)


@pytest.mark.parametrize("multimask_output", [True, False], ids=["three masks", "one mask"])
@pytest.mark.parametrize("prompt", list(PROMPTS))
def test_masks_of_sam_predictor(both: Any, prompt: str, multimask_output: bool) -> None:
    ours, official = both
    for options in ({}, {"return_logits": True}):
        arguments = {**PROMPTS[prompt], "multimask_output": multimask_output, **options}
        assert_same(ours.predict(**arguments), official.predict(**arguments))


@pytest.mark.parametrize("prompt", list(PROMPTS))
def test_a_mask_as_prompt(both: Any, prompt: str) -> None:
    ours, official = both
    first = official.predict(**PROMPTS["point"])[2][1:2]
    arguments = {**PROMPTS[prompt], "mask_input": 6 * first}
    assert_same(ours.predict(**arguments), official.predict(**arguments))
    without = ours.predict(**PROMPTS[prompt])[2]
    assert np.abs(ours.predict(**arguments)[2] - without).max() > 0.05  # the mask is read


def test_the_embedding_of_sam_predictor(both: Any) -> None:
    ours, official = both
    np.testing.assert_allclose(ours.get_image_embedding(), official.get_image_embedding().detach().numpy(), atol=1e-4)


def test_swapped_channels_are_noticed(predictor: OnnxPredictor, official_predictor: SamPredictor, image: Any) -> None:
    predictor.set_image(image, "BGR")
    official_predictor.set_image(image, "BGR")
    assert_same(predictor.predict(box=BOX), official_predictor.predict(box=BOX))
    official_predictor.set_image(image, "RGB")
    assert np.abs(predictor.predict(box=BOX)[2] - official_predictor.predict(box=BOX)[2]).max() > 0.05


def test_an_array_a_picture_and_a_file_are_one_image(predictor: OnnxPredictor, image: Any, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    embeddings = []
    for source in (image, Image.fromarray(image), path, str(path)):
        predictor.set_image(source)
        embeddings.append(predictor.get_image_embedding())
    for other in embeddings[1:]:
        np.testing.assert_array_equal(other, embeddings[0])


def test_exif_orientation(predictor: OnnxPredictor, tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((20, 60, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        predictor.set_image(source)
        assert predictor.predict(box=[0, 0, 9, 9])[0].shape[1:] == (60, 20)


def test_no_image(bundle: OnnxBundle, image: Any) -> None:
    predictor = OnnxPredictor(bundle, device="cpu", threads=1)
    for call in (predictor.predict, predictor.get_image_embedding):
        with pytest.raises(ConfigError, match="no image is set"):
            call()
    predictor.set_image(image)
    assert predictor.is_image_set
    predictor.reset_image()
    assert not predictor.is_image_set
    with pytest.raises(ConfigError, match="no image is set"):
        predictor.predict(box=BOX)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "rgba", "float", "empty"],
)
def test_arrays_that_are_no_image(predictor: OnnxPredictor, image: Any) -> None:
    with pytest.raises(DataError, match="uint8 array"):
        predictor.set_image(image)


def test_files_that_are_no_image(predictor: OnnxPredictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        predictor.set_image(tmp_path / "none.jpg")
    with pytest.raises(ConfigError, match="'HSV' is neither"):
        predictor.set_image(np.zeros((8, 8, 3), np.uint8), "HSV")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"point_coords": POINTS}, "come together"),
        ({"point_labels": LABELS}, "come together"),
        ({"point_coords": POINTS, "point_labels": LABELS[:2]}, r"\(3, 2\) and \(2,\)"),
        ({"point_coords": POINTS[0], "point_labels": LABELS[0]}, r"point_coords is \(N, 2\)"),
        ({"point_coords": POINTS, "point_labels": [1, 2, 3]}, "1 .foreground. or 0"),
        ({"point_coords": [[np.nan, 1]], "point_labels": [1]}, "point_coords holds values that are not finite"),
        ({"box": [1, 2, 3]}, r"this one is \(3,\)"),
        ({"box": [[1, 2, 3, 4], [1, 2, 3, 4]]}, r"this one is \(2, 4\)"),
        ({"box": [0, 0, np.inf, 5]}, "box holds values that are not finite"),
        ({"mask_input": np.zeros((128, 128))}, r"mask_input is \(1, 128, 128\)"),
        ({"mask_input": np.zeros((1, 256, 256))}, r"mask_input is \(1, 128, 128\)"),
    ],
)
def test_wrong_prompts(predictor: OnnxPredictor, arguments: dict[str, Any], message: str) -> None:
    predictor.set_image(np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(ConfigError, match=message):
        predictor.predict(**arguments)


def test_untrained_tokens_warn(own_bundle: Path) -> None:
    append_metadata(own_bundle / "decoder.onnx", {"samfast.contract": '{"one_point": [], "other": [0]}'})
    predictor = OnnxPredictor(own_bundle, device="cpu", threads=1)
    predictor.set_image(np.zeros((30, 40, 3), np.uint8))
    with pytest.warns(UserWarning, match="were not trained") as caught:
        predictor.predict(box=BOX)
    assert caught[0].filename == __file__


def test_trained_tokens_do_not_warn(predictor: OnnxPredictor, recwarn: pytest.WarningsRecorder) -> None:
    predictor.set_image(np.zeros((30, 40, 3), np.uint8))
    predictor.predict(box=BOX)
    assert not recwarn.list
