"""The judgement, against plain NumPy on full masks."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samfast.data import Dataset
from samfast.errors import ConfigError, DataError, OutputExistsError, SamfastError
from samfast.evaluation import evaluate
from samfast.evaluation import judge as module
from samfast.inference.prompt_sets import evaluation_prompts

METRICS = ("iou", "dice", "precision", "recall")


def numpy_scores(answer: np.ndarray, truth: np.ndarray, ignore: np.ndarray) -> dict[str, float]:
    answer, truth = answer & ~ignore, truth & ~ignore
    both = (answer & truth).sum()
    return {
        "iou": both / (answer | truth).sum(),
        "dice": 2 * both / (answer.sum() + truth.sum()),
        "precision": both / answer.sum() if answer.any() else 0.0,
        "recall": both / truth.sum(),
    }


def expected_rows(
    data: Dataset, answers: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> dict[str, dict[str, float]]:
    """Per image, the mean over objects of ``answers(red channel, target mask)`` against the target."""
    found = {}
    for sample in data.of("test"):
        numbers = data.image(sample)[..., 0]
        target = data.target(sample)
        ignore = target.ignore.numpy()[0]
        objects = [
            numpy_scores(answers(numbers, truth), truth, ignore)
            for truth in target.masks.numpy()
            if (truth & ~ignore).any()
        ]
        if objects:
            found[sample.name] = {metric: float(np.mean([each[metric] for each in objects])) for metric in METRICS}
    return found


def shifted(shift: int, answer: Callable[..., np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda numbers, truth: answer(numbers, int(np.bincount(numbers[truth]).argmax()), shift)


def rows_of(report: Any, model: str, prompt: str) -> dict[str, Any]:
    return {row.image: row for row in report.rows if (row.model, row.prompt) == (model, prompt)}


@pytest.mark.parametrize("shift", [0, 3, 60])
@pytest.mark.parametrize("prompt", ["point", "box"])
def test_rows_equal_numpy(numbered: Dataset, reader: Any, answer: Any, shift: int, prompt: str) -> None:
    report = evaluate(reader(shift), numbered, prompts=[prompt])
    rows = rows_of(report, "reader", prompt)
    expected = expected_rows(numbered, shifted(shift, answer))
    assert rows.keys() == expected.keys()
    assert len(rows) == 4
    for name, figures in expected.items():
        for metric in METRICS:
            assert getattr(rows[name], metric) == pytest.approx(figures[metric], abs=1e-12)
    assert (rows[name].iou == 1.0) == (shift == 0)
    line = report.line("reader", prompt)
    for metric in METRICS:
        values = [figures[metric] for figures in expected.values()]
        assert line.mean[metric] == pytest.approx(np.mean(values), abs=1e-12)
        assert line.std[metric] == pytest.approx(np.std(values), abs=1e-12)


def test_ignored_pixels_do_not_count(numbered_with_ignore: Dataset, reader: Any, answer: Any) -> None:
    report = evaluate(reader(4), numbered_with_ignore, prompts=["box"])
    expected = expected_rows(numbered_with_ignore, shifted(4, answer))
    rows = rows_of(report, "reader", "box")
    for name, figures in expected.items():
        assert rows[name].iou == pytest.approx(figures["iou"], abs=1e-12)
    plain = {
        sample.name: np.mean(
            [
                numpy_scores(
                    shifted(4, answer)(numbered_with_ignore.image(sample)[..., 0], truth), truth, np.array(False)
                )["iou"]
                for truth in numbered_with_ignore.target(sample).masks.numpy()
            ]
        )
        for sample in numbered_with_ignore.of("test")
    }
    assert any(abs(plain[name] - rows[name].iou) > 0.01 for name in rows), "the ignored region must matter here"


def test_floors_and_ceiling_equal_numpy(numbered: Dataset, tmp_path: Path, reader: Any) -> None:
    from scipy import ndimage

    from samfast.data import load_dataset

    data = load_dataset(numbered.root, target="class")

    def fill(_: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
        box = np.zeros_like(truth)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        return box

    def largest(_: np.ndarray, truth: np.ndarray) -> np.ndarray:
        labels, _count = ndimage.label(truth, np.ones((3, 3)))
        return labels == np.bincount(labels[truth]).argmax()

    report = evaluate(reader(), data, prompts=["box"])
    oracles = {
        "all-foreground": lambda _, truth: np.ones_like(truth),
        "fill-box": fill,
        "single-component ceiling": largest,
    }
    for name, oracle in oracles.items():
        rows = rows_of(report, name, "")
        for image, figures in expected_rows(data, oracle).items():
            assert {metric: getattr(rows[image], metric) for metric in METRICS} == pytest.approx(figures, abs=1e-12)
    assert report.line("single-component ceiling", "").mean["iou"] < 1.0, "some target has two pieces"
    assert not [row for row in evaluate(reader(), data, baselines=False).rows if not row.prompt]


def test_another_images_prompt_changes_the_figures(
    numbered: Dataset, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = evaluate(reader(1), numbered, prompts=["point"]).line("reader", "point").mean["iou"]
    samples = numbered.of("test")

    def of_a_neighbour(kind: str, target: Any, sample: Any, spec: Any, *, seed: int) -> Any:
        other = samples[(samples.index(sample) + 1) % len(samples)]
        prompts = evaluation_prompts(kind, numbered.target(other), other, spec, seed=seed)
        index = np.arange(len(target.masks)) % len(prompts)
        limit = np.array(sample.size[::-1]) - 1
        return replace(
            prompts,
            image_index=prompts.image_index[index],
            points=np.minimum(prompts.points[index], limit).astype(np.float32),
            labels=prompts.labels[index],
            boxes=prompts.boxes[index],
        )

    monkeypatch.setattr(module, "evaluation_prompts", of_a_neighbour)
    assert evaluate(reader(1), numbered, prompts=["point"]).line("reader", "point").mean["iou"] < honest - 0.05


def test_images_are_embedded_once_each_and_the_order_of_models_does_not_matter(numbered: Dataset, reader: Any) -> None:
    a, b = reader(2, name="a"), reader(5, name="b")
    report = evaluate([a, b], numbered)
    assert (a.embedded, b.embedded) == (4, 4)
    swapped = evaluate([b, a], numbered)
    for name in ("a", "b"):
        for prompt in ("point", "box"):
            assert report.line(name, prompt) == swapped.line(name, prompt)
    assert report.line("a", "box").mean["iou"] > report.line("b", "box").mean["iou"]


def test_equal_names_get_different_labels(numbered: Dataset, reader: Any) -> None:
    report = evaluate([reader(), reader(9)], numbered, prompts=["box"])
    assert [line.model for line in report.summary if line.prompt] == ["reader", "reader 2"]


def test_seed_moves_points_and_nothing_else(numbered: Dataset, reader: Any) -> None:
    first, again, other = (evaluate(reader(), numbered, seed=seed).rows for seed in (0, 0, 1))
    assert first == again
    assert first == other, "a perfect reader answers alike wherever the object is clicked"


@pytest.mark.parametrize("on", ["train", "val", "test"])
def test_a_model_that_was_trained_on_nothing_carries_no_caveat(numbered: Dataset, reader: Any, on: str) -> None:
    report = evaluate(reader(), numbered, prompts=["box"], on=on)
    assert report.asked.caveat == ""
    assert f"judged on {on}: " in report.table()
    assert {row.split for row in report.rows} == {on}


def test_val_stands_in_for_a_missing_test_set(numbered: Dataset, reader: Any) -> None:
    without = replace(numbered, samples=tuple(one for one in numbered.samples if one.split != "test"))
    report = evaluate(reader(), without, prompts=["box"])
    assert report.asked.on == "val"
    with pytest.raises(DataError, match="train set holds no image"):
        evaluate(reader(), replace(without, samples=without.of("val")), on="train")


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_val_stands_in_for_a_test_set_without_objects(numbered: Dataset, reader: Any, state: str) -> None:
    samples = tuple(
        replace(one, state=state, annotation_ids=()) if one.split == "test" else one for one in numbered.samples
    )
    report = evaluate(reader(), replace(numbered, samples=samples), prompts=["box"])
    assert report.asked.on == "val"
    assert {row.split for row in report.rows} == {"val"}


def test_csv_aggregates_to_the_table(numbered: Dataset, reader: Any, tmp_path: Path) -> None:
    report = evaluate([reader(2, name="a"), reader(6, name="b")], numbered)
    with report.to_csv(tmp_path / "deep" / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report.rows) == 4 * (2 * 2 + 3)
    for line in report.summary:
        mine = [row for row in rows if (row["model"], row["prompt"]) == (line.model, line.prompt)]
        for metric in METRICS:
            values = np.array([float(row[metric]) for row in mine])
            assert f"{values.mean():.3f} ± {values.std():.3f}" in report.table()
            assert values.mean() == pytest.approx(line.mean[metric], abs=1e-12)


def test_json_holds_the_same(numbered: Dataset, reader: Any, tmp_path: Path) -> None:
    report = evaluate(reader(2), numbered)
    content = json.loads(report.to_json(tmp_path / "report.json").read_text())
    assert content["asked"]["images"] == 4
    assert content["asked"]["objects"] == sum(row["objects"] for row in content["rows"]) / 5
    assert content["summary"][0]["mean"] == pytest.approx(report.summary[0].mean)
    assert next(row for row in content["rows"] if row["model"] == "fill-box")["predicted_iou"] is None


def test_out_is_never_overwritten_silently(numbered: Dataset, reader: Any, tmp_path: Path) -> None:
    evaluate(reader(), numbered, prompts=["box"], out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.csv", "report.json"}
    fresh = reader()
    with pytest.raises(OutputExistsError):
        evaluate(fresh, numbered, prompts=["box"], out=tmp_path)
    assert fresh.embedded == 0, "found before the work"
    evaluate(reader(), numbered, prompts=["box"], out=tmp_path, overwrite=True)


@pytest.mark.parametrize("below", ["", "sub"])
def test_a_file_as_out_is_found_before_the_work(numbered: Dataset, reader: Any, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    model = reader()
    with pytest.raises(OutputExistsError, match="this is a file") as caught:
        evaluate(model, numbered, out=tmp_path / "file" / below)
    assert caught.value.where == str(tmp_path / "file")
    assert model.embedded == 0


def test_failed_writing_names_the_file(
    numbered: Dataset, reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    report = evaluate(reader(), numbered, prompts="box")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SamfastError, match="disk is full") as caught:
        report.to_csv(tmp_path / "rows.csv")
    assert caught.value.where == str(tmp_path / "rows.csv")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_found_before_the_work(numbered: Dataset, reader: Any) -> None:
    model = reader()
    for options, message in [
        ({"prompts": ["lasso"]}, "lasso"),
        ({"prompts": []}, "no prompts"),
        ({"on": "holdout"}, "holdout"),
    ]:
        with pytest.raises(ConfigError, match=message):
            evaluate(model, numbered, **options)
    with pytest.raises(ConfigError, match="no run to take it from"):
        evaluate(model)
    with pytest.raises(ConfigError, match="vit_x"):
        evaluate("vit_x", numbered)
    with pytest.raises(ConfigError, match="int"):
        evaluate([3], numbered)
    assert model.embedded == 0
