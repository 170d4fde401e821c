"""Recipes: named settings of everything a training run can be told, to be overridden one by one.

A recipe is a TOML file of this folder: the fields of :class:`~samfast.train.config.TrainConfig`; ``source``, where they
come from; and ``but``, in what a run differs from that. A setting that differs between models is a table of theirs.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
RECIPES = ("default", *sorted(path.stem for path in _HERE.glob("*.toml") if path.stem != "default"))
"""The recipes by name."""


def recipe_settings(name: str, model: str) -> dict[str, Any]:
    """The settings of a recipe for one model.

    >>> recipe_settings("default", "vit_b")["lr"]
    0.0002
    """
    settings = {setting: value for setting, value in _read(name).items() if setting not in ("source", "but")}
    for setting, value in settings.items():
        if isinstance(value, dict) and model in value:
            settings[setting] = value[model]
    return settings


def recipe_source(name: str) -> str:
    """Where the settings of a recipe come from, and in what a run differs from that.

    >>> recipe_source("flood-study").partition("; but ")[2]
    "prompts, loss, batches and what is trained are samfast's own"
    """
    recipe = _read(name)
    return f"{recipe['source']}; but {'; '.join(recipe['but'])}"


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_HERE / f"{name}.toml").read_text(encoding="utf-8"))
