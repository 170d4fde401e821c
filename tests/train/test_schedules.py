"""Schedules against torch's own."""

from __future__ import annotations

import random

import pytest
import torch

from samfast.errors import ConfigError
from samfast.train.schedules import SCHEDULES, Constant, Cosine, Milestones, Plateau, Step, schedule_table, to_schedule

LR = 0.1


def torch_rates(make, steps: int, steps_per_tick: int = 1) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % steps_per_tick == 0:
            scheduler.step()
    return rates


def rates(schedule, *, steps_per_epoch: int, epochs: int) -> list[float]:
    return [
        LR * schedule.factor(step, steps_per_epoch=steps_per_epoch, steps=steps_per_epoch * epochs)
        for step in range(steps_per_epoch * epochs)
    ]


def test_step_is_steplr_once_an_epoch() -> None:
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 5, 0.5), 17 * 3, steps_per_tick=3)
    assert rates(Step(5, 0.5), steps_per_epoch=3, epochs=17) == pytest.approx(expected)
    assert rates(Step(4, 0.5), steps_per_epoch=3, epochs=17) != pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_cosine_is_linear_warm_up_then_cosine_annealing(warmup: int) -> None:
    steps_per_epoch, epochs = 4, 6
    ramp = warmup * steps_per_epoch

    def make(optimizer):
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps_per_epoch * epochs - ramp)
        if not ramp:
            return cosine
        linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (ramp + 1), 1.0, ramp)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], [ramp])

    expected = torch_rates(make, steps_per_epoch * epochs)
    assert rates(Cosine(warmup), steps_per_epoch=steps_per_epoch, epochs=epochs) == pytest.approx(expected)


def test_milestones_are_lambdalr() -> None:
    def lightning_sam(step: int) -> float:
        if step < 5:
            return step / 5
        return 1.0 if step < 9 else 0.1 if step < 14 else 0.01

    expected = torch_rates(lambda o: torch.optim.lr_scheduler.LambdaLR(o, lightning_sam), 18)
    assert rates(Milestones(5, (9, 14), 0.1), steps_per_epoch=3, epochs=6) == pytest.approx(expected)
    assert to_schedule({"kind": "milestones", "milestones": [9, 14]}) == Milestones(milestones=(9, 14))


@pytest.mark.parametrize(
    ("gamma", "patience", "threshold", "cooldown", "min_factor"),
    [(0.5, 0, 1e-4, 0, 0.0), (0.1, 2, 0.05, 0, 0.0), (0.5, 1, 1e-4, 3, 0.0), (0.3, 0, 0.02, 1, 0.05)],
)
def test_plateau_is_reducelronplateau(gamma, patience, threshold, cooldown, min_factor) -> None:
    draw = random.Random(7)
    judged = [min(0.3 + 0.02 * n, 0.6) + draw.uniform(-0.05, 0.05) for n in range(40)]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", gamma, patience, threshold, cooldown=cooldown, min_lr=min_factor, eps=0
    )
    schedule = Plateau(gamma, patience, threshold, cooldown, min_factor)
    seen = set()
    for count in range(1, len(judged) + 1):
        reference.step(judged[count - 1])
        found = schedule.factor(0, steps_per_epoch=1, steps=1, judged=judged[:count])
        assert found == pytest.approx(optimizer.param_groups[0]["lr"])
        seen.add(found)
    assert len(seen) > 2
    assert schedule.factor(0, steps_per_epoch=1, steps=1) == 1


def test_constant_is_constant() -> None:
    assert rates(Constant(), steps_per_epoch=2, epochs=2) == [LR] * 4


def test_a_warm_up_longer_than_the_run_leaves_a_positive_rate() -> None:
    assert min(rates(Cosine(warmup_epochs=9), steps_per_epoch=2, epochs=2)) > 0


@pytest.mark.parametrize("kind", SCHEDULES)
def test_tables_come_back(kind: str) -> None:
    schedule = to_schedule(kind)
    assert to_schedule(schedule_table(schedule)) == schedule


@pytest.mark.parametrize(
    "value",
    [
        "linear",
        3,
        None,
        {"kind": "step", "size": 3},
        {"kind": "step", "step_size": 0},
        {"kind": "step", "gamma": "x"},
        {"kind": "step", "gamma": 0.0},
        {"kind": "cosine", "warmup_epochs": -1},
    ],
)
def test_what_is_no_schedule_is_refused(value) -> None:
    with pytest.raises(ConfigError, match="schedule"):
        to_schedule(value)
