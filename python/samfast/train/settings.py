"""Settings as people write them on a command line: ``lr=3e-4``, ``loss.gamma=1.5``, ``regime=box,clicks``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any, get_type_hints

from samfast.errors import ConfigError, choices
from samfast.train.config import TrainConfig
from samfast.train.objective import Objective
from samfast.train.schedules import SCHEDULES

NESTED = {
    "loss": ("name", *(field.name for field in fields(Objective))),
    "schedule": ("kind", *dict.fromkeys(field.name for kind in SCHEDULES.values() for field in fields(kind))),
}
"""The settings that have parts, each of which is a setting too: ``loss.gamma``."""


def setting_names() -> list[str]:
    """Every name that :func:`parse_settings` knows."""
    own = [field.name for field in fields(TrainConfig)]
    return [*own, *(f"{name}.{part}" for name, parts in NESTED.items() for part in parts)]


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Settings from ``NAME=VALUE``, each value as its field takes it.

    Numbers, booleans, lists and tables are written as in TOML; text needs no quotes.

    >>> parse_settings(["lr=3e-4", "regime=points:3,1", "loss.gamma=1.5"])
    {'lr': 0.0003, 'regime': 'points:3,1', 'loss.gamma': 1.5}

    Raises:
        ConfigError: there is no such setting, one is given twice, or has no value.
    """
    return {name: _value(name, text) for name, text in _pairs(texts)}


def parse_axes(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Axes of a sweep from ``NAME=VALUE,VALUE``. A value that holds a comma is quoted.

    >>> parse_axes(["lr=1e-4,3e-4", 'regime="points:3,1",box'])
    {'lr': [0.0001, 0.0003], 'regime': ['points:3,1', 'box']}

    Raises:
        ConfigError: there is no such setting, one is given twice, or lacks a value.
    """
    axes: dict[str, list[Any]] = {}
    for name, text in _pairs(texts):
        values = list(_split(text))
        for before, value in pairwise(values):
            if ":" in before and before[-1].isdigit() and value.isdigit() and _is_text(name):
                raise ConfigError(
                    f"{name}={text}: {before},{value} is read as two values",
                    where=name,
                    fix=f"if it is one, quote it: {name}='\"{before},{value}\"'",
                )
        axes[name] = [_value(name, value) for value in values]
    return axes


def _pairs(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    known, seen = setting_names(), set()
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}", where=text, fix=choices(name, known))
        if not value:
            raise ConfigError(f"{text!r} gives {name} no value", where=name, fix=f"{name}=VALUE")
        if name in seen:
            raise ConfigError(f"{name} is given twice", where=text, fix="once, with all that it is to be")
        seen.add(name)
        yield name, value


def _is_text(name: str) -> bool:
    return get_type_hints(TrainConfig).get(name) is str


def _value(name: str, text: str) -> Any:
    """A value as TOML, where that can be: bare words are text, and so is all that a field of text is given."""
    if not text:
        raise ConfigError(f"{name} has an empty value", where=name, fix=f"{name}=VALUE,VALUE")
    if _is_text(name) and text[0] not in "\"'":
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if not isinstance(value, bool | int | float | str | list | dict):  # a date
        value = text
    is_list = str(get_type_hints(TrainConfig).get(name)).startswith("tuple")
    return [part.strip() for part in value.split(",")] if is_list and isinstance(value, str) else value


def _split(text: str) -> Iterator[str]:
    """Cut at the commas that stand in no quotes and no brackets."""
    start = depth = 0
    quote = ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()
