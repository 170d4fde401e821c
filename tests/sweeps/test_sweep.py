"""A sweep: one cache, cells that fail alone, the winner by the val set, and everything finished kept."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import samfast
from samfast.cache import EmbeddingCache
from samfast.cli import main
from samfast.data import Dataset
from samfast.data.shapes import shape_scene
from samfast.errors import ConfigError, DataError, OutputExistsError
from samfast.sweeps import matrix
from samfast.sweeps.cell import CELL_JSON, Found, Judging, finished_cell, train_cell
from samfast.sweeps.result import Sweep, Trained
from samfast.train import Callback

COMMON: dict[str, Any] = {"epochs": 1, "batch_size": 4, "max_prompts": 1, "device": "cpu"}
DIVERGES = 1e30


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, cache: EmbeddingCache) -> Sweep:
    """Two rates, one of which diverges; two seeds; two at a time."""
    out = tmp_path_factory.mktemp("sweep") / "s"
    axes = {"lr": [DIVERGES, 1e-3], "regime": ["box"]}
    return samfast.sweep(dataset, axes, seeds=2, cache=cache, out=out, jobs=2, **COMMON)


def test_a_cell_that_fails_fails_alone(swept: Sweep) -> None:
    assert len(swept.cells) == 4
    assert {cell.settings["lr"] for cell in swept.failed} == {DIVERGES}
    assert len(swept.failed) == 2
    assert all("RunError: epoch 1: the loss became" in (cell.error or "") for cell in swept.failed)
    good, bad = swept.rows
    assert (good.settings["lr"], good.is_complete, len(good.finished)) == (1e-3, True, 2)
    assert (bad.settings["lr"], bad.is_complete, len(bad.finished)) == (DIVERGES, False, 0)
    assert swept.winner is not None
    assert swept.winner.settings == {"lr": 1e-3, "regime": "box"}
    table = swept.table()
    assert "0 of 2" in table
    assert "failed: lr=1e+30, seed=1: RunError" in table
    assert "regime" not in table.splitlines()[2], "what does not vary is no column"


def test_figures_are_those_of_the_runs_on_val_and_of_the_winner_on_test(
    swept: Sweep, dataset: Dataset, cache: EmbeddingCache
) -> None:
    row = swept.rows[0]
    for cell in row.cells:
        judged = samfast.evaluate(cell.path, dataset, on="val", prompts=["box"], cache=cache, device="cpu")
        tuned = next(line for line in judged.summary if line.role == "tuned")
        assert cell.found is not None
        assert cell.found.val == {"box": pytest.approx(tuned.mean["iou"], abs=1e-9)}
    values = [cell.val_iou for cell in row.cells]
    assert row.val_iou == pytest.approx(sum(values) / 2)
    assert row.spread == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert swept.test is not None
    assert swept.test.asked.on == "test"
    assert [each.role for each in swept.test.judged] == ["zero-shot", "tuned", "tuned"]
    assert {each.path for each in swept.test.judged if each.path} == {str(cell.path) for cell in row.cells}


def test_what_is_written_says_the_same(swept: Sweep) -> None:
    told = json.loads((swept.path / "sweep.json").read_text())
    assert told["winner"] == {"lr": 1e-3, "regime": "box"}
    assert [cell["error"] is None for cell in told["cells"]] == [False, False, True, True]
    rows = list(csv.DictReader((swept.path / "sweep.csv").open()))
    assert [float(row["val_iou"]) for row in rows if row["val_iou"]] == [cell.val_iou for cell in swept.rows[0].cells]
    page = (swept.path / "sweep.md").read_text()
    assert f"| 0.001 | {swept.rows[0].val_iou:.4f} ±" in page


def test_started_again_it_keeps_what_fits_and_trains_what_is_new(
    swept: Sweep, dataset: Dataset, cache: EmbeddingCache, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another axis list, in which one setting is the old one."""
    before = {cell.path: (cell.path / CELL_JSON).stat().st_mtime_ns for cell in swept.rows[0].cells}
    axes = {"lr": [1e-3, 2e-3], "regime": ["box"]}
    again = samfast.sweep(dataset, axes, seeds=2, cache=cache, out=swept.path, jobs=1, **COMMON)
    assert {cell.path: (cell.path / CELL_JSON).stat().st_mtime_ns for cell in again.cells[:2]} == before
    assert again.cells[:2] == swept.rows[0].cells
    assert not again.failed
    assert len(again.rows) == 2
    said = capfd.readouterr().err
    assert "2 of 4 cells are finished already" in said
    assert "3/4  lr=0.002, seed=0: val IoU" in said
    assert "cells/min" in said


