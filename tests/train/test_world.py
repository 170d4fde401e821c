"""Two processes that train together over gloo, against one with the joined batches."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from samfast.cache import EmbeddingCache
from samfast.cache.loader import epoch_order
from samfast.data import Dataset
from samfast.errors import ConfigError, CorruptCacheError
from samfast.train import Run, launch, train_decoder
from samfast.train.config import TrainConfig
from samfast.train.world import World

SETTINGS: dict[str, Any] = {
    "epochs": 2, "batch_size": 5, "max_prompts": 3, "prompts_per_object": 1, "lr": 1e-3, "regime": "box",
    "optimizer": "adamw", "weight_decay": 0.1, "device": "cpu",
}  # fmt: skip
"""Of six images: the second batch of an epoch holds one, and a process has none."""


def last_weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "last.safetensors")


def deviation(
    found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], before: dict[str, torch.Tensor]
) -> float:
    """By how much the weights differ, relative to how much training moved them (RMS over all of them)."""
    apart = sum(float(((found[name] - value) ** 2).sum()) for name, value in wanted.items())
    moved = sum(float(((value - before[name]) ** 2).sum()) for name, value in wanted.items())
    return (apart / moved) ** 0.5


def test_two_processes_take_the_steps_of_one(dataset: Dataset, cache: EmbeddingCache, tmp_path: Path) -> None:
    alone = train_decoder(dataset, cache=cache, out=tmp_path / "alone", **SETTINGS)
    both = train_decoder(dataset, cache=cache, out=tmp_path / "both", devices=2, **SETTINGS)
    other = train_decoder(dataset, cache=cache, out=tmp_path / "other", **{**SETTINGS, "batch_size": 3})
    assert both.is_finished
    assert [line["epoch"] for line in both.metrics] == [0, 1, 2]
    for line, wanted in zip(both.metrics, alone.metrics, strict=True):
        assert line["loss"] == (wanted["loss"] and pytest.approx(wanted["loss"], rel=1e-4))
        assert line["val_iou"] == pytest.approx(wanted["val_iou"], abs=1e-3)
    before = {name: value.detach() for name, value in cache.decoder().state_dict().items()}
    wanted = last_weights(alone)
    assert deviation(last_weights(both), wanted, before) < 0.01
    assert deviation(last_weights(other), wanted, before) > 0.1, "the tolerance tells batches apart"
    unreached = "prompt_encoder.mask_downscaling.0.weight"
    assert torch.equal(last_weights(both)[unreached], before[unreached]), "no gradient, so no weight decay"


def apart(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """How far a gradient lies from another one, relative to that one's norm."""
    assert set(found) == set(wanted)
    difference = torch.cat([(found[name] - value).flatten() for name, value in wanted.items()])
    return float(difference.norm() / torch.cat([value.flatten() for value in wanted.values()]).norm())


