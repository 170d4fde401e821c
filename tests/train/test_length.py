"""How long a run is, and how large its batches: steps in place of epochs, and the batch size that a device takes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from samfast.errors import ConfigError
from samfast.train import Run, TrainConfig, train_decoder
from samfast.train.batch_size import fitting_batch_size
from samfast.train.engine import Trainer

QUICK = {"batch_size": 2, "max_prompts": 2, "prompts_per_object": 1, "device": "cpu", "regime": "box", "lr": 1e-3}


def last(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "last.safetensors")


def test_steps_end_a_run_within_an_epoch(dataset, cache, tmp_path, monkeypatch) -> None:
    """Six images, two a batch: three steps an epoch."""
    taken: list[int] = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *given: taken.append(given[1]) or step(self, *given))
    settings = {**QUICK, "schedule": "constant"}
    run = train_decoder(dataset, cache=cache, out=tmp_path / "steps", steps=5, eval_interval=9, **settings)
    assert taken == [0, 1, 2, 3, 4]
    assert [line["epoch"] for line in run.metrics if "val_iou" in line] == [0, 2], "the last epoch is judged"
    epochs = train_decoder(dataset, cache=cache, out=tmp_path / "epochs", epochs=1, **settings)
    assert run.metrics[1]["loss"] == epochs.metrics[1]["loss"]
    assert run.config.steps == 5
    assert run.config.epochs == 0
    again = train_decoder(dataset, cache=cache, recipe=run.path / "config.toml", epochs=1, out=tmp_path / "again")
    assert (again.config.epochs, again.config.steps) == (1, 0)


def test_an_interrupted_run_of_steps_continues(dataset, cache, tmp_path, monkeypatch) -> None:
    settings = {**QUICK, "steps": 5, "schedule": "cosine"}
    whole = train_decoder(dataset, cache=cache, out=tmp_path / "whole", **settings)
    step = Trainer.step

    def interrupted(self, batches, number):
        if number == 4:
            raise KeyboardInterrupt
        return step(self, batches, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_decoder(dataset, cache=cache, out=tmp_path / "parts", **settings)
    resumed = train_decoder(dataset, cache=cache, out=tmp_path / "parts", **settings)
    assert all(torch.equal(value, last(whole)[name]) for name, value in last(resumed).items())
    with pytest.raises(AssertionError):
        assert all(torch.equal(value, cache.decoder().state_dict()[name]) for name, value in last(resumed).items())


def test_schedules_end_with_the_steps(cache) -> None:
    config = TrainConfig.make(steps=10, schedule="cosine", lr=1.0)
    each = Trainer(cache.decoder(), config, steps_per_epoch=4, device=torch.device("cpu"))
    rates = [each.learning_rate(step) for step in range(10)]
    assert rates[3] < rates[4] == 1.0
    assert 0 < rates[9] < 0.1


@pytest.mark.parametrize("settings", [{"epochs": 2, "steps": 3}, {"epochs": 0}, {"steps": -1}])
def test_a_run_has_one_length(settings) -> None:
    with pytest.raises(ConfigError, match=r"epochs|steps"):
        TrainConfig.make(**settings)


def test_the_batch_size_that_is_decoded_at_once(dataset, cache, monkeypatch) -> None:
    config = TrainConfig.make(batch_size="auto", max_prompts=2, prompts_per_object=2, regime="box")
    samples = list(dataset.of("train", state="labelled"))
    about = {"device": torch.device("cpu"), "precision": "fp32"}

    def size(chunk: int, *, images: int = 9_000, devices: int = 1) -> int:
        monkeypatch.setattr("samfast.train.engine.CHUNK_POSITIONS_ELSEWHERE", chunk * cache.spec.embedding**2)
        given, many = config.replace(devices=devices), samples * (images // len(samples))
        return fitting_batch_size(cache.decoder(), dataset, many, cache.read, given, **about)

    assert size(32) in (8, 16)  # four prompts an image, or fewer where it has one object
    assert size(128) == 4 * size(32)
    assert size(32, devices=2) == 2 * size(32)
    assert size(128, images=96) == 4
    assert size(1, images=6) == 1


def test_a_run_keeps_the_batch_size_it_chose(dataset, cache, tmp_path, monkeypatch, capsys) -> None:
    settings = {**QUICK, "epochs": 2, "out": tmp_path / "run", "batch_size": "auto"}
    chosen = iter([3])
    monkeypatch.setattr("samfast.train.loop.fitting_batch_size", lambda *_, **__: next(chosen))
    step = Trainer.step

    def interrupted(self, batches, number):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, batches, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_decoder(dataset, cache=cache, **settings)
    assert "batch size: 3 images" in capsys.readouterr().err
    run = train_decoder(dataset, cache=cache, **settings)  # nobody is asked again
    assert run.is_finished
    assert run.config.batch_size == 3
    assert "batch_size = 3" in (run.path / "config.toml").read_text()
