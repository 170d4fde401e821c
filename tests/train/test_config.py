"""The config refuses what cannot work, and its file reproduces it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from samfast.errors import ConfigError
from samfast.models.architecture import MODEL_NAMES
from samfast.train.config import TrainConfig
from samfast.train.objective import Objective
from samfast.train.recipes import RECIPES
from samfast.train.schedules import Cosine, Step


def test_flood_study_is_the_study() -> None:
    config = TrainConfig.make("flood-study")
    assert (config.epochs, config.optimizer, config.lr, config.loss) == (17, "adam", 1e-4, Objective(bce=1.0, dice=1.0))
    assert config.schedule == Step(step_size=5, gamma=0.5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_explicit_arguments_override_every_recipe(recipe: str) -> None:
    config = TrainConfig.make(recipe, lr=5e-5, epochs=3, schedule="constant", seed=None)
    assert (config.recipe, config.lr, config.epochs, config.schedule.kind, config.seed) == (
        recipe,
        5e-5,
        3,
        "constant",
        0,
    )


def test_a_recipe_knows_every_model() -> None:
    rates = {model: TrainConfig.make(model=model).lr for model in MODEL_NAMES}
    assert rates["tiny"] > rates["vit_b"] == rates["vit_h"]
    assert TrainConfig.make(model="vit_b", lr=1e-5).lr == 1e-5


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_file_says_everything(recipe: str, tmp_path: Path) -> None:
    config = TrainConfig.make(recipe, model="vit_b", regime="box", seed=7, lr=2e-4, precision="fp32", max_prompts=3)
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(data={"root": "x", "none": None}, base={"checkpoint": None}))
    assert TrainConfig.make(path) == config
    assert TrainConfig.make(path, seed=8) == config.replace(seed=8)
    assert TrainConfig.from_dict(config.to_dict()) == config
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert all(f"{name} =" in path.read_text() or f"[{name}]" in path.read_text() for name in fields)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("model", "vit_x", "vit_b"),
        ("regime", "lasso", "points:K"),
        ("loss", "l2", "bce\\+dice"),
        ("optimizer", "sgd", "adamw"),
        ("precision", "fp8", "bf16"),
        ("epochs", 0, "1 or more"),
        ("epochs", 2.5, "whole"),
        ("epochs", True, "whole"),
        ("batch_size", -1, "1 or more"),
        ("max_prompts", 0, "1 or more"),
        ("prompts_per_object", "2", "1 or more"),
        ("regime", "clicks:0", "1 or more"),
        ("lr", 0, "positive"),
        ("lr", float("nan"), "0 or more"),
        ("lr", "fast", "0 or more"),
        ("weight_decay", -0.1, "0 or more"),
        ("seed", -1, "0 or more"),
        ("trainable", (), "mask_decoder"),
        ("trainable", ("mask_decoder", "neck"), "mask_decoder"),
    ],
)
def test_an_error_names_the_field_the_value_and_what_is_allowed(field: str, value, allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        TrainConfig.make("default", **{field: value})
    assert caught.value.where == field
    named = value[-1] if isinstance(value, tuple) and value else value
    assert repr(named) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("regime", 5, "regime"),
        ("regime", ["box"], "regime"),
        ("device", 0, "device"),
        ("augment", ["light"], "augment"),
        ("balance", {"image": 1}, "balance"),
        ("recipe", 1, "recipe"),
        ("schedule", 5, "schedule"),
        ("schedule", {"kind": ["step"]}, "schedule"),
        ("schedule", {"kind": "milestones", "milestones": 5}, "schedule.milestones"),
        ("schedule", {"kind": "milestones", "milestones": ["a"]}, "schedule.milestones"),
        ("schedule", {"kind": "cosine", "warmup_epochs": float("nan")}, "schedule.warmup_epochs"),
        ("schedule", Cosine(warmup_epochs=float("inf")), "schedule.warmup_epochs"),
        ("schedule", {"kind": "plateau", "threshold": float("nan")}, "schedule.threshold"),
        ("schedule", {"kind": "plateau", "patience": float("inf")}, "schedule.patience"),
        ("schedule", {"kind": "step", "gamma": [0.5]}, "schedule.gamma"),
        ("loss", ["bce+dice"], "loss"),
        ("loss", {"name": ["bce+dice"]}, "loss"),
        ("loss", 5, "loss"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_by_its_name(field: str, value: object, where: str) -> None:
    settings = TrainConfig.make().to_dict()
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict({**settings, field: value})
    assert caught.value.where == where


def test_fp16_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match="loss scaler"):
        TrainConfig.make(precision="fp16")


@pytest.mark.parametrize("module", ["image_encoder", "image_encoder.neck"])
def test_what_was_hashed_is_not_unfrozen(module: str) -> None:
    with pytest.raises(ConfigError, match="fingerprint"):
        TrainConfig.make(trainable=(module, "mask_decoder"))


def test_unknown_recipes_and_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="flood-study"):
        TrainConfig.make("flood")
    with pytest.raises(ConfigError, match="learning_rate"):
        TrainConfig.make(learning_rate=1e-4)
    broken = tmp_path / "broken.toml"
    broken.write_text("lr = = 1")
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainConfig.make(broken)
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainConfig.make(tmp_path / "absent.toml")
    short = tmp_path / "short.toml"
    short.write_text("lr = 1e-4")
    with pytest.raises(ConfigError, match="missing"):
        TrainConfig.make(short)
