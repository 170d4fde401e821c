"""What ``docs/training.md`` says, held to the code."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from samfast.cli import cli
from samfast.errors import ConfigError
from samfast.inference.prompt_kinds import _TERMS, GIVEN
from samfast.models.architecture import MODEL_NAMES
from samfast.train.config import PARTS, TRAINABLE, TrainConfig
from samfast.train.folder import _OWN
from samfast.train.objective import OBJECTIVES
from samfast.train.recipes import RECIPES
from samfast.train.regimes import NOISE, get_regime
from samfast.train.schedules import SCHEDULES
from samfast.train.settings import parse_settings, setting_names

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")


def rows(section: str) -> list[list[str]]:
    """The cells of the tables under a heading, without those that begin with no name."""
    (text,) = (part for part in PAGE.split("\n## ")[1:] if part.startswith(f"{section}\n"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells if row[0].startswith("`")]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


SETTINGS = {quoted(row[0])[0]: quoted(row[1]) for row in rows("Settings")}


def test_every_setting_has_a_row() -> None:
    assert sorted(SETTINGS) == sorted(field.name for field in fields(TrainConfig))
    assert len(rows("Settings")) == len(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_its_default_is_what_a_run_has(name: str) -> None:
    models = MODEL_NAMES if name != "model" else [TrainConfig.make().model]
    defaults = [TrainConfig.make(model=model).to_dict()[name] for model in models]
    said = [TrainConfig.make(**parse_settings([f"{name}={text}"])).to_dict()[name] for text in SETTINGS[name]]
    assert said == [value for index, value in enumerate(defaults) if value not in defaults[:index]]


def test_the_regimes_are_all_there_and_are_regimes() -> None:
    names = [name for row in rows("Regimes") for cell in row for name in quoted(cell)]
    drawn = [name for name in names if not name.startswith(GIVEN)]
    assert len(drawn) == len(names) - 1
    assert all(get_regime(name) for name in drawn)
    terms = {term for name in drawn for term in re.split("[+&]", name)}
    for pattern in _TERMS:
        assert any(re.fullmatch(pattern, term) or re.fullmatch(pattern, NOISE.get(term, "")) for term in terms), pattern
    assert {"none", "sam", "clicks:8"} <= terms


def test_the_losses() -> None:
    (header,) = (line for line in PAGE.splitlines() if line.startswith("| loss | `bce`"))
    said = {quoted(row[0])[0]: dict(zip(quoted(header), map(float, row[1:]), strict=True)) for row in rows("Losses")}
    assert said == {name: asdict(loss) for name, loss in OBJECTIVES.items()}


def test_the_schedules() -> None:
    said = {quoted(row[0])[0]: tomllib.loads("\n".join(quoted(row[1]))) for row in rows("Schedules")}
    assert list(said) == list(SCHEDULES)
    for kind, settings in said.items():
        schedule = SCHEDULES[kind]
        assert list(settings) == [field.name for field in fields(schedule)]
        assert schedule(**settings) == schedule()


def test_recipes_parts_and_files() -> None:
    assert [quoted(row[0])[0] for row in rows("Recipes")] == list(RECIPES)
    assert {name for name in quoted(PAGE) if name.startswith(TRAINABLE) and "." in name} == set(PARTS)
    assert {quoted(row[0])[0].strip("/") for row in rows("The run's folder")} == set(_OWN)


@pytest.mark.parametrize("verb", ["train", "tune", "sweep"])
def test_people_are_shown_the_way_to_it(verb: str) -> None:
    assert "(docs/training.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    shown = "".join(CliRunner().invoke(cli, [verb, "--help"]).output.split())
    assert "docs/training.md" in shown
    for row in rows("Regimes"):
        assert re.split("[:&]", quoted(row[0])[0])[0] in shown


def test_an_unknown_setting_is_told_all_names(tmp_path: Path) -> None:
    answer = CliRunner().invoke(cli, ["train", str(tmp_path), "--set", "help=1"])
    assert isinstance(answer.exception, ConfigError)
    assert all(f" {name}" in str(answer.exception) for name in setting_names())
