"""A run that is killed in the middle of an epoch goes on there, with the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from samfast.cache import atomic
from samfast.errors import RunError
from samfast.train import Run, fit, folder, train_decoder
from samfast.train.callbacks import Callback
from samfast.train.engine import Trainer

QUICK = {"epochs": 2, "batch_size": 2, "max_prompts": 1, "prompts_per_object": 1, "device": "cpu", "lr": 1e-3}
"""Of six images: three updates an epoch."""
EMA = {"accumulate": 2, "batch_size": 1, "ema": 0.9, "schedule": "plateau", "regime": "box"}
STEPS = {"epochs": None, "steps": 5, "clip_norm": 1.0, "optimizer": "adamw", "regime": "point"}


class Killed(KeyboardInterrupt):
    """Ends a run between two lines, as a signal does."""


class Steps(Callback):
    """Which updates were told of, and from where."""

    def __init__(self) -> None:
        self.start, self.seen = -1, []

    def on_start(self, *, path: Path, settings: dict[str, Any], step: int) -> None:
        self.start = step

    def on_step(self, *, step: int, epoch: int, values: dict[str, float]) -> None:
        self.seen.append(step)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is written after every update."""
    monkeypatch.setattr(fit, "SAVE_SECONDS", 0.0)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Train until an update, counted from 0, would be taken."""
    step = Trainer.step

    def train(*, at: int, **arguments: Any) -> None:
        def until(self: Trainer, batches: Any, number: int) -> Any:
            if number == at:
                raise Killed
            return step(self, batches, number)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", until)
            with pytest.raises(Killed):
                train_decoder(**arguments)

    return train


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("settings", "at"),
    [({"regime": "point+box"}, [1, 5]), ({"regime": "clicks:1", "batch_size": 4}, [1]), (EMA, [4]), (STEPS, [4])],
)
def test_a_killed_epoch_goes_on_where_it_was(dataset, cache, tmp_path, killed, capsys, settings, at) -> None:
    about = {"data": dataset, "cache": cache, **QUICK, **settings}
    whole = train_decoder(out=tmp_path / "whole", **about)
    about["out"] = tmp_path / "parts"
    for number in at:
        killed(at=number, **about)
    capsys.readouterr()
    watched = Steps()
    parts = train_decoder(callbacks=[watched], **about)
    updates = -(-6 // (about["batch_size"] * about.get("accumulate", 1)))
    within = f"after epoch {at[-1] // updates} of 2, and {at[-1] % updates} updates of the next"
    assert within in capsys.readouterr().err
    total = settings.get("steps") or 2 * updates
    assert watched.start == at[-1]
    assert watched.seen == list(range(at[-1] + 1, total + 1)), "no update is done twice"
    assert parts.is_finished
    for name in ("last", "best"):
        assert same(whole.path / f"{name}.safetensors", parts.path / f"{name}.safetensors")
    assert timeless(parts) == timeless(whole)
    assert {path.name for path in parts.path.iterdir()} == {path.name for path in whole.path.iterdir()}


@pytest.mark.usefixtures("at_once")
def test_images_of_finished_updates_are_not_read_again(dataset, cache, tmp_path, killed, monkeypatch) -> None:
    about = {"data": dataset, "cache": cache, "out": tmp_path / "run", **QUICK, "epochs": 1, "regime": "box"}
    killed(at=2, **about)
    taught, made = [], fit.epoch_updates

    def listening(dataset, samples, read, *arguments, **which):
        def reading(some):
            taught.extend(sample.name for sample in some)
            return read(some)

        return made(dataset, samples, reading, *arguments, **which)

    monkeypatch.setattr(fit, "epoch_updates", listening)
    train_decoder(**about)
    assert len(taught) == 2


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("left", [0, 1, 3])
def test_killed_at_any_write_of_an_epoch(dataset, cache, tmp_path, monkeypatch, left) -> None:
    """Also between the last update and the judgement, and between the weights and the metrics."""
    about = {"data": dataset, "cache": cache, **QUICK, "epochs": 1, "regime": "box", "batch_size": 3}
    written: list[str] = []
    die_at = -1

    def write_or_die(path: Path, parts: Any) -> None:
        if len(written) == die_at:
            raise Killed
        written.append(path.name)
        atomic.write_new(path, parts)

    monkeypatch.setattr(folder, "write_new", write_or_die)
    whole = train_decoder(out=tmp_path / "whole", **about)
    assert written.count("resume.pt") == 4, "after the untuned model, each of two updates, and the judgement"
    second = [number for number, name in enumerate(written) if name == "resume.pt"][2]
    die_at = second + left
    written.clear()
    with pytest.raises(Killed):
        train_decoder(out=tmp_path / "parts", **about)
    die_at = -1
    parts = train_decoder(out=tmp_path / "parts", **about)
    assert same(whole.path / "last.safetensors", parts.path / "last.safetensors")
    assert timeless(parts) == timeless(whole)


def test_the_state_is_written_once_a_minute(dataset, cache, tmp_path, monkeypatch) -> None:
    assert fit.SAVE_SECONDS == 60
    clock = {"now": 0.0}
    step = Trainer.step

    class Watch:
        def __init__(self) -> None:
            self._start = clock["now"]

        @property
        def seconds(self) -> float:
            return clock["now"] - self._start

    def slow(self: Trainer, batches: Any, number: int) -> Any:
        clock["now"] += 25
        return step(self, batches, number)

    saved = []
    save = folder.RunFolder.save_progress
    monkeypatch.setattr(fit, "Stopwatch", Watch)
    monkeypatch.setattr(Trainer, "step", slow)
    monkeypatch.setattr(
        folder.RunFolder, "save_progress", lambda self, *state: (saved.append(state[-1].updates), save(self, *state))
    )
    about = {"cache": cache, "regime": "box", **QUICK, "epochs": 1, "batch_size": 1}
    run = train_decoder(dataset, out=tmp_path / "run", **about)
    assert saved == [0, 3, 6, 0]
    assert run.metrics[1]["seconds"] == 150


@pytest.mark.usefixtures("at_once")
def test_seconds_add_up_over_interruptions(dataset, cache, tmp_path, killed, monkeypatch) -> None:
    about = {"data": dataset, "cache": cache, "out": tmp_path / "run", "regime": "box", **QUICK, "epochs": 1}
    killed(at=1, **about)
    path = tmp_path / "run" / "resume.pt"
    state = torch.load(path, weights_only=True)
    assert state["partial"]["seconds"] > 0
    state["partial"]["seconds"] = 1000.0
    torch.save(state, path)
    assert 1000 < train_decoder(**about).metrics[1]["seconds"] < 1100


def test_a_damaged_state_gives_no_advice_of_torch(dataset, cache, tmp_path, killed) -> None:
    about = {"data": dataset, "cache": cache, "out": tmp_path / "run", "regime": "box", **QUICK}
    killed(at=0, **about)
    for damaged in (b"no pickle at all", b"PK damaged", (tmp_path / "run" / "resume.pt").read_bytes()[:5000]):
        (tmp_path / "run" / "resume.pt").write_bytes(damaged)
        with pytest.raises(RunError, match="damaged") as raised:
            train_decoder(**about)
        assert "weights_only" not in str(raised.value)
        assert "overwrite" in str(raised.value)


SCRIPT = """
import json, os, signal, sys
from samfast.data import load_dataset
from samfast.train import fit, train_decoder
from samfast.train.engine import Trainer

