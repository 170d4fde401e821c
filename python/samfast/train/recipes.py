"""Recipes: named settings of everything a training run can be told, to be overridden one by one."""

from __future__ import annotations

from typing import Any

from samfast.train.schedules import Cosine, Step

RECIPES: dict[str, dict[str, Any]] = {
    # Chosen by validation IoU on generated flood scenes and on aerial flood photographs.
    "default": {
        "loss": "bce+dice",
        "epochs": 20,
        "optimizer": "adamw",
        "lr": 3e-4,
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
