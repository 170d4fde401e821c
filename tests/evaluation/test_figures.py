"""The curves of a run: what is drawn, under which name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

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


def test_a_curve_runs_on_over_epochs_that_were_not_judged(monkeypatch) -> None:
    drawn: list[tuple[Sequence[float], ...]] = []
    plot = Axes.plot

    def spy(self: Axes, *args: Sequence[float], **options: Any) -> Any:
        drawn.append(args)
        return plot(self, *args, **options)

    monkeypatch.setattr(Axes, "plot", spy)
    curves([*METRICS, {"epoch": 2, "loss": 0.9}, {"epoch": 3, "loss": 0.8, "val_iou": 0.6}], "run")
    assert drawn == [((1, 2, 3), (1.0, 0.9, 0.8)), ((0, 1, 3), (0.2, 0.5, 0.6)), ((0, 1), (0.2, 0.5))]