def test_one_cache_for_all_folds(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    encode = matrix.cache_embeddings
    monkeypatch.setattr(matrix, "cache_embeddings", lambda *args, **named: calls.append(1) or encode(*args, **named))
    found = samfast.sweep(
        dataset, folds=2, cache=tmp_path / "c.samcache", out=tmp_path / "s", jobs=2, regime="point", **COMMON
    )
    assert len(calls) == 1
    assert len(EmbeddingCache.open(tmp_path / "c.samcache").keys) == len(dataset)
    assert not list((tmp_path / "s").rglob("*.samcache"))
    assert [(cell.fold, cell.error) for cell in found.cells] == [(0, None), (1, None)]
    runs = [samfast.Run(cell.path) for cell in found.cells]
    validated = [set(run.dataset_info["splits"]["val"]) for run in runs]
    assert not validated[0] & validated[1]
    test = {sample.name for sample in dataset.of("test")}
    assert all(set(run.dataset_info["splits"]["test"]) == test for run in runs)
    assert {one.name for one in runs[1].dataset().of("val")} == validated[1], "a run opens its fold again"


def test_the_winner_is_chosen_on_val_whatever_test_says(
    swept: Sweep, dataset: Dataset, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The better one on test is no winner, and is not even judged there."""

    def cell(name: str, val: float) -> Trained:
        return Trained({"lr": name}, 0, None, tmp_path / name, Found({"box": val}, 1, 1.0))

    found = Sweep(tmp_path, swept.asked, (cell("best-on-test", 0.7), cell("best-on-val", 0.8), cell("third", 0.6)))
    judged = []
    monkeypatch.setattr(matrix, "evaluate", lambda models, *_, on, **__: judged.append((models, on)))
    judging = matrix.Judging(("box",), "single", 0)
    matrix._judged(found, dataset, cache, judging, None, "cpu")
    assert judged == [([str(tmp_path / "best-on-val")], "test")]
    incomplete = Trained({"lr": "best-on-val"}, 1, None, tmp_path / "x", None, "RunError: no")
    halted = Sweep(tmp_path, swept.asked, (*found.cells, incomplete))
    assert halted.winner is not None
    assert halted.winner.settings == {"lr": "best-on-test"}, "a setting that failed in part may have been lucky"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_and_started_again(scenes: Path, cache: EmbeddingCache, tmp_path: Path, how: signal.Signals) -> None:
    """No process outlives the sweep, finished cells are kept, interrupted ones go on."""
    out = tmp_path / "s"
    told = ["sweep", scenes, "--target", "component", "--set", "lr=1e-3", "--set", "epochs=6", "--regime", "box"]
    told += ["--batch-size", "4", "--seeds", "1", "--cache", cache.path, "--out", out, "--device", "cpu", "--jobs", "1"]
    command = [sys.executable, "-m", "samfast.cli", *map(str, told)]
    environment = {**os.environ, "PYTHONPATH": str(Path(samfast.__file__).parents[1])}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    deadline = time.monotonic() + 240
    while not (begun := [path for path in out.glob("runs/*/metrics.jsonl") if len(path.read_text().splitlines()) > 2]):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    run = begun[0].parent
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "what was finished is kept; the same `samfast sweep` goes on from there" in said
    time.sleep(3)
    epochs = len(begun[0].read_text().splitlines())
    time.sleep(3)
    assert len(begun[0].read_text().splitlines()) == epochs < 7, "nobody trains any more"
    assert json.loads((out / "sweep.json").read_text())["cells"][0]["found"] is None

    with pytest.raises(SystemExit) as stop:
        main([*map(str, told)])
    assert stop.value.code == 0
    assert re.search(r"continuing after epoch [12345] of 6", (out / "worker.log").read_text())
    assert [path.parent for path in out.glob("runs/*/run.json")] == [run]
    assert json.loads((out / "sweep.json").read_text())["cells"][0]["found"]


def test_a_process_that_dies_takes_no_other_along(
    dataset: Dataset, cache: EmbeddingCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of the first cell is killed from outside, as one that takes too much memory is."""
    from samfast.sweeps import pool

    start, started = pool._start, []

    def doomed(log: Path, threads: int) -> subprocess.Popen[bytes]:
        process = start(log, threads)
        if not started:
            process.kill()
        started.append(process)
        return process

    monkeypatch.setattr(pool, "_start", doomed)
    found = samfast.sweep(dataset, regime="box", seeds=2, cache=cache, out=tmp_path / "s", jobs=1, **COMMON)
    assert [cell.error is None for cell in found.cells] == [False, True]
    assert "killed, as happens where memory runs out" in str(found.cells[0].error)
    assert found.winner is None
    assert all(process.poll() is not None for process in started)


def test_the_exit_code_says_that_a_cell_failed(
    scenes: Path, cache: EmbeddingCache, swept: Sweep, capfd: pytest.CaptureFixture[str]
) -> None:
    told = [scenes, "--target", "component", "--set", f"lr={DIVERGES},1e-3", "--set", "regime=box", "--seeds", 1]
    told += ["--epochs", 1, "--batch-size", 4, "--set", "max_prompts=1", "--cache", cache.path, "--out", swept.path]
    with pytest.raises(SystemExit) as stop:
        main(["sweep", *map(str, told), "--device", "cpu", "--jobs", "1"])
    assert stop.value.code == 1
    out = capfd.readouterr().out
    assert "failed: lr=1e+30" in out
    assert "winner: lr=0.001" in out


def test_what_was_found_on_val_outlives_a_judgement_on_test_that_fails(
    swept: Sweep, dataset: Dataset, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unjudged(*_: Any, **__: Any) -> None:
        raise DataError("no object of the test set is asked for")

    monkeypatch.setattr(matrix, "evaluate", unjudged)
    out = shutil.copytree(swept.path, tmp_path / "s", ignore=shutil.ignore_patterns("sweep.*"))
    shutil.copy(swept.path / "sweep.json", out)
    axes = {"lr": [1e-3], "regime": ["box"]}
    found = samfast.sweep(dataset, axes, seeds=[0, 1, 0], cache=cache, out=out, **COMMON)
    assert found.winner is not None
    assert found.test is None
    assert "2 seeds;" in found.table(), "a seed that is named twice is one"
    says = "could not be judged on test: no object of the test set is asked for"
    assert says in found.table()
    assert says in (out / "sweep.md").read_text()
    assert json.loads((out / "sweep.json").read_text())["test_error"] in says
    assert len(list(csv.DictReader((out / "sweep.csv").open()))) == 2


def test_a_run_that_is_replaced_is_no_finished_cell(
    swept: Sweep, dataset: Dataset, cache: EmbeddingCache, tmp_path: Path
) -> None:
    judging = Judging(("box",), "single", 0)
    path = shutil.copytree(swept.rows[0].cells[0].path, tmp_path / "run")
    assert finished_cell(path, judging) is not None
    samfast.train_decoder(dataset, cache=cache, out=path, overwrite=True, regime="box", lr=1e-4, **COMMON)
    assert finished_cell(path, judging) is None


def test_without_prompts_an_image_counts_once(tmp_path: Path) -> None:
    """Whatever classes are in it: those have lines of their own in the report, and are no prompts."""
    root = tmp_path / "classes"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in range(3):
        image, labels = shape_scene(7, number, size=(96, 112))
        mask = (labels > 0) * np.where(np.arange(112) < 60, 1, 2)
        mask[mask == (2 if number == 1 else 0)] = 0  # a class that is not in every image
        Image.fromarray(image).save(root / f"images/{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(root / f"masks/{number}.png")
        splits["train" if number == 0 else "val"].append(f"images/{number}.png")
    (root / "splits.json").write_text(json.dumps(splits))
    dataset = samfast.load_dataset(root, target="class")
    cache = samfast.cache_embeddings(dataset, out=tmp_path / "c.samcache", device="cpu")
    given = {"regime": "none", "epochs": 1, "batch_size": 2}
    judging = Judging(("none",), "single", 0)
    found = train_cell(tmp_path / "run", given, dataset, cache, judging, checkpoint=None, device="cpu")
    run = samfast.Run(tmp_path / "run")
    assert set(found.val) == {"none"}
    assert found.val["none"] == pytest.approx(run.metrics[found.epoch]["val_iou"], abs=1e-6)


def test_recipes_are_an_axis_of_the_command_line(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The option's default is not what the user fixed; what the user did fix is."""
    told = ["sweep", str(scenes), "--out", str(tmp_path / "s"), "--set", "recipe=default,medsam", "--prompts", "boxx"]
    for more, says in (([], "'boxx' is no prompt kind"), (["--recipe", "default"], "recipe is an axis, and fixed")):
        with pytest.raises(SystemExit) as stop:
            main([*told, *more])
        assert stop.value.code != 0
        assert says in capfd.readouterr().err


def local_callback() -> Callback:
    class Local(Callback):
        pass

    return Local()


def test_nothing_begins_where_something_cannot_work(dataset: Dataset, cache: EmbeddingCache, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(OutputExistsError, match="no sweep"):
        samfast.sweep(dataset, cache=cache, out=tmp_path / "mine", **COMMON)
    for wrong, says in (
        ({"axes": {"lr": [1e-3, "fast"]}}, "fast"),
        ({"seeds": 0}, "at least one"),
        ({"jobs": 0}, "at least one"),
        ({"prompts": ["boxx"]}, "'boxx' is no prompt kind"),
        ({"prompts": "boxx"}, "'boxx' is no prompt kind"),
        ({"prompts": []}, "no prompts"),
        ({"callbacks": "tensorboard"}, "'tensorboard' is no list"),
        ({"callbacks": Callback()}, "is no list"),
        ({"callbacks": [local_callback()]}, "cannot be sent there"),
    ):
        with pytest.raises(ConfigError, match=says):
            samfast.sweep(dataset, cache=cache, out=tmp_path / "new", **{**COMMON, **wrong})
    assert not (tmp_path / "new").exists()
