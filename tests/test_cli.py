"""The command line: what it prints, how it fails, and that it says how to go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samfast
from samfast.cli import EXIT_ERROR, EXIT_INTERRUPTED, cli, main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve 40 x 30 images with a white square each, and their masks."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
    for index in range(12):
        mask = np.zeros((30, 40), np.uint8)
        mask[5:15, 5 + index : 15 + index] = 255
        image = rng.integers(0, 100, (30, 40, 3), np.uint8)
        image[mask > 0] += 100
        Image.fromarray(image).save(tmp_path / "pairs" / "images" / f"{index}.png")
        Image.fromarray(mask).save(tmp_path / "pairs" / "masks" / f"{index}.png")
    return tmp_path / "pairs"


def test_help_names_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for verb in (
        "data",
        "cache",
        "train",
        "evaluate",
        "predict",
        "export",
        "sweep",
        "tune",
        "quickstart",
        "info",
        "verify",
        "merge",
        "prune",
    ):
        assert verb in cli.commands
        assert f"\n  {verb} " in out


@pytest.mark.parametrize("verb", sorted(cli.commands))
def test_every_verb_explains_its_options(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert out.startswith(f"Usage: samfast {verb}")
    for option in cli.commands[verb].params:
        if option.param_type_name == "option" and option.name != "help":
            assert getattr(option, "help", None) or option.name in {"out", "storage"}, option.name


def test_data_describes_what_is_there(capsys: pytest.CaptureFixture[str], pairs: Path) -> None:
    code, out, _ = run(capsys, "data", pairs)
    assert code == 0
    assert "image and mask folders" in out
    assert "12" in out


def test_data_shows_what_is_wrong_even_if_training_would_stop(capsys: pytest.CaptureFixture[str], pairs: Path) -> None:
    (pairs / "masks" / "3.png").write_bytes(b"")
    code, out, _ = run(capsys, "data", pairs, "--max-bad", "0.5")
    assert code == 0
    assert "3.png" in out
    for options in ((), ("--strict",)):
        code, out, err = run(capsys, "data", pairs, *options)
        assert code == EXIT_ERROR
        assert "3.png" in out
        assert "1 of 12 images cannot be used" in err


def test_errors_of_the_file_system_have_no_traceback(
    capsys: pytest.CaptureFixture[str], pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "somewhere/shard")

    monkeypatch.setattr(samfast, "load_dataset", full)
    code, _, err = run(capsys, "data", pairs)
    assert code == EXIT_ERROR
    assert err == "error: No space left on device\n  in: somewhere/shard\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "nowhere"),
        ("cache", "nowhere"),
        ("train", "nowhere"),
        ("tune", "nowhere"),
        ("sweep", "nowhere"),
        ("evaluate", "nowhere"),
        ("predict", "tiny", "nowhere.png", "--point", "1,2"),
        ("export", "nowhere"),
        ("info", "nowhere"),
        ("verify", "nowhere"),
        ("merge", "nowhere"),
        ("prune", "nowhere", "nowhere"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_wrong_path_is_an_error_without_a_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == EXIT_ERROR
    assert err.startswith("error: ")
    assert "nowhere" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("predict", "tiny", "a.png", "--box", "1,2,3"), "4 numbers"),
        (("predict", "tiny", "a.png", "--point", "1;2"), "2 numbers"),
        (("data", "x", "--merge", "cars"), "NEW=OLD1,OLD2"),
        (("data", "x", "--limit", "0"), "x>=1"),
        (("tune", "x", "--selection", "oracle"), "oracle"),
    ],
)
def test_options_that_make_no_sense(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert says in err


@pytest.mark.parametrize(("verb", "goes_on"), [("tune", True), ("cache", True), ("data", False)])
def test_ctrl_c_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], pairs: Path, monkeypatch: pytest.MonkeyPatch, verb: str, goes_on: bool
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(samfast, "load_dataset", interrupted)
    code, _, err = run(capsys, verb, pairs)
    assert code == EXIT_INTERRUPTED
    assert "what was finished is kept" in err
    assert (f"the same `samfast {verb}` goes on" in err) == goes_on


def test_the_stages_one_after_the_other(
    capsys: pytest.CaptureFixture[str], pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every verb on the artifact of the one before it."""
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "cache", pairs, "--out", "c.samcache")[1].strip() == "c.samcache"
    assert run(capsys, "verify", "c.samcache")[:2] == (0, "c.samcache: whole\n")
    assert json.loads(run(capsys, "verify", "c.samcache", "--json")[1])["rows"] == 12
    assert run(capsys, "merge", "c.samcache")[:2] == (0, "12 rows in 1 shards\n")
    assert json.loads(run(capsys, "prune", "c.samcache", pairs, "--json")[1])["dropped_rows"] == 0
    code, out, err = run(capsys, "train", pairs, "--cache", "c.samcache", "--epochs", "1", "--out", "r")
    assert (code, out.strip()) == (0, "r"), err
    code, out, err = run(capsys, "evaluate", "r", "--cache", "c.samcache", "--prompts", "box")
    assert code == 0, err
    assert "tuned" in out
    code, out, err = run(capsys, "export", "r", "--out", "m.onnxbundle")
    assert (code, out.strip()) == (0, "m.onnxbundle"), err
    image = pairs / "images" / "0.png"
    for model in ("r", "m.onnxbundle"):
        code, out, err = run(
            capsys, "predict", model, image, "--box", "5,5,14,14", "--save", "png,coco", "--out", f"p-{model}"
        )
        assert code == 0, err
        assert "1 images segmented" in out
    masks = [np.asarray(Image.open(next(Path(f"p-{model}").rglob("*.png")))) for model in ("r", "m.onnxbundle")]
    assert (masks[0] == masks[1]).mean() > 0.999
    for artifact in ("c.samcache", "r", "m.onnxbundle"):
        code, out, err = run(capsys, "info", artifact)
        assert code == 0, err
        assert "tiny" in out


