"""Runs, caches and models as contenders: what is compared with what, and where embeddings come from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.data import Dataset, load_dataset
from samfast.errors import CheckpointError, StaleCacheError
from samfast.evaluation import evaluate
from samfast.evaluation.contenders import line_up
from samfast.models.checkpoints import load_model
from samfast.models.sam import Sam
from samfast.models.segmenter import TorchSegmenter
from samfast.train import Run, train_decoder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(official_checkpoint: Callable[..., Path]) -> Path:
    return official_checkpoint("tiny")


@pytest.fixture(scope="module")
def cache(numbered: Dataset, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingCache:
    out = tmp_path_factory.mktemp("cache") / "numbered.samcache"
    return cache_embeddings(
        numbered, model="tiny", checkpoint=checkpoint, out=out, storage="float32", device="cpu", precision="float32"
    )


@pytest.fixture(scope="module")
def run(numbered: Dataset, checkpoint: Path, cache: EmbeddingCache, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_decoder(
        numbered,
        checkpoint=checkpoint,
        cache=cache,
        epochs=2,
        lr=2e-5,
        device="cpu",
        out=tmp_path_factory.mktemp("runs") / "mine",
    )


@pytest.fixture(scope="module")
def retrained(run: Run, draw_model: Callable[..., Sam], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run with quite another decoder, so that nobody can take it for its base model."""
    path = tmp_path_factory.mktemp("retrained") / "mine"
    shutil.copytree(run.path, path)
    base = run.record["encoder"]
    about = {"model": "tiny", "encoder": base["fingerprint"], "decoder": base["decoder"], "epoch": "2"}
    save_file(draw_model("tiny", 7, decoder_only=True).decoder_state(), path / "best.safetensors", metadata=about)
    return Run(path)


def figures(report: Any, label: str) -> list[tuple[float, ...]]:
    rows = [row for row in report.rows if row.model == label]
    return [(row.iou, row.dice, row.precision, row.recall, row.predicted_iou) for row in rows]


def test_a_run_is_compared_with_the_model_it_was_tuned_from(
    numbered: Dataset, retrained: Run, checkpoint: Path
) -> None:
    report = evaluate([retrained], numbered)
    assert [(each.label, each.role, each.base) for each in report.judged] == [
        ("tiny", "zero-shot", None),
        ("mine", "tuned", "tiny"),
    ]
    assert all("from the cache" in each.embeddings for each in report.judged)
    base = TorchSegmenter(load_model("tiny", checkpoint=checkpoint), name="encoder in the loop")
    live = evaluate(base, numbered, baselines=False)
    np.testing.assert_allclose(figures(report, "tiny"), figures(live, "encoder in the loop"), atol=0.02)
    assert figures(report, "tiny") != figures(report, "mine")
    judged = report.judged[1]
    assert judged.trained_parameters is not None
    sam = load_model("tiny", checkpoint=checkpoint)
    assert judged.parameters == sum(each.numel() for each in sam.parameters())
    assert 0 < judged.trained_parameters < judged.parameters
    assert "parameters trained" in report.table()
    assert "weights of epoch 2 of 2" in report.table()
    assert [entry["epoch"] for entry in judged.metrics] == [0, 1, 2]
    assert report.line("mine", "box").gain is not None


def test_val_figures_are_those_of_the_kept_epoch(numbered: Dataset, run: Run) -> None:
    report = evaluate([run], numbered, on="val", seed=run.config.seed)
    kept = next(entry for entry in run.metrics if entry["epoch"] == run.selected_epoch)
    for kind in ("point", "box"):
        assert report.line("mine", kind).mean["iou"] == pytest.approx(kept[f"val_iou_{kind}"], abs=1e-6)
        assert report.line("tiny", kind).mean["iou"] == pytest.approx(run.metrics[0][f"val_iou_{kind}"], abs=1e-6)
    assert report.asked.caveat == "selected on this set"
    if run.selected_epoch == 0:
        assert "the untuned model, which was kept" in report.table()


