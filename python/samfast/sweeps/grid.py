"""The matrix: every combination of the axes' values, with every seed, on every fold."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any

from samfast.data import SPLITS, Dataset
from samfast.errors import ConfigError, choices
from samfast.train.config import TrainConfig
from samfast.train.regimes import get_regime
from samfast.train.settings import setting_names

_NO_AXES = {
    "model": "one sweep has one cache, which is of one model: sweep each model by itself",
    "seed": "seeds= (--seeds) says how many",
    "device": "device= (--device): it changes no result",
}
_LABEL = 80


@dataclass(frozen=True)
class Cell:
    """One training of the matrix.

    Attributes:
        settings: the value of each axis.
        seed: of the training.
        fold: its number from 0; None without folds.
        config: every setting.
        given: what the training is told: the axes, and what was fixed for all.
    """

    settings: Mapping[str, Any]
    seed: int
    fold: int | None
    config: TrainConfig
    given: Mapping[str, Any]

    def key(self, dataset: Dataset, fingerprint: str) -> str:
        """What tells this training from any other: its settings, prompts, data and embeddings, in 12 hex digits."""
        config = {name: value for name, value in self.config.to_dict().items() if name not in {"device", "recipe"}}
        splits = {split: [sample.key for sample in dataset.of(split)] for split in SPLITS[:2]}
        given = get_regime(self.config.regime).given
        prompts = None if given is None else given.sha256
        parts = [config, prompts, splits, dataset.annotation_hash, fingerprint]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def label(cell: Any, names: Sequence[str]) -> str:
    """A cell as people read it: the values of the axes ``names``, its seed, its fold."""
    parts = [f"{name}={show(cell.settings[name])}" for name in names] + [f"seed={cell.seed}"]
    return ", ".join(parts if cell.fold is None else [*parts, f"fold={cell.fold}"])


def cell_folder(runs: Path, name: str, key: str) -> Path:
    """The folder of a training below ``runs``: the one that is there, under whatever name, or a readable new one."""
    readable = re.sub(r"[^\w.+=~@-]+", "-", name)[:_LABEL].strip("-")
    return next(runs.glob(f"*{key}"), runs / f"{readable}-{key}")


def show(value: Any) -> str:
    """A setting as text.

    >>> show(0.0003), show({"kind": "step", "gamma": 0.5}), show("box")
    ('0.0003', 'kind=step gamma=0.5', 'box')
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={show(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(show, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def make_grid(
    axes: Mapping[str, Sequence[Any]], *, seeds: Sequence[int], folds: int | None, fixed: Mapping[str, Any]
) -> list[Cell]:
    """The cells, the axes' last value changing first, then seeds, then folds; settings that are equal come once.

    Args:
        axes: setting to the values it takes.
        seeds: of the trainings.
        folds: how many; None for the sets as they are.
        fixed: settings that all cells share.

    Raises:
        ConfigError: an axis that is none, or a combination that cannot be trained.
    """
    if not isinstance(axes, Mapping):
        raise ConfigError(f"axes={axes!r} names no values", where="axes", fix="such as {'lr': [1e-4, 3e-4]}")
    known = setting_names()
    for name, values in axes.items():
        if name in _NO_AXES:
            raise ConfigError(f"{name} is no axis", where=name, fix=_NO_AXES[name])
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}", where=name, fix=choices(name, known))
        if fixed.get(name) is not None:
            raise ConfigError(f"{name} is an axis, and fixed to {fixed[name]!r} as well", where=name, fix="either")
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ConfigError(f"axes[{name!r}]={values!r} holds no values", where=name, fix="a list of values")
    cells: list[Cell] = []
    seen = set()
    for combination in product(*axes.values()):
        settings = dict(zip(axes, combination, strict=True))
        for seed in seeds:
            given = {**fixed, **settings, "seed": seed}
            try:
                config = TrainConfig.make(**given)
            except ConfigError as error:
                told = ", ".join(f"{name}={show(value)}" for name, value in settings.items())
                what = f"{told}: {error.what}" if told else error.what
                raise ConfigError(what, where=error.where, fix=error.fix) from None
            told = json.dumps(config.to_dict() | {"recipe": None}, sort_keys=True)
            if told not in seen:
                seen.add(told)
                numbers = [None] if folds is None else range(folds)
                cells += [Cell(settings, seed, fold, config, given) for fold in numbers]
    return cells
