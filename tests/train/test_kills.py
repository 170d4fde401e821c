"""A run that is killed again and again, at any moment, ends with the weights of one that was not, to the bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from samfast.train import Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")

# Imports once, and trains in a child of its own as often as it is told to, so that a kill finds work and no imports.
SERVER = """
import json, os, sys
import torch
torch.set_num_threads(1)
from samfast.data import load_dataset
from samfast.train import fit
from samfast.train.loop import train_decoder
fit.SAVE_SECONDS = 0.0
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        arguments = json.loads(line)
        train_decoder(load_dataset(arguments.pop("data"), target="component"), **arguments)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
FILES = ["best.safetensors", "last.safetensors", "checkpoints/*"]
SETTINGS = {
    "epochs": 5, "batch_size": 2, "max_prompts": 2, "regime": "clicks:2", "lr": 1e-3, "seed": 3, "keep": 2,
    "device": "cpu", "ema": 0.5, "callbacks": ["tensorboard"],
}  # fmt: skip


class Server:
    def __init__(self, log: Path) -> None:
        self._log = log.open("wb")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment,
        )  # fmt: skip

    def train(self, *, kill_after: tuple[int, float] | None = None, **arguments: Any) -> int:
        """Train in a child, killed so many lines of its log and so many seconds later; its wait status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(arguments), file=self._process.stdin, flush=True)
        log = Path(arguments["out"]) / "run.log"
        told = lines(log)
        child = int(self._process.stdout.readline())
        if kill_after is not None:
            until = time.monotonic() + 60
            while lines(log) < told + kill_after[0] and time.monotonic() < until:
                time.sleep(0.002)
            time.sleep(kill_after[1])
            with suppress(ProcessLookupError):  # it was faster
                os.kill(child, signal.SIGKILL)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server.log")
    yield server
    server.close()


def test_kills_at_random_moments(server: Server, scenes: Path, cache: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    arguments = {"data": str(scenes), "cache": str(cache.path), **SETTINGS}
    status = server.train(out=str(tmp_path / "whole"), **arguments)
    assert status == 0, (tmp_path / "server.log").read_text()
    whole = Run(tmp_path / "whole")

    epoch_seconds = max(line["seconds"] + line["val_seconds"] for line in whole.metrics)
    moments, folder = random.Random(), tmp_path / "killed"
    killed, epochs = 0, set()
    while killed < 5:
        moment = moments.choice([1, 2, 2, 3]), moments.uniform(0, epoch_seconds)
        status = server.train(kill_after=moment, out=str(folder), **arguments)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, (tmp_path / "server.log").read_text()
        killed += 1
        if (folder / "training_metrics.json").exists():  # what a tool reads at this moment
            epochs.add(json.loads((folder / "training_metrics.json").read_text())["last"]["epoch"])
    if status != 0:
        status = server.train(out=str(folder), **arguments)
    assert status == 0, (tmp_path / "server.log").read_text()
    assert killed >= 2
    assert epochs, "the kills found the run at work"

    again = Run(folder)
    assert again.is_finished
    for pattern in FILES:
        names = sorted(path.relative_to(whole.path) for path in whole.path.glob(pattern))
        assert names == sorted(path.relative_to(folder) for path in folder.glob(pattern))
        assert names
        for name in names:
            assert content(folder / name) == content(whole.path / name), name
    assert timeless(again.metrics) == timeless(whole.metrics)
    left = {path.name for path in folder.iterdir()}
    assert left == {path.name for path in whole.path.iterdir()}, "nothing is left behind"
    summary = json.loads((folder / "training_metrics.json").read_text())
    assert (summary["state"], summary["epochs"]) == ("finished", again.metrics)
    assert (folder / "run.log").read_text().count("run: ") >= 2


def lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def content(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """A file of weights, whose metadata safetensors writes in any order."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}, file.metadata()  # noqa: SIM118


def timeless(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in metrics]
