"""What callbacks are told, and what becomes of a run when one of them fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from samfast.errors import ConfigError, RunError, RuntimeUnavailableError
from samfast.inference.draw import PALETTE
from samfast.train import Callback, Run, train_decoder
from samfast.train.engine import Trainer
from samfast.train.loggers import LOGGERS
from samfast.train.pictures import GAP_PX

SETTINGS = {"epochs": 3, "batch_size": 3, "max_prompts": 2, "device": "cpu", "lr": 1e-3, "regime": "box", "seed": 3}


class Diary(Callback):
    pictures = 1

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def of(self, event: str) -> list[dict[str, Any]]:
        return [values for name, values in self.told if name == event]

    def on_start(self, **values: Any) -> None:
        self.told.append(("start", values))

    def on_step(self, **values: Any) -> None:
        self.told.append(("step", values))

    def on_validation(self, **values: Any) -> None:
        self.told.append(("validation", values))

    def on_end(self, **values: Any) -> None:
        self.told.append(("end", values))


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(path / "last.safetensors") for path in (one, other))
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture(scope="module")
def told(dataset, cache, tmp_path_factory) -> tuple[Run, Diary]:
    diary = Diary()
    out = tmp_path_factory.mktemp("runs") / "told"
    return train_decoder(dataset, cache=cache, out=out, callbacks=[diary, Callback()], **SETTINGS), diary


def test_a_run_is_told_from_its_start_to_its_end(told) -> None:
    run, diary = told
    assert [name for name, _ in diary.told] == ["start", "validation", *["step", "step", "validation"] * 3, "end"]
    assert diary.of("start") == [{"path": run.path, "settings": run.config.to_dict(), "step": 0}]
    steps = diary.of("step")
    assert [values["step"] for values in steps] == [1, 2, 3, 4, 5, 6]
    assert [values["epoch"] for values in steps] == [1, 1, 2, 2, 3, 3]
    for each in steps:
        assert set(each["values"]) == {"loss", "loss_bce", "loss_dice", "loss_iou", "lr"}
        assert all(type(value) is float for value in each["values"].values())
    for line, seen in zip(run.metrics, diary.of("validation"), strict=True):
        assert seen["epoch"] == line["epoch"]
        assert seen["step"] == 2 * line["epoch"]
        assert seen["values"] == {
            name: value for name, value in line.items() if name[:8] in ("val_iou", "val_iou_", "val_dice")
        }
    summary = json.loads((run.path / "training_metrics.json").read_text())
    assert diary.of("end") == [{"finished": True, "summary": summary}]


def test_the_losses_told_are_those_of_the_epoch(told) -> None:
    run, diary = told
    steps = [values["values"]["loss"] for values in diary.of("step")]
    for line in run.metrics[1:]:
        first, second = steps[2 * line["epoch"] - 2 :][:2]
        assert min(first, second) <= line["loss"] <= max(first, second)


def test_watching_changes_nothing(told, dataset, cache, tmp_path) -> None:
    plain = train_decoder(dataset, cache=cache, out=tmp_path / "plain", **SETTINGS)
    assert same_weights(plain.path, told[0].path)


def test_pictures_show_image_annotation_and_answers(told, dataset) -> None:
    _, diary = told
    shown = [seen["pictures"] for seen in diary.of("validation")]
    sample = dataset.of("val", state="labelled")[0]
    height, width = sample.size
    assert all(list(pictures) == [sample.name] for pictures in shown)
    picture = shown[0][sample.name]
    assert picture.shape == (height, 3 * width + 2 * GAP_PX, 3)
    image, truth, answer = (picture[:, start:][:, :width] for start in range(0, picture.shape[1], width + GAP_PX))
    np.testing.assert_array_equal(image, dataset.image(sample))
    assert (truth != image).any()
    assert (answer != truth).any()
    mask = dataset.target(sample).masks.numpy()[0]
    mixed = 0.55 * image[mask].astype(float) + 0.45 * np.array(PALETTE[0])
    assert np.median(np.abs(truth[mask] - mixed)) < 2
    assert any((shown[0][sample.name] != later[sample.name]).any() for later in shown[1:]), "the answers changed"


@pytest.mark.parametrize("event", ["on_start", "on_step", "on_validation", "on_end"])
def test_a_callback_that_fails_is_named_and_loses_nothing(told, dataset, cache, tmp_path, event) -> None:
    class Broken(Callback):
        calls = 0

        def fail(self, **values: Any) -> None:
            self.calls += 1
            if event in ("on_start", "on_end") or values["step"] == 4:
                raise ZeroDivisionError("in my own code")

    setattr(Broken, event, Broken.fail)
    other = Diary()
    with pytest.raises(
        RunError, match=r"callback Broken failed: ZeroDivisionError: in my own code[\s\S]*" + event
    ) as caught:
        train_decoder(dataset, cache=cache, out=tmp_path / "run", callbacks=[Broken(), other], **SETTINGS)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    kept = Run(tmp_path / "run")
    assert kept.is_finished == (event == "on_end")
    if event == "on_validation":
        assert [line["epoch"] for line in kept.metrics] == [0, 1, 2], "the epoch that was told is kept"
    if event != "on_start":
        assert other.of("end")[0]["finished"] == (event == "on_end")
        assert "Broken failed" in (kept.path / "run.log").read_text()
    if event != "on_end":
        train_decoder(dataset, cache=cache, out=tmp_path / "run", **SETTINGS)
    assert same_weights(kept.path, told[0].path)


def test_the_error_of_a_run_is_not_hidden_by_a_callback(dataset, cache, tmp_path, monkeypatch) -> None:
    class Clumsy(Callback):
        def on_end(self, **_: Any) -> None:
            raise OSError("no route to host")

    def diverge(self, batch, number):
        raise RunError("the loss became nan")

    monkeypatch.setattr(Trainer, "step", diverge)
    with pytest.raises(RunError, match="became nan"):
        train_decoder(dataset, cache=cache, out=tmp_path / "run", callbacks=[Clumsy()], **SETTINGS)
    assert "Clumsy failed: OSError: no route to host" in (tmp_path / "run" / "run.log").read_text()


def test_what_is_no_callback_is_found_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no callback"):
        train_decoder(tmp_path / "absent", callbacks=[print])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"no logger 'comet'[\s\S]*tensorboard, wandb, mlflow"):
        train_decoder(tmp_path / "absent", callbacks=["comet"])


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_without_its_package_says_what_to_install(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(RuntimeUnavailableError, match=rf"{name} is not installed[\s\S]*pip install {name}"):
        train_decoder(tmp_path / "absent", callbacks=[name])
