"""Predictions on files: what comes back, what is written, and what is refused."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samfast.errors import ConfigError, DataError, OutputExistsError, SamfastError
from samfast.frames import PreprocessSpec
from samfast.inference.contract import OutputContract
from samfast.inference.segmenter import Embedding
from samfast.inference.tokens import Tokens
from samfast.prediction_files import label_map
from samfast.predictions import predict

SIDE = 32
SPEC = PreprocessSpec(SIDE, 4, SIDE, (0, 0, 0), (1, 1, 1))


class Squares:
    """Answers a box with the box, and a point with the 5 x 5 square around it; images up to 32 x 32 are not resized."""

    name = "squares (fake)"
    spec = SPEC
    contract = OutputContract()

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def embed(self, images: Sequence[np.ndarray]) -> Embedding:
        self.seen += images
        return Embedding({}, tuple(SPEC.frame(*image.shape[:2]) for image in images))

    def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        scale = np.float32(0.01)
        logits = np.full((len(tokens.labels), 4, SIDE, SIDE), -5.0, np.float32)
        scores = np.zeros((len(tokens.labels), 4), np.float32)
        for index, (coords, labels) in enumerate(zip(tokens.coords, tokens.labels, strict=True)):
            if 2 in labels:
                (xmin, ymin), (xmax, ymax) = (coords[labels == corner][0].round().astype(int) for corner in (2, 3))
            else:
                x, y = coords[0].round().astype(int)
                xmin, ymin, xmax, ymax = max(x - 2, 0), max(y - 2, 0), x + 2, y + 2
            logits[index, :, ymin : ymax + 1, xmin : xmax + 1] = 5.0
            scores[index] = xmin * scale
        return logits, scores


def picture(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def filled(box: Sequence[int], height: int = 24, width: int = 32) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    Image.fromarray(picture(1)).save(root / "a.png")
    Image.fromarray(picture(2, 32, 20)).save(root / "deep" / "b.jpg")
    buffer = io.BytesIO()
    Image.fromarray(picture(3)).save(buffer, "PNG")
    (root / "c.dat").write_bytes(buffer.getvalue())
    (root / "notes.txt").write_text("no image")
    return root


def test_folder_is_read_by_content_and_subfolders_are_kept(folder: Path, tmp_path: Path) -> None:
    results = predict(Squares(), folder, box=[2, 3, 9, 12], save=("overlay", "png"), out=tmp_path / "out")
    assert [result.name for result in results] == ["a.png", "c.dat", "deep/b.jpg"]
    for name, size in [("a", (24, 32)), ("c", (24, 32)), ("deep/b", (32, 20))]:
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
        np.testing.assert_array_equal(mask, filled([2, 3, 9, 12], *size) * 255)
        drawn = np.asarray(Image.open(tmp_path / "out" / "overlays" / f"{name}.png"))
        assert drawn.shape == (*size, 3)
    original = picture(1)
    drawn = np.asarray(Image.open(tmp_path / "out" / "overlays" / "a.png"))
    assert (drawn[5:11, 4:8] != original[5:11, 4:8]).any()
    np.testing.assert_array_equal(drawn[18:], original[18:])


def test_coco_is_read_back_by_pycocotools(folder: Path, tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO

    boxes = [[2, 3, 9, 12], [5, 5, 19, 20]]
    predict(Squares(), folder, box=boxes, save="coco", out=tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "predictions.coco.json"))
    assert {image["file_name"] for image in coco.loadImgs(coco.getImgIds())} == {"a.png", "c.dat", "deep/b.jpg"}
    assert len(coco.getAnnIds()) == 6
    for image in coco.loadImgs(coco.getImgIds()):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        for annotation, box in zip(annotations, boxes, strict=True):
            expected = filled(box, image["height"], image["width"])
            np.testing.assert_array_equal(coco.annToMask(annotation), expected)
            assert annotation["area"] == expected.sum()
            assert annotation["bbox"] == [box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1]
            assert coco_mask.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]
            assert annotation["score"] == pytest.approx(0.01 * box[0])
            assert annotation["category_id"] in coco.getCatIds()


def test_several_objects_make_an_instance_map(tmp_path: Path) -> None:
    boxes = [[0, 0, 20, 20], [2, 2, 5, 5], [18, 18, 25, 22]]
    (result,) = predict(Squares(), picture(), box=boxes, save="png", out=tmp_path / "out")
    labels = np.asarray(Image.open(tmp_path / "out" / "masks" / "image-1.png"))
    expected = np.zeros((24, 32), np.uint8)
    for index in (0, 2, 1):  # large ones first
        expected[filled(boxes[index])] = index + 1
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(label_map(result.prediction), expected)
    assert result.saved == (tmp_path / "out" / "masks" / "image-1.png",)


def test_arrays_come_back_without_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = predict(Squares(), [picture(0), picture(1, 30, 32)], point=[[10, 12], [20, 9]], save=())
    assert (first.name, second.name) == ("image-1", "image-2")
    np.testing.assert_array_equal(second.prediction.masks.numpy()[0], filled([8, 10, 12, 14], 30, 32))
    assert first.prediction.low_res.shape == (2, SIDE, SIDE)
    assert list(tmp_path.iterdir()) == []


def test_logits_of_saved_images_are_not_kept(tmp_path: Path) -> None:
    (result,) = predict(Squares(), picture(), point=[10, 12], out=tmp_path / "out")
    assert result.prediction.low_res.size == 0
    assert len(result.prediction.masks) == len(result.prediction.scores) == 1


def test_prompts_of_a_file_go_to_their_images(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("image,object,xmin,ymin,xmax,ymax,x,y,label\na.png,,1,1,4,4,,,\na.png,,6,6,9,9,,,\nb,,,,,,7,8,1\n")
    results = {result.name: result for result in predict(Squares(), folder, prompts=path, save=())}
    assert results.keys() == {"a.png", "deep/b.jpg"}
    np.testing.assert_array_equal(
        results["a.png"].prediction.masks.numpy(), [filled([1, 1, 4, 4]), filled([6, 6, 9, 9])]
    )
    np.testing.assert_array_equal(results["deep/b.jpg"].prediction.masks.numpy()[0], filled([5, 6, 9, 10], 32, 20))
    told = capsys.readouterr().err
    assert "without prompts, left out: 1 image" in told
    assert "c.dat" in told


def test_prompts_for_all_and_for_one_are_added(folder: Path) -> None:
    results = predict(Squares(), folder / "a.png", prompts={"a.png": [[1, 1, 3, 3]]}, box=[5, 5, 9, 9], save=())
    np.testing.assert_array_equal(results[0].prediction.masks.numpy(), [filled([5, 5, 9, 9]), filled([1, 1, 3, 3])])


def test_bad_files_are_listed_and_the_others_finished(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.jpg").write_bytes((folder / "deep" / "b.jpg").read_bytes()[:200])
    (folder / "empty.png").touch()
    results = predict(Squares(), folder, box=[1, 1, 5, 5], out=tmp_path / "out")
    assert len(results) == 3
    told = capsys.readouterr().err
    assert "unreadable, left out: 2 images" in told
    assert "broken.jpg" in told
    assert "empty.png" in told
    assert not list((tmp_path / "out").rglob("*broken*"))


def test_existing_outputs_are_not_overwritten_silently(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(Squares(), folder / "a.png", box=[1, 1, 5, 5], out=out)
    before = (out / "overlays" / "a.png").read_bytes()
    model = Squares()
    with pytest.raises(OutputExistsError, match=re.escape("a.png")):
        predict(model, folder, box=[1, 1, 9, 9], out=out)
    assert model.seen == [], "found before the work"
    assert (out / "overlays" / "a.png").read_bytes() == before
    predict(Squares(), folder, box=[1, 1, 9, 9], out=out, overwrite=True)
    assert (out / "overlays" / "a.png").read_bytes() != before
    with pytest.raises(OutputExistsError, match="is a file"):
        predict(Squares(), folder, box=[1, 1, 9, 9], out=folder / "a.png")


@pytest.mark.parametrize("below", ["", "sub"])
def test_a_file_as_out_is_refused_before_the_work(folder: Path, below: str) -> None:
    model = Squares()
    with pytest.raises(OutputExistsError, match="is a file") as caught:
        predict(model, folder, box=[1, 1, 9, 9], out=folder / "a.png" / below)
    assert caught.value.where == str(folder / "a.png")
    assert model.seen == []


def test_failed_writing_names_the_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "masks").touch()
    with pytest.raises(SamfastError, match="writing failed") as caught:
        predict(Squares(), folder / "a.png", box=[1, 1, 9, 9], save="png", out=tmp_path / "out")
    assert caught.value.where == str(tmp_path / "out" / "masks" / "a.png")


def test_default_folder_is_new_and_readable(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        predict(Squares(), folder, box=[1, 1, 9, 9])
    assert {path.name for path in tmp_path.glob("predictions-*")} == {
        "predictions-squares--fake",
        "predictions-squares--fake-2",
    }


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate(["one/x.png", "two/x.png", "two/x.jpg"]):
        paths.append(tmp_path / name)
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(picture(number)).save(paths[-1])
    results = predict(Squares(), paths, box=[1, 1, 9, 9], out=tmp_path / "out")
    written = [path for result in results for path in result.saved]
    assert len(set(written)) == 3
    assert all(path.is_relative_to(tmp_path / "out") and path.exists() for path in written)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no prompts"),
        ({"prompts": {"a.png": []}}, "no prompts"),
        ({"prompts": "none"}, "'none' is no file: a model is asked about a box or a point"),
        ({"prompts": "box"}, "'box' is no file: a model is asked about a box or a point"),
        ({"box": [0, 0, 40, 10]}, r"\[0, 0, 40, 10\] is not on the image: a.png is 32 wide and 24 high"),
        ({"box": [0, 0, float("nan"), 10]}, "not finite"),
        ({"box": [9, 0, 2, 10]}, "wrong way round"),
        ({"point": [5, 24]}, r"\[5, 24\] is not on the image"),
        ({"prompts": {"z.png": [1, 1]}}, "'z.png', and no such image"),
        ({"box": [0, 0, 5, 5], "save": "svg"}, "svg"),
        ({"box": [0, 0, 5, 5], "opacity": 2}, "opacity of 2"),
    ],
)
def test_bad_requests_are_refused_before_the_work(folder: Path, options: dict[str, Any], message: str) -> None:
    model = Squares()
    with pytest.raises(ConfigError, match=message):
        predict(model, folder, **{"out": folder / "out", **options})
    assert model.seen == []
    assert not (folder / "out").exists()


def test_ambiguous_names_are_refused(folder: Path) -> None:
    Image.fromarray(picture(9)).save(folder / "deep" / "a.png")
    with pytest.raises(ConfigError, match=r"could be"):
        predict(Squares(), folder, prompts={"a": [1, 1]}, save=())
    (result,) = predict(Squares(), folder, prompts={"a.png": [1, 1]}, save=())
    assert result.name == "a.png", "the exact path is not ambiguous"


def test_nothing_to_segment(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        predict(Squares(), tmp_path / "none", box=[0, 0, 1, 1])
    with pytest.raises(DataError, match="no images"):
        predict(Squares(), tmp_path, box=[0, 0, 1, 1])
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="not an image"):
        predict(Squares(), tmp_path, box=[0, 0, 1, 1])
    with pytest.raises(ConfigError, match="float64"):
        predict(Squares(), np.zeros((4, 4, 3)), box=[0, 0, 1, 1])


def test_coco_is_whole_json_when_a_mask_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(Squares):
        def decode(self, embedding: Embedding, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
            logits, scores = super().decode(embedding, tokens)
            return np.full_like(logits, -1.0), scores

    predict(Nothing(), picture(), box=[1, 1, 5, 5], save=("overlay", "png", "coco"), out=tmp_path)
    (annotation,) = json.loads((tmp_path / "predictions.coco.json").read_text())["annotations"]
    assert (annotation["area"], annotation["bbox"]) == (0, [0, 0, 0, 0])
