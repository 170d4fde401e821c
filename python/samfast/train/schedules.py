"""Learning-rate schedules: the factor on the base learning rate at each optimizer step."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from samfast.errors import ConfigError


@dataclass(frozen=True)
class Constant:
    """The base learning rate throughout."""

    kind: ClassVar[str] = "constant"

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """What the base learning rate is multiplied with at optimizer step ``step``, counted from 0."""
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

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """See :meth:`Constant.factor`."""
        return float(self.gamma ** (step // steps_per_epoch // self.step_size))


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine down to 0 at the end of the last epoch (Loshchilov & Hutter, SGDR, 2017).

    >>> schedule = Cosine(warmup_epochs=1)
    >>> [round(schedule.factor(step, steps_per_epoch=2, epochs=3), 3) for step in range(6)]
    [0.333, 0.667, 1.0, 0.854, 0.5, 0.146]

    Attributes:
        warmup_epochs: length of the warm-up; fractions are allowed.
    """

    kind: ClassVar[str] = "cosine"
    warmup_epochs: float = 1.0

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ConfigError(f"warmup_epochs={self.warmup_epochs!r}: 0 or more", where="schedule.warmup_epochs")

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """See :meth:`Constant.factor`."""
        warmup = min(round(self.warmup_epochs * steps_per_epoch), epochs * steps_per_epoch - 1)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (epochs * steps_per_epoch - warmup)))


Schedule = Constant | Step | Cosine
SCHEDULES: dict[str, type[Schedule]] = {schedule.kind: schedule for schedule in (Constant, Step, Cosine)}


def to_schedule(value: Any) -> Schedule:
    """A schedule from itself, its name, or its table in a config file.

    >>> to_schedule({"kind": "step", "step_size": 3})
    Step(step_size=3, gamma=0.5)

    Raises:
        ConfigError: there is no such schedule, or it has no such field.
    """
    if isinstance(value, Constant | Step | Cosine):
        return value
    table: dict[str, Any] = (
        {"kind": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    )
    kind = table.pop("kind", None)
    if kind not in SCHEDULES:
        raise ConfigError(f"{value!r} is no schedule", where="schedule", fix=f"choose from {', '.join(SCHEDULES)}")
    known = {field.name for field in fields(SCHEDULES[kind])}
    if unknown := sorted(set(table) - known):
        raise ConfigError(
            f"the schedule {kind!r} has no field {unknown[0]!r}",
            where="schedule",
            fix=f"its fields: {', '.join(sorted(known)) or 'none'}",
        )
    for name, number in table.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ConfigError(f"{name}={number!r}: this takes a number", where=f"schedule.{name}")
    return SCHEDULES[kind](**table)


def schedule_table(schedule: Schedule) -> dict[str, Any]:
    """The inverse of :func:`to_schedule`."""
    return {"kind": schedule.kind, **{field.name: getattr(schedule, field.name) for field in fields(schedule)}}
