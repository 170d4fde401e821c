"""Settings from the command line: typed as their fields take them, and told apart from what there is not."""

from __future__ import annotations

from dataclasses import fields

import pytest

from samfast.errors import ConfigError
from samfast.train.config import TrainConfig
from samfast.train.objective import Objective
from samfast.train.schedules import Cosine, Step
from samfast.train.settings import parse_axes, parse_settings, setting_names


def test_values_are_what_their_fields_take() -> None:
    given = parse_settings(
        [
            "lr=3e-4",
            "epochs = 5",
            "regime=points:3,1",
            "on_nan=skip",
            "trainable=mask_decoder.transformer, mask_decoder.mask_tokens",
            "loss={dice=1.0, bce=0.5}",
            "schedule.milestones=[100, 200]",
            "precision='fp32'",
        ]
    )
    assert given == {
        "lr": 3e-4,
        "epochs": 5,
        "regime": "points:3,1",
        "on_nan": "skip",
        "trainable": ["mask_decoder.transformer", "mask_decoder.mask_tokens"],
        "loss": {"dice": 1.0, "bce": 0.5},
        "schedule.milestones": [100, 200],
        "precision": "fp32",
    }
    assert isinstance(given["epochs"], int)


def test_every_field_can_be_set_to_what_it_is() -> None:
    """Whatever fields a config has: written as text and read again, each gives an equal config."""
    config = TrainConfig.make("flood-study")
    for name, value in config.to_dict().items():
        if isinstance(value, dict):
            texts = [f"{name}.{part}={inner}" for part, inner in value.items()]
        elif isinstance(value, list):
            texts = [f"{name}={','.join(value)}"] if value else []
        elif value is None or isinstance(value, bool):
            texts = []
        else:
            texts = [f"{name}={value}"]
        set_again = TrainConfig.make(**{"recipe": "flood-study", **parse_settings(texts)})
        assert set_again.to_dict() == config.to_dict(), name


def test_a_part_changes_alone() -> None:
    config = TrainConfig.make("sam", **parse_settings(["loss.gamma=1.5"]))
    assert config.loss == Objective(focal=20.0, dice=1.0, gamma=1.5)
    assert config.schedule == TrainConfig.make("sam").schedule
    assert TrainConfig.make("default", **{"schedule.warmup_epochs": 2.0}).schedule == Cosine(warmup_epochs=2.0)
    assert TrainConfig.make("default", **{"loss": "dice+ce", "loss.iou": 0.5}).loss == Objective(
        bce=0.2, dice=0.8, iou=0.5
    )


def test_another_kind_starts_anew() -> None:
    config = TrainConfig.make("default", **parse_settings(["schedule.kind=step", "schedule.step_size=3"]))
    assert config.schedule == Step(step_size=3)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["lrr=1"], "did you mean 'lr'"),
        (["loss.gama=1"], "did you mean 'loss.gamma'"),
        (["schedule.warmup_epoch=1"], "did you mean 'schedule.warmup_epochs'"),
        (["Epochs=3"], "did you mean 'epochs'"),
        (["lr"], "no value"),
        (["lr="], "no value"),
        (["lr=1e-4", "lr=1e-3"], "given twice"),
    ],
)
def test_what_cannot_be_read(texts: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_settings(texts)


@pytest.mark.parametrize(
    ("text", "says"),
    [("epochs=1.5", "whole number"), ("lr=fast", "a number"), ("schedule.step_size=3", "did you mean|There are")],
)
def test_a_value_that_no_field_takes_is_told_by_the_config(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TrainConfig.make("default", **parse_settings([text]))


def test_python_callers_hear_of_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'weight_decay'"):
        TrainConfig.make("default", weight_decya=0.1)


def test_axes_are_cut_at_the_commas_that_stand_free() -> None:
    axes = parse_axes(
        ["lr=1e-4,3e-4", "regime='points:3,1',box", "loss={bce=1.0, dice=1.0},dice+ce", "schedule.milestones=[3,4],[5]"]
    )
    assert axes == {
        "lr": [1e-4, 3e-4],
        "regime": ["points:3,1", "box"],
        "loss": [{"bce": 1.0, "dice": 1.0}, "dice+ce"],
        "schedule.milestones": [[3, 4], [5]],
    }


@pytest.mark.parametrize(("text", "says"), [("regime=points:3,1,box", "quote it"), ("lr=1e-4,,3e-4", "empty")])
def test_an_axis_that_is_not_what_it_seems(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_axes([text])


def test_every_field_has_its_name() -> None:
    assert {field.name for field in fields(TrainConfig)} < set(setting_names())