def test_without_its_cache_a_run_encodes_and_finds_the_same(
    numbered: Dataset, retrained: Run, cache: EmbeddingCache, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "mine"
    shutil.copytree(retrained.path, moved)
    record = (moved / "run.json").read_text()
    assert str(cache.path) in record
    (moved / "run.json").write_text(record.replace(str(cache.path), str(tmp_path / "gone")))
    report = evaluate(str(moved), numbered, prompts="box", on="val")
    assert {each.embeddings for each in report.judged} == {"of 2 images computed"}
    cached = evaluate(retrained, numbered, prompts="box", on="val")
    for label in ("tiny", "mine"):
        np.testing.assert_allclose(figures(report, label), figures(cached, label), atol=0.02)


def test_data_of_the_run_is_the_default(numbered: Dataset, run: Run) -> None:
    expected = figures(evaluate(run, numbered, on="val", prompts="box"), "mine")
    assert figures(evaluate(run, on="val", prompts="box"), "mine") == expected
    assert figures(run.evaluate("val", prompts=["box"]), "mine") == expected


def test_images_a_run_knew_are_counted(numbered: Dataset, run: Run) -> None:
    other = numbered.split(train=0.4, val=0.2, test=0.4, seed=1)
    splits = run.dataset_info["splits"]
    names = {sample.name for sample in other.of("test")}
    trained, selected = len(names & set(splits["train"])), len(names & set(splits["val"]))
    assert 0 < trained < len(names)
    expected = [f"trained on {trained} of these images"] + [f"selected on {selected} of these images"] * bool(selected)
    assert evaluate(run, other, prompts="box").asked.caveat == ", ".join(expected)


@pytest.mark.parametrize(
    ("on", "caveat"), [("train", "trained on this set"), ("val", "selected on this set"), ("test", "")]
)
def test_caveats_are_those_of_runs(numbered: Dataset, run: Run, tmp_path: Path, on: str, caveat: str) -> None:
    report = evaluate(["tiny", run], numbered, prompts="box", on=on)
    assert report.asked.caveat == caveat
    assert caveat in report.table()
    assert evaluate("tiny", numbered, prompts="box", on=on).asked.caveat == ""
    stranger = tmp_path / "stranger"
    shutil.copytree(run.path, stranger)
    record = json.loads((stranger / "run.json").read_text())
    record["dataset"] |= {"root": str(tmp_path), "annotation_hash": "0" * 64}
    (stranger / "run.json").write_text(json.dumps(record))
    assert evaluate(stranger, numbered, prompts="box", on=on).asked.caveat == ""
    assert evaluate([run, stranger], numbered, prompts="box", on=on).asked.caveat == (caveat and f"{caveat} (mine)")


def test_val_in_the_place_of_test_says_who_selected_on_it(numbered: Dataset, run: Run) -> None:
    without = replace(numbered, samples=tuple(one for one in numbered.samples if one.split != "test"))
    asked = evaluate(run, without, prompts="box").asked
    assert (asked.on, asked.caveat) == ("val", "selected on this set")


def test_the_same_data_in_another_place_is_known(numbered: Dataset, run: Run, tmp_path: Path) -> None:
    shutil.copytree(numbered.root, tmp_path / "copy")
    copy = load_dataset(tmp_path / "copy", target="component")
    assert evaluate(run, copy, prompts="box", on="val").asked.caveat == "selected on this set"


def test_a_folder_a_run_was_trained_on_is_opened_as_it_was_then(numbered: Dataset, run: Run) -> None:
    assert load_dataset(numbered.root).target_kind != "component", "the default must be another for this to tell"
    for folder in (numbered.root, str(numbered.root.parent)):  # which holds nothing else
        asked = evaluate(run, folder, prompts="box").asked
        assert (asked.target_kind, asked.caveat) == ("component", "")
    assert evaluate("tiny", numbered.root, prompts="box").asked.target_kind == "class"


def test_judging_by_what_a_run_was_not_trained_on_says_so(numbered: Dataset, run: Run) -> None:
    other = replace(load_dataset(numbered.root, target="class"), classes=("other",))
    caveat = evaluate(run, other, prompts="box").asked.caveat
    assert caveat == f"trained with target component, trained with classes {', '.join(numbered.classes)}"


def test_runs_of_one_base_share_it(numbered: Dataset, run: Run, tmp_path: Path, checkpoint: Path) -> None:
    twin = tmp_path / "twins" / "mine"
    shutil.copytree(run.path, twin)
    report = evaluate([run, Run(twin), "tiny"], numbered, prompts="box")
    assert [each.label for each in report.judged] == ["tiny", "mine", "twins/mine"]
    assert figures(report, "mine") == figures(report, "twins/mine")
    explicit = evaluate([run, "tiny"], numbered, prompts="box", checkpoint=checkpoint)
    assert [each.label for each in explicit.judged] == ["tiny", "mine"]


def test_names_come_last_whatever_their_place(run: Run, reader: Any, checkpoint: Path) -> None:
    assert [each.label for each in line_up(["tiny", reader(name="b"), run, reader(name="a")])] == [
        "b",
        "tiny",
        "mine",
        "a",
    ]
    assert [each.label for each in line_up(["tiny", reader()], checkpoint=checkpoint)] == ["reader", "tiny"]


def test_a_cache_of_another_encoder_is_an_error_that_says_what_differs(
    numbered: Dataset, cache: EmbeddingCache, official_checkpoint: Callable[..., Path], checkpoint: Path
) -> None:
    stranger = official_checkpoint("tiny", 1)
    with pytest.raises(StaleCacheError, match="weights differ"):
        evaluate("tiny", numbered, cache=cache.path, checkpoint=stranger)
    report = evaluate("tiny", numbered, cache=cache.path, checkpoint=checkpoint, prompts="box")
    assert "from the cache" in report.judged[0].embeddings


def test_a_foreign_checkpoint_is_not_taken_for_the_base(
    numbered: Dataset, run: Run, cache: EmbeddingCache, official_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    moved = tmp_path / "mine"
    shutil.copytree(run.path, moved)
    (moved / "run.json").write_text((moved / "run.json").read_text().replace(str(cache.path), str(tmp_path / "gone")))
    with pytest.raises(CheckpointError, match="weights"):
        evaluate(moved, numbered, checkpoint=official_checkpoint("tiny", 1))


@pytest.mark.slow
def test_a_bundle_is_judged_like_the_run_it_was_exported_from(
    numbered: Dataset, retrained: Run, checkpoint: Path, tmp_path: Path
) -> None:
    from samfast.export import export_onnx

    bundle = export_onnx(retrained, checkpoint=checkpoint, out=tmp_path / "mine.onnxbundle")
    report = evaluate([retrained, bundle.path], numbered)
    assert [(each.label, each.role) for each in report.judged][-1] == ("mine (onnx)", "other")
    np.testing.assert_allclose(figures(report, "mine (onnx)"), figures(report, "mine"), atol=0.02)
