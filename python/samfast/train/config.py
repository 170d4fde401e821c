"""Everything a training run was told, in one frozen value that is written beside the weights and reproduces them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Collection
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from samfast.errors import ConfigError, choices
from samfast.inference.prompt_kinds import GIVEN
from samfast.models.architecture import MODEL_NAMES
from samfast.train.balance import BALANCES, PROMPT_FREE_BALANCES
from samfast.train.objective import Objective, to_objective
from samfast.train.recipes import RECIPES, recipe_settings
from samfast.train.regimes import get_regime
from samfast.train.schedules import Schedule, schedule_table, to_schedule
from samfast.train.targets import LOSS_FRAMES

OPTIMIZERS = ("adam", "adamw")
PRECISIONS = ("auto", "fp32", "bf16")
STRATEGIES = ("ddp",)
AUTO = 0
"""The batch size of settings that leave it to the run."""
TRAINABLE = ("prompt_encoder", "mask_decoder")
"""The modules behind the embeddings. What lies before them was hashed into the cache, and stays as it was."""
PARTS = (
    "prompt_encoder.point_embeddings",
    "prompt_encoder.not_a_point_embed",
    "prompt_encoder.mask_downscaling",
    "prompt_encoder.no_mask_embed",
    "mask_decoder.transformer",
    "mask_decoder.iou_token",
    "mask_decoder.mask_tokens",
    "mask_decoder.output_upscaling",
    "mask_decoder.output_hypernetworks_mlps",
    "mask_decoder.iou_prediction_head",
)
"""Parts of these modules."""

TABLES = ("data", "base")
"""Tables of a run's ``config.toml`` that say what was trained on, and are no settings."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run.

    Attributes:
        model: name of the model.
        regime: how prompts are drawn, see :mod:`samfast.train.regimes`.
        recipe: name of the recipe the settings started from.
        loss: the parts of the loss and their weights.
        loss_frame: the grid it is taken on, see :data:`~samfast.train.targets.LOSS_FRAMES`.
        balance: how much each object counts, see :data:`~samfast.train.balance.BALANCES`.
        epochs: each visits every image once; 0 where ``steps`` says how long the run is.
        steps: optimizer steps instead: the last epoch ends with them. 0 where ``epochs`` says it.
        optimizer: ``"adam"`` or ``"adamw"``.
        lr: base learning rate.
        weight_decay: of matrices and kernels; biases, norms and embeddings have none.
        schedule: of the learning rate.
        batch_size: images a batch, on all devices together; ``"auto"`` for as many as are decoded at once, see
            :func:`~samfast.train.batch_size.fitting_batch_size`. The run's settings hold the number.
        accumulate: batches an optimizer step.
        max_prompts: objects of an image that take part in an epoch, drawn anew in each; without prompts, all do.
        prompts_per_object: prompts drawn for each of them; without prompts, an image is asked once an epoch.
        eval_interval: epochs between two judgements on the val set; the untuned model and the last epoch are always
            judged, and the best of the judged epochs is kept.
        views: encoded views of each image, the plain one included; each epoch takes the next one.
        augment: name of the recipe that the other views were made by.
        clip_norm: the norm that the gradient of a step is cut down to; 0 leaves it.
        ema: decay a step of the average of the weights that is judged and kept in their place, and at step t, counted
            from 0, at most (1 + t) / (10 + t): the untuned weights soon count nothing; 0 keeps the weights.
        patience: judgements in a row without a new best after which the run ends; 0 runs all epochs.
        keep: judged epochs whose weights are kept, the so many best, beside the best and the last.
        on_nan: what a loss or a gradient that is not finite does: ``"stop"``, or ``"skip"`` the step, and count it.
        multilabel: of the regime ``none``: whether a pixel may be of several classes, each of which has a sigmoid of
            its own; otherwise it is of one class or of none, by a softmax over the classes and the background.
        trainable: modules, or parts of them, whose parameters move.
        seed: of prompts, object choice and order.
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``: bf16 on CUDA from compute capability 8.0, fp32 elsewhere.
        compile: let ``torch.compile`` make a faster decoder first, which takes a minute or two; where it cannot, the
            run says so and goes on without.
        device: ``"auto"`` or a torch device.
        devices: processes on each machine, each with a GPU of its own, or with a share of the CPU's cores. They take
            equal parts of every batch, and the steps that one process would take.
        nodes: machines. On several, ``torchrun`` or ``srun`` starts the processes.
        strategy: how the processes share the work: ``"ddp"``, each with all weights.
    """

    model: str
    regime: str
    recipe: str
    loss: Objective
    optimizer: str
    lr: float
    weight_decay: float
    schedule: Schedule
    batch_size: int
    max_prompts: int
    prompts_per_object: int
    epochs: int = 0
    steps: int = 0
    views: int = 1
    augment: str = "light"
    accumulate: int = 1
    eval_interval: int = 1
    loss_frame: str = "low-res"
    balance: str = "none"
    clip_norm: float = 0.0
    ema: float = 0.0
    patience: int = 0
    keep: int = 0
    on_nan: str = "stop"
    multilabel: bool = False
    trainable: tuple[str, ...] = TRAINABLE
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "ddp"

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type == "str" and not isinstance(getattr(self, field.name), str):
                raise ConfigError(f"{field.name}={getattr(self, field.name)!r} is no text", where=field.name)
        _one_of("model", self.model, MODEL_NAMES)
        regime = get_regime(self.regime)
        if regime.given is not None and self.views > 1:
            raise ConfigError(
                f"views={self.views}: the prompts of a file are asked of the images as they are",
                where="views",
                fix="views=1, or prompts that are drawn",
            )
        _one_of("loss_frame", self.loss_frame, LOSS_FRAMES)
        _one_of("balance", self.balance, BALANCES)
        if regime.is_prompt_free and self.balance not in PROMPT_FREE_BALANCES:
            raise ConfigError(
                f"balance={self.balance!r} weighs objects by their {self.balance}, and regime='none' asks for none:"
                " it teaches all of each class, and its Dice loss counts all classes alike",
                where="balance",
                fix=f"choose from {_listed(PROMPT_FREE_BALANCES)}, or train with prompts",
            )
        for name in ("multilabel", "compile"):
            if not isinstance(value := getattr(self, name), bool):
                raise ConfigError(f"{name}={value!r} is neither true nor false", where=name)
        if self.multilabel and not regime.is_prompt_free:
            raise ConfigError(
                f"multilabel is about classes, and regime={self.regime!r} asks for one object at a time",
                where="multilabel",
                fix="leave it out, or train with regime='none'",
            )
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        if self.precision in {"fp16", "float16"}:
            raise ConfigError(
                f"precision={self.precision!r}: fp16 needs a loss scaler, and overflows silently without one",
                where="precision",
                fix="precision='bf16' on a GPU that has it, else 'fp32'",
            )
        _one_of("precision", self.precision, PRECISIONS)
        for name in (
            "max_prompts",
            "prompts_per_object",
            "views",
            "accumulate",
            "eval_interval",
        ):
            _number(name, getattr(self, name), at_least=1, whole=True)
        for name in ("epochs", "steps", "batch_size"):
            _number(name, getattr(self, name), at_least=0, whole=True)
        if bool(self.epochs) == bool(self.steps):
            raise ConfigError(
                f"epochs={self.epochs}, steps={self.steps}: one of them says how long the run is",
                where="epochs",
                fix="epochs, or steps, 1 or more",
            )
        _number("devices", self.devices, at_least=1, whole=True)
        _number("nodes", self.nodes, at_least=1, whole=True)
        _one_of("strategy", self.strategy, STRATEGIES)
        _number("seed", self.seed, at_least=0, whole=True)
        _number("weight_decay", self.weight_decay, at_least=0)
        _number("lr", self.lr, at_least=0)
        for name in ("patience", "keep"):
            _number(name, getattr(self, name), at_least=0, whole=True)
        _number("clip_norm", self.clip_norm, at_least=0)
        _number("ema", self.ema, at_least=0)
        if self.ema >= 1:
            raise ConfigError(f"ema={self.ema!r} never moves", where="ema", fix="below 1, such as 0.999")
        _one_of("on_nan", self.on_nan, ("stop", "skip"))
        if self.lr == 0:
            raise ConfigError("lr=0 trains nothing", where="lr", fix="a positive number, such as 1e-4")
        if not self.trainable:
            raise ConfigError("trainable=() trains nothing", where="trainable", fix=f"choose from {_listed(TRAINABLE)}")
        for module in self.trainable:
            if str(module).split(".")[0] == "image_encoder":
                raise ConfigError(
                    f"trainable={module!r}: the image encoder made the cached embeddings, and is part of their"
                    " fingerprint; if it moved, they would be stale",
                    where="trainable",
                    fix=f"choose from {_listed(TRAINABLE)}",
                )
            _one_of("trainable", module, (*TRAINABLE, *PARTS))
            also = list(self.trainable)
            also.remove(module)
            if twice := [other for other in also if f"{module}.".startswith(f"{other}.")]:
                raise ConfigError(
                    f"trainable names the weights of {module!r} twice, as {module!r} and as {twice[0]!r}",
                    where="trainable",
                    fix="the whole module, or parts of it, each once",
                )

    @classmethod
    def make(cls, recipe: str | Path = "default", **explicit: Any) -> TrainConfig:
        """The settings of a recipe, with every explicit argument that is not None in place of the recipe's.

        >>> config = TrainConfig.make("flood-study", lr=3e-4)
        >>> config.epochs, config.lr, config.optimizer
        (17, 0.0003, 'adam')
        >>> TrainConfig.make(**{"loss.dice": 0.5}).loss.dice
        0.5

        Args:
            recipe: the name of a recipe, or a ``config.toml`` that :meth:`to_toml` wrote.
            explicit: fields of this class; ``loss.PART`` and ``schedule.FIELD`` change a part of a field alone.

        Raises:
            ConfigError: an unknown recipe, an unknown field, or a value that is not allowed.
        """
        explicit = {name: value for name, value in explicit.items() if value is not None}
        if str(explicit.get("regime", "")).startswith(GIVEN):
            file = Path(explicit["regime"].removeprefix(GIVEN)).expanduser().resolve()
            explicit["regime"] = f"{GIVEN}{file}"
        settings: dict[str, Any] = {"model": explicit.get("model", "tiny"), "regime": "point+box"}
        _one_of("model", settings["model"], MODEL_NAMES)
        if str(recipe) in RECIPES:
            settings |= {**recipe_settings(str(recipe), settings["model"]), "recipe": str(recipe)}
        elif str(recipe).endswith(".toml"):
            settings |= {name: value for name, value in _read_toml(Path(recipe)).items() if name not in TABLES}
        else:
            raise ConfigError(
                f"{str(recipe)!r} is no recipe",
                where="recipe",
                fix=f"choose from {_listed(RECIPES)}, or name a run's config.toml",
            )
        for given, other in (("epochs", "steps"), ("steps", "epochs")):
            if explicit.get(given) and other not in explicit:
                settings.pop(other, None)
        return cls.from_dict(_overlaid(settings, explicit))

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> TrainConfig:
        """The config :meth:`to_dict` wrote.

        Raises:
            ConfigError: a setting is missing, unknown, or not allowed.
        """
        settings = dict(settings)
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(settings) - known):
            raise ConfigError(
                f"there is no setting {unknown[0]!r}", where=unknown[0], fix=choices(unknown[0], sorted(known))
            )
        if missing := sorted(known - set(settings) - _OPTIONAL):
            raise ConfigError(f"the setting {missing[0]!r} is missing", where=missing[0])
        if settings["batch_size"] == "auto":
            settings["batch_size"] = AUTO
        else:
            _number("batch_size", settings["batch_size"], at_least=1, whole=True)
        settings["schedule"] = to_schedule(settings["schedule"])
        settings["loss"] = to_objective(settings["loss"])
        if "trainable" in settings:
            named = settings["trainable"]
            settings["trainable"] = tuple(named) if isinstance(named, list | tuple) else (named,)
        for name in ("lr", "weight_decay", "clip_norm", "ema"):  # a config file may say 1 where it means 1.0
            if isinstance(settings.get(name), int) and not isinstance(settings[name], bool):
                settings[name] = float(settings[name])
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """A JSON- and TOML-ready dict, the inverse of :meth:`from_dict`."""
        return {**asdict(self), "trainable": list(self.trainable), "schedule": schedule_table(self.schedule)}

    def to_toml(self, **tables: dict[str, Any]) -> str:
        """All settings as TOML, followed by ``tables`` that say what was trained on."""
        return tomli_w.dumps({**self.to_dict(), **{name: _without_none(table) for name, table in tables.items()}})

    def replace(self, **changes: Any) -> TrainConfig:
        """A copy with some settings changed."""
        return replace(self, **changes)


_OPTIONAL = {field.name for field in fields(TrainConfig) if field.default is not MISSING}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the recipe cannot be read: {error}", where=path) from None


def read_tables(path: str | Path) -> dict[str, dict[str, Any]]:
    """What the ``config.toml`` of a run says of its data and its base model: a table for each of :data:`TABLES`.

    Raises:
        ConfigError: it cannot be read.
    """
    settings = _read_toml(Path(path))
    return {name: settings.get(name, {}) for name in TABLES}


def _overlaid(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``settings`` with ``changes`` in their place; one named ``loss.gamma`` replaces a part of the loss alone."""
    tables: dict[str, Callable[[Any], dict[str, Any]]] = {
        "loss": lambda value: asdict(to_objective(value)),
        "schedule": lambda value: schedule_table(to_schedule(value)),
    }
    parts: dict[str, dict[str, Any]] = {name: {} for name in tables}
    whole = dict(settings)
    for name, value in changes.items():
        table, _, part = name.partition(".")
        if part and table in tables:
            parts[table][part] = value
        else:
            whole[name] = value
    for table, changed in parts.items():
        if changed:
            starts_anew = not {"name", "kind"}.isdisjoint(changed)
            whole[table] = changed if starts_anew else tables[table](whole[table]) | changed
    return whole


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is not there is left out."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _one_of(field: str, value: Any, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{field}={value!r} is not allowed", where=field, fix=f"choose from {_listed(allowed)}")


def _number(field: str, value: Any, *, at_least: float, whole: bool = False) -> None:
    kinds: Any = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value < at_least:
        raise ConfigError(
            f"{field}={value!r} is not allowed",
            where=field,
            fix=f"a {'whole ' if whole else ''}number, {at_least:g} or more",
        )


def _listed(names: Collection[str]) -> str:
    return ", ".join(names if isinstance(names, tuple | dict) else sorted(names))
