"""The curves of a run: what is drawn, under which name."""

from __future__ import annotations

import math

from samfast.evaluation.figures import _series, curves

METRICS = [
    {"epoch": 0, "loss": None, "lr": None, "val_iou": 0.2, "val_iou_point": 0.2, "val_dice_point": 0.3},
    {
        "epoch": 1,
        "loss": 1.0,
        "loss_iou": 0.05,
        "lr": 1e-3,
        "val_iou": 0.5,
        "val_iou_point": 0.5,
        "val_dice_point": 0.6,
    },
]


def test_the_loss_of_the_iou_head_is_not_an_iou() -> None:
    assert set(_series(METRICS, "val_iou", "val_iou_")) == {"val_iou", "val_iou_point"}
    assert list(_series(METRICS, "loss")) == ["loss"]
    assert math.isnan(_series(METRICS, "loss")["loss"][0])


def test_curves_need_both_halves() -> None:
    assert "<svg" in (curves(METRICS, "run") or "")
    assert curves([{"epoch": 0, "loss": 1.0}], "run") is None
