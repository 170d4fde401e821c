"""What the loggers write is read back with the packages themselves."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from samfast.cli import cli
from samfast.train import Run, train_decoder
from samfast.train.engine import Trainer
from samfast.train.loggers import MlflowLogger, TensorBoardLogger, WandbLogger

SETTINGS = {"epochs": 2, "batch_size": 3, "max_prompts": 2, "device": "cpu", "lr": 1e-3, "regime": "box", "seed": 3}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)


def interrupted_once(train: Any, monkeypatch) -> Run:
    """Train, interrupted in the second step of epoch 2, and again to the end."""
    step = Trainer.step

    def interrupt(self, batch, number):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train()
    return train()


def test_tensorboard_reads_scalars_and_pictures(dataset, cache, tmp_path, monkeypatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = interrupted_once(
        lambda: train_decoder(dataset, cache=cache, out=tmp_path / "run", callbacks=["tensorboard"], **SETTINGS),
        monkeypatch,
    )
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [each.step for each in losses] == [1, 2, 3, 4], "the step that was done twice is told once"
    assert np.mean([each.value for each in losses[:2]]) == pytest.approx(run.metrics[1]["loss"], rel=0.2)
    judged = events.Scalars("val/iou")
    assert [each.step for each in judged] == [0, 2, 4]
    np.testing.assert_allclose([each.value for each in judged], [line["val_iou"] for line in run.metrics], rtol=1e-6)
    names = [sample.name for sample in dataset.of("val", state="labelled")]
    assert sorted(events.Tags()["images"]) == sorted(f"val/{name}" for name in names)
    for each in events.Images(f"val/{names[0]}"):
        picture = Image.open(io.BytesIO(each.encoded_image_string))
        assert picture.size == (each.width, each.height)
    assert len(events.Images(f"val/{names[0]}")) == 3


def test_wandb_offline(dataset, cache, tmp_path, monkeypatch) -> None:
    pytest.importorskip("wandb")
    run = interrupted_once(
        lambda: train_decoder(
            dataset, cache=cache, out=tmp_path / "run", callbacks=[WandbLogger("water", pictures=1)], **SETTINGS
        ),
        monkeypatch,
    )
    files = sorted((run.path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2, "before and after the interruption"
    assert len({file.name for file in files}) == 1, "one run to Weights & Biases"
    history, configs = [], []
    for file in files:
        for record in records(file):
            if record.WhichOneof("record_type") == "history":
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                history.append(items)
            if record.WhichOneof("record_type") == "run":
                configs.append({item.key: json.loads(item.value_json) for item in record.run.config.update})
                assert record.run.project == "water"
    assert configs[0]["regime"] == "box"
    judged = {items["_step"]: items["val/iou"] for items in history if "val/iou" in items}
    assert judged == {2 * line["epoch"]: pytest.approx(line["val_iou"]) for line in run.metrics}
    pictures = list(run.path.glob("wandb/offline-run-*/files/media/images/**/*.png"))
    assert len(pictures) == 3
    assert Image.open(pictures[0]).mode == "RGB"


def records(file: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: a log of LevelDB, in blocks of 32 KiB, after 7 bytes of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if -at % 32768 < 7:
            at += -at % 32768
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def test_mlflow_in_a_folder(dataset, cache, tmp_path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "mlruns").as_uri()
    run = interrupted_once(
        lambda: train_decoder(
            dataset,
            cache=cache,
            out=tmp_path / "run",
            callbacks=[MlflowLogger("water", tracking_uri=uri, pictures=1)],
            **SETTINGS,
        ),
        monkeypatch,
    )
    client = mlflow.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("water").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "run"
    assert found.data.params["regime"] == "box"
    assert json.loads(found.data.params["trainable"]) == ["prompt_encoder", "mask_decoder"]
    judged = {each.step: each.value for each in client.get_metric_history(found.info.run_id, "val/iou")}
    assert judged == {2 * line["epoch"]: pytest.approx(line["val_iou"]) for line in run.metrics}
    pictures = [path for path in (tmp_path / "mlruns").rglob("*.png") if "val" in path.parts]
    assert len(pictures) == 3
    assert Image.open(pictures[0]).mode == "RGB"


def test_a_folder_of_ones_own(dataset, cache, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(tmp_path / "events", pictures=0)
    run = train_decoder(dataset, cache=cache, out=tmp_path / "run", callbacks=[logger], **{**SETTINGS, "epochs": 1})
    assert list((tmp_path / "events").iterdir())
    assert not (run.path / "tensorboard").exists()


def test_the_command_line_logs(scenes, cache, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    arguments = ["train", str(scenes), "--cache", str(cache.path), "--epochs", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, [*arguments, "--device", "cpu", "--log", "tensorboard"])
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert CliRunner().invoke(cli, [*arguments, "--log", "comet"]).exit_code == 2
