"""export_onnx: what it takes, what it refuses, and that a run's bundle predicts what the run predicts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samfast.data.shapes import shape_scene
from samfast.errors import (
    CheckpointError,
    ConfigError,
    ExportError,
    OutputExistsError,
    RunError,
    RuntimeUnavailableError,
)
from samfast.export import export_onnx, job, translate
from samfast.inference.segmenter import segment
from samfast.inference.tokens import tokenize
from samfast.models.architecture import get_architecture
from samfast.models.fingerprint import hash_tensors
from samfast.models.sam import Sam
from samfast.prompts import box_prompts
from samfast.runtime import OnnxBundle, OnnxSegmenter
from samfast.runtime.sessions import count_gpus
from samfast.train import Run

without_gpu = pytest.mark.skipif(count_gpus() > 0, reason="there is an NVIDIA GPU: nothing is missing here")


@pytest.fixture(scope="session")
def tuned(run: Run) -> OnnxBundle:
    return export_onnx(run)


def test_a_run_is_exported_beside_itself(run: Run, tuned: OnnxBundle) -> None:
    assert tuned.path == run.path.with_name("boxes.onnxbundle")
    assert tuned.name == "boxes (onnx)"
    assert tuned.contract == run.contract
    assert tuned.classes == tuple(run.dataset_info["classes"])
    assert tuned.encoder.encoder["weights"] == run.record["encoder"]["parts"]["weights"]
    assert tuned.decoder.weights_sha256 == hash_tensors(run.decoder_state())
    about = tuned.info()["run"]
    assert (about["name"], about["epoch"]) == ("boxes", run.selected_epoch)
    assert about["annotation_hash"] == run.dataset_info["annotation_hash"]
    text = json.dumps(tuned.info())
    assert str(run.dataset_info["root"]) not in text  # a bundle travels, and says nothing of where it was made


def test_a_run_and_its_bundle_predict_the_same(run: Run, tuned: OnnxBundle) -> None:
    image, _ = shape_scene(6, 0, size=(120, 170))
    boxes = box_prompts(np.array([[10, 12, 80, 90], [60, 30, 160, 110]]))
    found, expected = (
        segment(segmenter, segmenter.embed([image]), boxes)
        for segmenter in (OnnxSegmenter(tuned, device="cpu"), run.segmenter(device="cpu"))
    )
    np.testing.assert_allclose(found.low_res, expected.low_res, atol=1e-3)
    assert (found.masks.numpy() == expected.masks.numpy()).mean() >= 0.9999


def test_a_bundle_predicts_and_is_judged(run: Run, tuned: OnnxBundle) -> None:
    image, _ = shape_scene(6, 1, size=(100, 90))
    (ours,) = tuned.predict(image, box=[8, 9, 70, 66], save=())
    (theirs,) = run.predict(image, box=[8, 9, 70, 66], save=())
    assert (ours.prediction.masks.numpy() == theirs.prediction.masks.numpy()).mean() >= 0.9999
    assert "boxes (onnx)" in tuned.evaluate("val", data=run.dataset(), prompts=("box",), baselines=False).table()
    with pytest.raises(ConfigError, match="no data to judge on"):
        tuned.evaluate("val")


@pytest.mark.parametrize("device", ["tpu", pytest.param("cuda", marks=without_gpu)])
def test_a_device_that_is_not_there_is_no_silent_cpu(tuned: OnnxBundle, device: str) -> None:
    with pytest.raises((ConfigError, RuntimeUnavailableError), match=f"device='{device}'"):
        tuned.predict(np.zeros((9, 9, 3), np.uint8), box=[1, 1, 5, 5], save=(), device=device)


def test_another_encoder_than_the_runs(run: Run, official_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="another encoder"):
        export_onnx(run.path, out=tmp_path / "x", checkpoint=official_checkpoint("tiny", 9))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def _translated(graph_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graphs of ``sam`` from where they were translated before."""

    def copy(name: str) -> Callable[[Any, Path], Path]:
        return lambda _, folder: Path(shutil.copy(graph_folder / name, folder))

    monkeypatch.setattr(job, "translate_encoder", copy("encoder.onnx"))
    monkeypatch.setattr(job, "translate_decoder", copy("decoder.onnx"))


