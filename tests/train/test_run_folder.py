"""What a run leaves for people, tools and later: the log, the figures, and the weights of more than the best epoch."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from samfast.artifacts import verify
from samfast.errors import CheckpointError, ConfigError, RunError
from samfast.evaluation import evaluate
from samfast.export import export_decoder
from samfast.train import Run, train_decoder
from samfast.train.engine import Trainer
from samfast.train.folder import RunFolder, differences

SETTINGS = {"epochs": 4, "batch_size": 3, "max_prompts": 2, "device": "cpu", "lr": 1e-3, "regime": "box", "seed": 3}


@pytest.fixture(scope="module")
def run(dataset, cache, tmp_path_factory) -> Run:
    return train_decoder(dataset, cache=cache, out=tmp_path_factory.mktemp("runs") / "kept", keep=2, **SETTINGS)


@pytest.fixture(scope="module")
def weights_by_epoch(dataset, cache, tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """The decoder after each epoch of the same run, seen from outside."""
    seen = []
    keep = RunFolder.save_epoch

    def spy(self, weights, *arguments) -> None:
        seen.append({name: tensor.clone() for name, tensor in weights.items()})
        keep(self, weights, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save_epoch", spy)
        train_decoder(dataset, cache=cache, out=tmp_path_factory.mktemp("runs") / "seen", **SETTINGS)
    return seen


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_best_epochs_are_kept(run, weights_by_epoch) -> None:
    ranked = sorted(run.metrics, key=lambda line: (-line["val_iou"], line["epoch"]))
    assert [each.epoch for each in run.kept] == [line["epoch"] for line in ranked[:2]]
    assert len(list((run.path / "checkpoints").iterdir())) == 2
    for each, line in zip(run.kept, ranked, strict=False):
        assert each.val_iou == pytest.approx(line["val_iou"], abs=1e-4)
        opened = Run(run.path, which=each.epoch)
        assert opened.selected_epoch == each.epoch
        assert equal(opened.decoder_state(), weights_by_epoch[each.epoch])
    assert equal(run.decoder_state(), weights_by_epoch[ranked[0]["epoch"]])
    last = Run(run.path, which="last")
    assert last.selected_epoch == 4
    assert equal(last.decoder_state(), weights_by_epoch[4])
    assert not equal(last.decoder_state(), weights_by_epoch[3])


def test_weights_say_what_they_belong_to(run, cache) -> None:
    from safetensors import safe_open

    for path in [*run.path.glob("*.safetensors"), *run.path.glob("checkpoints/*.safetensors")]:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata()
        assert about["encoder"] == cache.fingerprint
        assert about["decoder"] == cache.manifest.decoder
        line = run.metrics[int(about["epoch"])]
        assert float(about["val_iou"]) == line["val_iou"]


def test_any_of_them_goes_wherever_a_run_goes(run, dataset, tmp_path) -> None:
    last = Run(run.path, which="last")
    report = evaluate([run, last], dataset, prompts=["box"], on="val", device="cpu", baselines=False)
    for opened in (run, last):
        judged = np.mean([row.iou for row in report.rows if row.model == opened.name])
        assert judged == pytest.approx(run.metrics[opened.selected_epoch]["val_iou"], abs=1e-6)
    assert run.name == "kept"
    assert last.name == "kept@last"
    assert last.segmenter(device="cpu").name == "kept@last"
    state = load_file(export_decoder(last, out=tmp_path / "last.safetensors"))
    assert all(torch.equal(tensor.half(), state[name]) for name, tensor in last.decoder_state().items())


@pytest.mark.parametrize("which", ["worst", 99])
def test_weights_that_are_not_there(run, which) -> None:
    with pytest.raises(ConfigError, match=r"which=.* are no weights[\s\S]*'best', 'last', or a kept epoch \("):
        Run(run.path, which=which)


def test_weights_of_another_base_model_are_refused(run, tmp_path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(run.path, copied)
    state = load_file(copied / "best.safetensors")
    about = {"model": run.model, "encoder": "0" * 64, "decoder": run.record["encoder"]["decoder"], "epoch": "1"}
    save_file(state, copied / "best.safetensors", metadata=about)
    with pytest.raises(CheckpointError, match=r"another base model.*encoder differ"):
        Run(copied).sam()
    assert Run(copied, which="last").sam() is not None


def test_all_weights_are_verified(run, tmp_path) -> None:
    assert verify(run.path)["weights"] == 4
    copied = tmp_path / "copy"
    shutil.copytree(run.path, copied)
    kept = run.kept[1].path.relative_to(run.path)
    (copied / kept).write_bytes(b"half")
    with pytest.raises(RunError, match="damaged"):
        verify(copied)


def test_figures_in_one_file(run) -> None:
    found = json.loads((run.path / "training_metrics.json").read_text())
    assert found["epochs"] == run.metrics
    assert found["best"] == run.metrics[run.selected_epoch]
    assert found["last"] == run.metrics[4]
    assert found["untuned"] == run.metrics[0]
    assert found["state"] == "finished"
    spent = sum(line["seconds"] + line["val_seconds"] for line in run.metrics)
    assert found["seconds"] == pytest.approx(spent, abs=0.01)


def test_the_log_holds_what_was_said(dataset, cache, tmp_path, monkeypatch, capsys) -> None:
    step = Trainer.step

    def interrupted(self, batch, number):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, batch, number)

    def train() -> Run:
        return train_decoder(dataset, cache=cache, out=tmp_path / "run", **{**SETTINGS, "epochs": 2})

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train()
    log = tmp_path / "run" / "run.log"
    log.write_bytes(log.read_bytes() + b"2026-01-01T00:00:00Z  cut o")  # by a kill
    train()
    lines = log.read_text().splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  .+", line) for line in lines)
    said = [line.partition("  ")[2] for line in lines]
    assert said.count(f"run: {tmp_path / 'run'}") == 2
    assert "cut o" in said
    assert said[-1] == "finished"
    told = capsys.readouterr().err.splitlines()
    assert [line for line in said if line not in ("cut o", "finished")] == told
    assert any(line.startswith("interrupted in epoch 2") for line in told)


def test_the_log_says_why_a_run_ended(dataset, cache, tmp_path, monkeypatch) -> None:
    def diverge(self, batch, number):
        raise RunError("the loss became nan", fix="a smaller lr")

    monkeypatch.setattr(Trainer, "step", diverge)
    with pytest.raises(RunError):
        train_decoder(dataset, cache=cache, out=tmp_path / "run", **SETTINGS)
    assert "error: epoch 1: the loss became nan" in (tmp_path / "run" / "run.log").read_text()
    assert json.loads((tmp_path / "run" / "training_metrics.json").read_text())["state"] == "training"
    assert Run(tmp_path / "run", which="last").selected_epoch == 0


def test_a_class_map_that_changed_is_named(run) -> None:
    changed = json.loads(json.dumps(run.record))
    changed["dataset"]["classes"] = ["water"]
    assert differences(run.record, changed) == [("classes", ["foreground"], ["water"])]
    assert differences(run.record, run.record) == []


def test_an_average_of_weights_is_what_is_kept(dataset, cache, tmp_path) -> None:
    run = train_decoder(dataset, cache=cache, out=tmp_path / "run", keep=5, ema=0.9, **SETTINGS)
    last = Run(run.path, which="last")
    assert equal(last.decoder_state(), Run(run.path, which=4).decoder_state())


def test_overwriting_removes_all_of_a_run(run, dataset, cache, tmp_path) -> None:
    copied: Path = tmp_path / "copy"
    shutil.copytree(run.path, copied)
    again = train_decoder(dataset, cache=cache, out=copied, overwrite=True, **{**SETTINGS, "epochs": 1})
    assert again.kept == ()
    assert "epoch   4/4" not in (copied / "run.log").read_text()
