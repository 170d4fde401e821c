"""Weights for others: what they load is what the run predicts with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam as OfficialSam

from samfast.cli import cli
from samfast.data.shapes import shape_scene
from samfast.errors import CheckpointError, ConfigError, OutputExistsError
from samfast.export import export_checkpoint, export_decoder, export_huggingface, with_decoder
from samfast.inference.segmenter import segment
from samfast.models.architecture import get_architecture
from samfast.models.checkpoints import load_model
from samfast.models.sam import Sam
from samfast.models.segmenter import TorchSegmenter
from samfast.prompts import box_prompts
from samfast.train import Run

IMAGE = shape_scene(9, 0, size=(90, 130))[0]
BOX = np.array([[20, 15, 90, 70]])


def logits(sam: Sam) -> np.ndarray:
    segmenter = TorchSegmenter(sam, device="cpu")
    return segment(segmenter, segmenter.embed([IMAGE]), box_prompts(BOX)).low_res


def drawn(name: str) -> Sam:
    """A model all of whose parameters and buffers are random."""
    torch.manual_seed(4)
    sam = Sam(get_architecture(name))
    with torch.no_grad():
        for value in [*sam.parameters(), *sam.buffers()]:
            value.normal_(std=0.02)
    return sam.eval()


def test_a_checkpoint_is_the_tuned_model(run: Run, sam: Sam, tmp_path: Path) -> None:
    path = export_checkpoint(run, out=tmp_path / "tuned.pth")
    again = load_model("tiny", checkpoint=path)
    np.testing.assert_array_equal(logits(again), logits(run.sam()))
    assert np.abs(logits(again) - logits(sam)).max() > 1e-3
    with pytest.raises(OutputExistsError, match="exists"):
        export_checkpoint(run, out=path)
    assert export_checkpoint(run, out=path, overwrite=True) == path
    assert export_checkpoint(run) == run.path.with_name("boxes.pth")


@pytest.mark.slow
def test_segment_anything_loads_the_checkpoint_unchanged(tmp_path: Path) -> None:
    sam = drawn("vit_b")
    path = export_checkpoint(sam, out=tmp_path / "sam.pth")
    official: OfficialSam = sam_model_registry["vit_b"](str(path))
    predictor = SamPredictor(official)
    predictor.set_image(IMAGE)
    _, scores, found = predictor.predict(box=BOX[0], multimask_output=False)
    segmenter = TorchSegmenter(sam, device="cpu")
    ours = segment(segmenter, segmenter.embed([IMAGE]), box_prompts(BOX))
    np.testing.assert_allclose(found, ours.low_res, atol=1e-4)
    np.testing.assert_allclose(scores, ours.scores, atol=1e-4)


def test_a_decoder_goes_into_its_base_model_again(run: Run, sam: Sam, tmp_path: Path) -> None:
    path = export_decoder(run, out=tmp_path / "tuned.safetensors")
    assert path.stat().st_size < 2.1 * sum(value.numel() for value in run.decoder_state().values())
    found, wanted = logits(with_decoder(load_model("tiny"), path)), logits(run.sam())
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()  # of float16
    assert np.abs(found - logits(sam)).max() > 10 * np.abs(found - wanted).max()

    other = load_model("tiny")
    with torch.no_grad():
        other.image_encoder.pos_embed += 0.1
    with pytest.raises(CheckpointError, match="another tiny"):
        with_decoder(other, path)
    stranger = export_checkpoint(run, out=tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        with_decoder(load_model("tiny"), stranger)


def test_the_decoder_of_an_official_model_is_small(tmp_path: Path) -> None:
    with torch.device("meta"):
        count = sum(value.numel() for value in Sam(get_architecture("vit_b")).decoder_state().values())
    assert 2 * count <= 9e6


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def hugging_face_logits(library: Any, folder: Path, pixels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Of the folder's own processor, or of ``(3, size, size)`` pixels: Pillow resizes a little unlike torchvision."""
    model, processor = library.SamModel.from_pretrained(folder).eval(), library.SamProcessor.from_pretrained(folder)
    inputs = processor(images=IMAGE, input_boxes=[BOX.astype(float).tolist()], return_tensors="pt")
    if pixels is not None:
        inputs["pixel_values"] = torch.from_numpy(pixels)[None]
    with torch.no_grad():
        found = model(**inputs, multimask_output=False)
    return found.pred_masks[0, 0].numpy(), found.iou_scores[0, 0].numpy()


@pytest.mark.parametrize("name", ["tiny", pytest.param("vit_b", marks=pytest.mark.slow)])
def test_transformers_predicts_the_same(transformers: Any, name: str, tmp_path: Path) -> None:
    sam = drawn(name)
    folder = export_huggingface(sam, out=tmp_path / "hf")
    found, scores = hugging_face_logits(transformers, folder)
    segmenter = TorchSegmenter(sam, device="cpu")
    ours = segment(segmenter, segmenter.embed([IMAGE]), box_prompts(BOX))
    np.testing.assert_allclose(found, ours.low_res, atol=1e-4)
    np.testing.assert_allclose(scores, ours.scores, atol=1e-4)


def test_a_tuned_folder_carries_its_card(transformers: Any, run: Run, sam: Sam, tmp_path: Path) -> None:
    folder = export_huggingface(run, out=tmp_path / "hf")
    wanted = logits(run.sam())
    found, _ = hugging_face_logits(transformers, folder, sam.spec.preprocess(IMAGE))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
    found, _ = hugging_face_logits(transformers, folder)
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert np.abs(found - logits(sam)).max() > 1e-3
    card = (folder / "README.md").read_text()
    for said in ("`box`", "component masks", run.dataset_info["annotation_hash"][:16], "2 train", "iou by box", "[0]"):
        assert said in card
    assert str(run.dataset_info["root"]) not in card
    with pytest.raises(OutputExistsError, match="exists"):
        export_huggingface(run, out=folder)
    export_huggingface(run, out=folder, overwrite=True)


def test_the_command_line_writes_each_format(transformers: Any, run: Run, tmp_path: Path) -> None:
    for kind, name in (("pth", "a.pth"), ("decoder", "a.safetensors"), ("hf", "folder")):
        out = tmp_path / name
        result = CliRunner().invoke(cli, ["export", str(run.path), "--format", kind, "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert out.exists()


@pytest.mark.parametrize("write", [export_checkpoint, export_decoder, export_huggingface])
def test_what_is_no_model(write: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a model nor a run"):
        write(tmp_path / "nothing", out=tmp_path / "out")