@pytest.mark.usefixtures("_translated")
def test_the_name_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = export_onnx("tiny")
    assert bundle.path.resolve() == tmp_path / "tiny.onnxbundle"
    assert bundle.decoder.run is None
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert "exported tiny.onnxbundle" in err
    assert f"logits within {bundle.decoder.parity['logit_difference']:.1e}" in err


def test_what_is_no_model(draw_model: Callable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a model nor a run"):
        export_onnx("vit_x", out=tmp_path / "x")
    with pytest.raises(RunError, match="no training run"):
        export_onnx(tmp_path, out=tmp_path / "x")
    with pytest.raises(CheckpointError, match="vit_b needs its checkpoint"):
        export_onnx("vit_b", out=tmp_path / "x")
    with pytest.raises(ConfigError, match="decoder-only"):
        export_onnx(draw_model("tiny", decoder_only=True), out=tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_an_existing_bundle_is_known_before_the_work(sam: Any, tuned: OnnxBundle, monkeypatch: Any) -> None:
    monkeypatch.setattr(job, "_write", lambda *_: pytest.fail("worked before it looked"))
    with pytest.raises(OutputExistsError, match="overwrite"):
        export_onnx(sam, out=tuned.path)


@pytest.mark.usefixtures("_translated")
def test_a_failed_gate_leaves_nothing(sam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = job.measure_parity
    monkeypatch.setattr(job, "measure_parity", lambda *models: replace(measure(*models), logit_difference=0.002))
    with pytest.raises(ExportError, match=r"(?s)does not predict.*logits within 2\.0e-03"):
        export_onnx(sam, out=tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_another_geometry_with_weights_of_their_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], recwarn: Any
) -> None:
    monkeypatch.setattr(translate, "LARGEST_MESSAGE_BYTES", 1_000_000)  # as the encoder of vit_h is above 2 GB
    small = replace(
        get_architecture("tiny"), image_size=96, encoder_depth=2, encoder_global_layers=(1,), encoder_window=5
    )
    torch.manual_seed(0)
    sam = Sam(small).eval()
    for parameter in sam.requires_grad_(False).parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / "small.onnxbundle"
    bundle = export_onnx(sam, out=path)
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 2)
    assert not recwarn.list
    assert sorted(os.listdir(path)) == ["decoder.onnx", "decoder.onnx.data", "encoder.onnx", "encoder.onnx.data"]
    assert bundle.info()["size_bytes"] == sum(file.stat().st_size for file in path.iterdir())

    moved = OnnxBundle(path.rename(tmp_path / "moved.onnxbundle"))
    moved.verify()
    segmenter = OnnxSegmenter(moved, device="cpu")
    embedding = segmenter.embed([shape_scene(6, 2, size=(60, 77))[0]] * 3)
    assert embedding.features["image_embeddings"].shape == (3, 128, 12, 12)
    prompts = box_prompts(np.array([[5, 6, 40, 50]]))
    logits, _ = segmenter.decode(embedding, tokenize(prompts, embedding.frames))
    assert logits.shape == (1, 4, 48, 48)

    with (moved.path / "encoder.onnx.data").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=r"(?s)changed or damaged.*encoder\.onnx"):
        moved.verify()


def test_half_precision_models_are_exported_in_full(
    draw_model: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[Any] = []

    def write(source: Any, _: Path) -> None:
        exported.append(source.sam)
        raise ExportError("seen")

    monkeypatch.setattr(job, "_write", write)
    sam = draw_model("tiny", 4).half()
    with pytest.raises(ExportError, match="seen"):
        export_onnx(sam, out=tmp_path / "x")
    assert next(sam.parameters()).dtype == torch.float16
    assert {tensor.dtype for tensor in exported[0].parameters()} == {torch.float32}
