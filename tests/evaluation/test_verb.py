"""The verb ``evaluate``: what it takes, and what reaches the function of the same name."""

from __future__ import annotations

from typing import Any

import pytest

import samfast
from samfast.cli import EXIT_ERROR, main
from samfast.data import Dataset


class Table:
    def table(self) -> str:
        return "a table"

    summary = table

    def __len__(self) -> int:
        return 0


def called(monkeypatch: pytest.MonkeyPatch, verb: str, *arguments: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with which a command line calls its function."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(*positional: Any, **options: Any) -> Table:
        calls.append((positional, options))
        return Table()

    monkeypatch.setattr(samfast, verb, record)
    with pytest.raises(SystemExit) as stop:
        main([verb, *arguments])
    assert stop.value.code in (None, 0)
    return calls[0]


@pytest.mark.parametrize(
    ("arguments", "models", "prompts"),
    [
        (("a", "b"), ["a", "b"], None),
        (("a", "--prompts", "box"), ["a"], ["box"]),
        (("a", "--prompts", "point,box"), ["a"], ["point", "box"]),
        (("a", "--prompts", "point", "box"), ["a"], ["point", "box"]),
        (("a", "--prompts=point", "box", "--on", "val"), ["a"], ["point", "box"]),
        (("--prompts", "point", "box", "tiny", "box-run"), ["tiny", "box-run"], ["point", "box"]),
        (("a", "--prompts", "box", "box~10%", "none", "auto"), ["a"], ["box", "box~10%", "none", "auto"]),
    ],
)
def test_prompt_kinds_with_commas_or_spaces(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], models: list[str], prompts: list[str] | None
) -> None:
    positional, options = called(monkeypatch, "evaluate", *arguments)
    assert positional[0] == models
    assert options["prompts"] == prompts


def test_tune_takes_them_too(monkeypatch: pytest.MonkeyPatch, numbered: Dataset) -> None:
    _, options = called(monkeypatch, "tune", "--prompts", "point", "box", str(numbered.root))
    assert options["prompts"] == ["point", "box"]


@pytest.mark.parametrize("arguments", [("evaluate", "a"), ("predict", "a", "b.png")])
def test_device_and_overwrite_reach_the_function(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    _, options = called(monkeypatch, *arguments, "--device", "cpu", "--overwrite")
    assert (options["device"], options["overwrite"]) == ("cpu", True)


@pytest.mark.parametrize("kind", ["auto", "box~much%"])
def test_a_kind_that_is_not_there_names_those_that_are(
    numbered: Dataset, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "tiny", "--data", str(numbered.root), "--prompts", "point", kind])
    assert stop.value.code == EXIT_ERROR
    err = capsys.readouterr().err
    assert f"{kind!r} is no prompt kind" in err
    assert "choose from point, points:K,M" in err