def test_the_config_of_a_run_reproduces_it(
    capsys: pytest.CaptureFixture[str], pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data with the options it was opened with, its seed and every setting; what is given takes precedence."""
    monkeypatch.chdir(tmp_path)
    told = ("--cache", "c.samcache", "--seed", "3", "--limit", "10", "--set", "epochs=1", "--set", "loss.gamma=1.5")
    code, _, err = run(capsys, "train", pairs, *told, "--regime", "box", "--out", "first")
    assert code == 0, err
    code, _, err = run(capsys, "train", "--config", "first/config.toml", "--cache", "c.samcache", "--out", "second")
    assert code == 0, err
    changed = ("--set", "regime=point", "--limit", "9")
    code, _, err = run(
        capsys, "train", "--config", "first/config.toml", "--cache", "c.samcache", *changed, "--out", "third"
    )
    assert code == 0, err
    first, second, third = (samfast.Run(name) for name in ("first", "second", "third"))
    assert (first.config.seed, first.config.loss.gamma, first.config.regime) == (3, 1.5, "box")
    assert second.config.to_dict() == first.config.to_dict()
    assert second.dataset_info["splits"] == first.dataset_info["splits"]
    for name, weights in first.decoder_state().items():
        assert (weights == second.decoder_state()[name]).all(), name
    assert (third.config.seed, third.config.regime) == (3, "point")
    assert sum(map(len, third.dataset_info["splits"].values())) == 9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "lrr=1"), "did you mean 'lr'"),
        (("--set", "lr=1e-3", "--lr", "1e-4"), "lr is given twice"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_settings_that_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], pairs: Path, arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = run(capsys, "train", pairs, *arguments)
    assert code == EXIT_ERROR
    assert says in err


def test_training_needs_data(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train")
    assert code == 2
    assert "ROOT" in err
