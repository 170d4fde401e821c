"""Recipes: named settings of everything a training run can be told, to be overridden one by one."""

from __future__ import annotations

from typing import Any

from samfast.train.schedules import Cosine, Step

RECIPES: dict[str, dict[str, Any]] = {
    # Chosen for tiny by validation IoU on aerial flood photographs (0.682 against 0.645 of flood-study) and generated
    # flood scenes. The decoders of the official models come from far longer training, and get a gentler lr.
    "default": {
        "loss": "bce+dice",
        "epochs": 20,
        "optimizer": "adamw",
        "lr": {"tiny": 1e-3, "vit_b": 2e-4, "vit_l": 2e-4, "vit_h": 2e-4},
        "weight_decay": 0.01,
        "schedule": Cosine(warmup_epochs=1.0),
        "batch_size": 4,
        "max_prompts": 16,
        "prompts_per_object": 2,
    },
    # What the public flood-segmentation fine-tuning study did: 17 epochs of Adam at 1e-4, halved every 5 epochs, with
    # binary cross-entropy plus Dice.
    "flood-study": {
        "loss": "bce+dice",
        "epochs": 17,
        "optimizer": "adam",
        "lr": 1e-4,
        "weight_decay": 0.0,
        "schedule": Step(step_size=5, gamma=0.5),
        "batch_size": 4,
        "max_prompts": 16,
        "prompts_per_object": 1,
    },
}


def recipe_settings(name: str, model: str) -> dict[str, Any]:
    """The settings of a recipe for one model: a setting that differs between models is that model's.

    >>> recipe_settings("default", "vit_b")["lr"]
    0.0002
    """
    return {setting: value[model] if isinstance(value, dict) else value for setting, value in RECIPES[name].items()}
