"""Learning-rate schedules: the factor on the base learning rate at each optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from samfast.errors import ConfigError, choices


@dataclass(frozen=True)
class Constant:
    """The base learning rate throughout."""

    kind: ClassVar[str] = "constant"

    def factor(self, step: int, *, steps_per_epoch: int, steps: int, judged: Sequence[float] = ()) -> float:
        """What the base learning rate is multiplied with at optimizer step ``step``, counted from 0.

        Args:
            step: of all epochs.
            steps_per_epoch: optimizer steps an epoch has.
            steps: optimizer steps the run has.
            judged: the validation IoU each time that the run was judged so far, the untuned model included.
        """
        return 1.0


@dataclass(frozen=True)
class Step:
    """``torch.optim.lr_scheduler.StepLR``, stepped once an epoch.

    Attributes:
        step_size: epochs between two drops.
        gamma: factor of each drop.
    """

    kind: ClassVar[str] = "step"
    step_size: int = 5
    gamma: float = 0.5

    def __post_init__(self) -> None:
        if self.step_size < 1:
            raise ConfigError(f"step_size={self.step_size!r}: at least 1 epoch", where="schedule.step_size")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"gamma={self.gamma!r}: above 0, at most 1", where="schedule.gamma")

    def factor(self, step: int, *, steps_per_epoch: int, steps: int, judged: Sequence[float] = ()) -> float:
        """See :meth:`Constant.factor`."""
        return float(self.gamma ** (step // steps_per_epoch // self.step_size))


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine down to 0 at the end of the run (Loshchilov & Hutter, SGDR, 2017).

    >>> schedule = Cosine(warmup_epochs=1)
    >>> [round(schedule.factor(step, steps_per_epoch=2, steps=6), 3) for step in range(6)]
    [0.333, 0.667, 1.0, 0.854, 0.5, 0.146]

    Attributes:
        warmup_epochs: length of the warm-up; fractions are allowed.
    """

    kind: ClassVar[str] = "cosine"
    warmup_epochs: float = 1.0

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ConfigError(f"warmup_epochs={self.warmup_epochs!r}: 0 or more", where="schedule.warmup_epochs")

    def factor(self, step: int, *, steps_per_epoch: int, steps: int, judged: Sequence[float] = ()) -> float:
        """See :meth:`Constant.factor`."""
        warmup = min(round(self.warmup_epochs * steps_per_epoch), steps - 1)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@dataclass(frozen=True)
class Milestones:
    """Linear warm-up, then a drop at each of some steps: the ``LambdaLR`` of ``lightning-sam``.

    >>> schedule = Milestones(warmup_steps=2, milestones=(4, 6), gamma=0.1)
    >>> [round(schedule.factor(step, steps_per_epoch=4, steps=8), 3) for step in range(8)]
    [0.0, 0.5, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]

    Attributes:
        warmup_steps: optimizer steps over which the rate rises from 0.
        milestones: optimizer steps at which it drops, in order.
        gamma: factor of each drop.
    """

    kind: ClassVar[str] = "milestones"
    warmup_steps: int = 250
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps={self.warmup_steps!r}: 0 or more", where="schedule.warmup_steps")
        if list(self.milestones) != sorted({*self.milestones}) or min(self.milestones, default=1) < 1:
            raise ConfigError(f"milestones={self.milestones!r}: rising steps from 1", where="schedule.milestones")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"gamma={self.gamma!r}: above 0, at most 1", where="schedule.gamma")

    def factor(self, step: int, *, steps_per_epoch: int, steps: int, judged: Sequence[float] = ()) -> float:
        """See :meth:`Constant.factor`."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        return float(self.gamma ** sum(milestone <= step for milestone in self.milestones))


@dataclass(frozen=True)
class Plateau:
    """``torch.optim.lr_scheduler.ReduceLROnPlateau`` on the validation IoU, stepped each time that the run is judged.

    Attributes:
        gamma: factor of each drop.
        patience: judgements in a row without improvement that are borne; the next one drops the rate.
        threshold: by how much, relative to the best, an improvement has to exceed it.
        cooldown: judgements after a drop that do not count.
        min_factor: below which the rate does not drop.
    """

    kind: ClassVar[str] = "plateau"
    gamma: float = 0.5
    patience: int = 3
    threshold: float = 1e-4
    cooldown: int = 0
    min_factor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1:
            raise ConfigError(f"gamma={self.gamma!r}: above 0, below 1", where="schedule.gamma")
        for name in ("patience", "threshold", "cooldown", "min_factor"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)!r}: 0 or more", where=f"schedule.{name}")

    def factor(self, step: int, *, steps_per_epoch: int, steps: int, judged: Sequence[float] = ()) -> float:
        """See :meth:`Constant.factor`."""
        factor, best, bad, resting = 1.0, -math.inf, 0, 0
        for value in judged:
            if value > best * (1 + self.threshold) or best == -math.inf:
                best, bad = value, 0
            else:
                bad += 1
            if resting:
                resting, bad = resting - 1, 0
            if bad > self.patience:
                factor, bad, resting = max(factor * self.gamma, self.min_factor), 0, self.cooldown
        return factor


Schedule = Constant | Step | Cosine | Milestones | Plateau
SCHEDULES: dict[str, type[Schedule]] = {
    schedule.kind: schedule for schedule in (Constant, Step, Cosine, Milestones, Plateau)
}


def to_schedule(value: Any) -> Schedule:
    """A schedule from itself, its name, or its table in a config file.

    >>> to_schedule({"kind": "step", "step_size": 3})
    Step(step_size=3, gamma=0.5)

    Raises:
        ConfigError: there is no such schedule, or it has no such field.
    """
    if isinstance(value, Schedule):
        value = schedule_table(value)
    table: dict[str, Any] = (
        {"kind": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    )
    kind = table.pop("kind", None)
    if not isinstance(kind, str) or kind not in SCHEDULES:
        raise ConfigError(f"{value!r} is no schedule", where="schedule", fix=f"choose from {', '.join(SCHEDULES)}")
    known = {field.name for field in fields(SCHEDULES[kind])}
    if unknown := sorted(set(table) - known):
        raise ConfigError(
            f"the schedule {kind!r} has no field {unknown[0]!r}",
            where="schedule",
            fix=choices(unknown[0], sorted(known)),
        )
    for name, given in table.items():
        is_list = name == "milestones"
        numbers = given if is_list and isinstance(given, list | tuple) else [given]
        if isinstance(given, list | tuple) != is_list or not all(_is_number(number) for number in numbers):
            what = "numbers, as in [4, 6]" if is_list else "a finite number"
            raise ConfigError(f"{name}={given!r}: this takes {what}", where=f"schedule.{name}")
    return SCHEDULES[kind](**table)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def schedule_table(schedule: Schedule) -> dict[str, Any]:
    """The inverse of :func:`to_schedule`."""
    return {"kind": schedule.kind, **{field.name: getattr(schedule, field.name) for field in fields(schedule)}}