fit.SAVE_SECONDS = 0.0
arguments = json.loads(sys.argv[1])
step, kill_at = Trainer.step, arguments.pop("kill_at", None)

def until(self, batches, number):
    if number == kill_at and self.world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batches, number)

Trainer.step = until
if __name__ == "__main__":
    train_decoder(load_dataset(arguments.pop("data"), target="component"), **arguments)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_two_processes_go_on_where_they_were(scenes, cache, tmp_path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    about = {"data": str(scenes), "cache": str(cache.path), **QUICK, "regime": "clicks:1"}

    def train(**arguments: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / "script.py"), json.dumps({**about, "devices": 2, **arguments})]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    done = train(out=str(tmp_path / "whole"))
    assert done.returncode == 0, done.stderr
    done = train(out=str(tmp_path / "parts"), kill_at=4)
    assert done.returncode != 0
    assert signal.Signals.SIGKILL.name in done.stderr
    done = train(out=str(tmp_path / "parts"))
    assert done.returncode == 0, done.stderr
    assert "after epoch 1 of 2, and 1 updates of the next" in done.stderr
    assert same(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")
    assert timeless(Run(tmp_path / "parts")) == timeless(Run(tmp_path / "whole"))


def same(one: Path, other: Path) -> bool:
    before, after = load_file(one), load_file(other)
    return set(before) == set(after) and all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def timeless(run: Run) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in run.metrics]
