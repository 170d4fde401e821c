"""The whole road on a few generated scenes: what it leaves, and how it goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samfast
from samfast.cache.encode import Encoder
from samfast.data.scenes import write_flood_scenes
from samfast.errors import ConfigError, OutputExistsError


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flood_scenes(tmp_path_factory.mktemp("floods") / "scenes", 12, seed=7)


@pytest.fixture(scope="module")
def tuned(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[samfast.pipeline.TuneResult, Path]:
    out = tmp_path_factory.mktemp("out")
    result = samfast.tune(scenes, cache=out / "c.samcache", out=out / "run", epochs=1)
    return result, out


def test_tune_leaves_a_report_and_an_onnx_model(tuned: tuple) -> None:
    result, out = tuned
    page = (out / "run" / "report.html").read_text()
    assert result.report_html == out / "run" / "report.html"
    assert "<html" in page
    assert "zero-shot" in page
    with (out / "run" / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["prompt"] for row in rows} >= {"point", "box"}
    assert json.loads((out / "run" / "report.json").read_text())
    summary = result.summary()
    for word in ("zero-shot", "tuned", "all-foreground", "fill-box", "single-component ceiling", "report.html"):
        assert word in summary


def test_the_onnx_model_predicts_the_masks_of_the_run(tuned: tuple, scenes: Path) -> None:
    result, _ = tuned
    path = next((scenes / "Image").iterdir())
    width, height = Image.open(path).size
    box = np.array([width * 0.2, height * 0.2, width * 0.7, height * 0.8])
    (by_torch,) = samfast.predict(result.run, [path], box=list(box), save=())
    predictor = samfast.OnnxPredictor(result.bundle)
    predictor.set_image(path)
    masks, _, _ = predictor.predict(box=box, multimask_output=False)
    assert (by_torch.prediction.masks.numpy()[0] == masks[0]).mean() > 0.9999


def test_the_same_again_does_no_work_twice(
    tuned: tuple, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, out = tuned
    before = (out / "run" / "best.safetensors").read_bytes()

    def encode(*_: object, **__: object) -> None:
        raise AssertionError("an image was encoded again")

    monkeypatch.setattr(Encoder, "__call__", encode)
    monkeypatch.setattr("samfast.export.export_onnx", lambda *_, **__: result.bundle)
    again = samfast.tune(scenes, cache=out / "c.samcache", out=out / "run", epochs=1)
    assert "this run is finished" in capsys.readouterr().err
    assert (out / "run" / "best.safetensors").read_bytes() == before
    assert again.report.table() == result.report.table()


def test_another_run_is_never_replaced_by_accident(tuned: tuple, scenes: Path) -> None:
    _, out = tuned
    with pytest.raises(OutputExistsError, match="run"):
        samfast.tune(scenes, cache=out / "c.samcache", out=out / "run", epochs=2)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"regime": "bxo"}, "bxo"),
        ({"recipe": "nothing"}, "nothing"),
        ({"lr": -1.0}, "lr"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"prompts": ["scribble"]}, "scribble"),
        ({"selection": "oracle"}, "oracle"),
        ({"out": "taken"}, "no run"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_the_long_work(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict, says: str
) -> None:
    def encode(*_: object, **__: object) -> None:
        raise AssertionError("an image was encoded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Encoder, "__call__", encode)
    Path("taken").mkdir()
    Path("taken/thesis.tex").write_text("years of work")
    with pytest.raises((ConfigError, OutputExistsError), match=says):
        samfast.tune(scenes, cache="c.samcache", **wrong)
    assert not Path("c.samcache").exists()


@pytest.fixture
def small_quickstart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samfast.pipeline.QUICKSTART_SCENES", 8)
    monkeypatch.setattr("samfast.pipeline.QUICKSTART_EPOCHS", 1)


def test_quickstart_goes_on_where_it_was_interrupted(
    small_quickstart: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "quick"

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("samfast.train.engine.Trainer.step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            samfast.quickstart(out=out)
    photos = {path.name: path.read_bytes() for path in (out / "data" / "Image").iterdir()}
    result = samfast.quickstart(out=out)
    assert "8 are there already" in capsys.readouterr().err
    assert result.report_html.exists()
    assert {path.name: path.read_bytes() for path in (out / "data" / "Image").iterdir()} == photos
    with pytest.raises(ConfigError, match="seed"):
        samfast.quickstart(out=out, seed=1)


def test_quickstart_keeps_out_of_other_peoples_folders(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for taken in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(OutputExistsError):
            samfast.quickstart(out=taken)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