class Thread(World):
    """One of two threads that train together as processes do."""

    def __init__(self, rank: int, meeting: threading.Barrier, table: list[Any]) -> None:
        super().__init__()
        self.rank, self.size = rank, 2
        self._meeting, self._table = meeting, table

    def _all(self, value: Any) -> list[Any]:
        self._table[self.rank] = value
        self._meeting.wait()
        values = list(self._table)
        self._meeting.wait()
        return values

    def total(self, values: torch.Tensor) -> torch.Tensor:
        return sum(self._all(values))

    def longest(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return max(self._all(names), key=len)


@pytest.mark.parametrize("together", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_the_gradient_of_two_is_that_of_one(dataset, cache, tmp_path, monkeypatch, together) -> None:
    """The weights cannot tell: Adam takes the same steps whatever all gradients are divided by."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    take_update = importlib.import_module("one_update").take_update
    config = TrainConfig.make(**{**SETTINGS, "accumulate": 2})

    def gradient(world: World, name: str) -> dict[str, torch.Tensor]:
        take_update(world, dataset, cache.path, config, tmp_path / name)
        return load_file(tmp_path / name / f"{world.rank}.safetensors")

    wanted = gradient(World(), "alone")
    if together == "threads":
        meeting, table = threading.Barrier(2, timeout=60), [None, None]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda rank: gradient(Thread(rank, meeting, table), "both"), range(2)))
    else:
        launch.spread(take_update, dataset, (cache.path, config, tmp_path / "both"), config=config.replace(devices=2))
    first, second = (load_file(tmp_path / "both" / f"{rank}.safetensors") for rank in range(2))
    assert apart(first, wanted) < 1e-5
    assert apart(second, first) == 0

    halves = []
    for rank in range(2):  # each divides by its own prompts, as if it were alone
        world = World()
        world.rank, world.size = rank, 2
        halves.append(gradient(world, "halves"))
    means = {name: (halves[0][name] + halves[1][name]) / 2 for name in wanted}
    assert apart(means, wanted) > 0.01, "a mean of means is another gradient"


def test_the_error_of_one_process_ends_them_all(dataset, cache, tmp_path) -> None:
    """The second process cannot read its part of the first batch; the first one waits for it."""
    train = list(dataset.of("train", state="labelled"))
    damaged = shutil.copytree(cache.path, tmp_path / "damaged.samcache")
    of_the_second = epoch_order(train, seed=0, epoch=1)[1]
    row = cache.read([of_the_second])["image_embeddings"].tobytes()
    hits = 0
    for shard in damaged.glob("*.safetensors"):
        content = bytearray(shard.read_bytes())
        if (place := content.find(row)) >= 0:
            content[place + 5] ^= 1
            shard.write_bytes(content)
            hits += 1
    assert hits == 1
    with pytest.raises(CorruptCacheError, match=of_the_second.name):
        train_decoder(dataset, cache=damaged, out=tmp_path / "run", devices=2, **SETTINGS)
    kept = Run(tmp_path / "run")
    assert not kept.is_finished
    assert [line["epoch"] for line in kept.metrics] == [0]
    again = train_decoder(dataset, cache=cache, out=tmp_path / "run", **SETTINGS)  # alone, from where they were
    assert again.is_finished


SCRIPT = """
import sys
from samfast.data import load_dataset
from samfast.train import train_decoder

run = train_decoder(
    load_dataset(sys.argv[1], target="component"), cache=sys.argv[2], out=sys.argv[3], devices=2, device="cpu", epochs=1
)
print("finished:", run.is_finished)
"""


@pytest.mark.slow
def test_processes_that_a_launcher_started(scenes: Path, cache: EmbeddingCache, tmp_path: Path) -> None:
    """``torchrun`` runs the user's script in every process: each of them goes on with the finished run."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(script), str(scenes), str(cache.path), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished: True") == 2, done.stdout
    assert done.stderr.count("epoch   1/1") == 1, "one of them speaks"
    assert "Initializing distributed" not in done.stderr


def test_parts_of_a_batch_are_disjoint_and_equal() -> None:
    items = list(range(7))
    parts = []
    for rank in range(3):
        world = World()
        world.rank, world.size = rank, 3
        parts.append(world.part(items))
    assert sorted(np.concatenate(parts)) == items
    assert {len(part) for part in parts} == {2, 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 0}, "devices=0"),
        ({"devices": 999, "batch_size": 999}, "this machine has"),
        ({"devices": 2, "batch_size": 1}, "without an image"),
        ({"nodes": 2}, "torchrun --nnodes 2"),
        ({"strategy": "pipeline"}, "strategy='pipeline'.*\n.*\n.*ddp"),
        ({"devices": 2, "device": "mps"}, "one device"),
    ],
)
def test_what_cannot_be_is_found_before_the_data_is_read(settings, message, tmp_path) -> None:
    with pytest.raises(ConfigError, match=message):
        train_decoder(tmp_path / "absent", **{"device": "cpu", **settings})


def test_a_launcher_that_started_another_number_of_processes(monkeypatch) -> None:
    config = TrainConfig.make(device="cpu")
    launch.check_processes(config)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="started 4 processes"):
        launch.check_processes(config)
    launch.check_processes(config.replace(devices=4 // 2, nodes=2, batch_size=4))
