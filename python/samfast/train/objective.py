"""What a training run minimises: the parts of the loss and their weights. Read without torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from samfast.errors import ConfigError, choices


@dataclass(frozen=True)
class Objective:
    """The weights of the loss's parts, each of which is defined in :mod:`samfast.train.losses`.

    Attributes:
        bce: of binary cross-entropy.
        dice: of the soft Dice loss.
        focal: of the focal loss.
        iou: of the squared error of the predicted IoU; 0 leaves the scores untrained.
        alpha: the focal loss's weight of the object; the background has ``1 - alpha``.
        gamma: the focal loss's exponent: how little counts what is right already.
    """

    bce: float = 0.0
    dice: float = 0.0
    focal: float = 0.0
    iou: float = 1.0
    alpha: float = 0.25
    gamma: float = 2.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not is_number or value < 0 or (name == "alpha" and value > 1):
                fix = "a number from 0 to 1" if name == "alpha" else "a number, 0 or more"
                raise ConfigError(f"{name}={value!r} is not allowed", where=f"loss.{name}", fix=fix)
        if not (self.bce or self.dice or self.focal):
            raise ConfigError("no part of the loss teaches masks", where="loss", fix="a weight for bce, dice or focal")


OBJECTIVES: dict[str, Objective] = {
    "bce+dice": Objective(bce=1.0, dice=1.0),
    "dice+ce": Objective(bce=0.2, dice=0.8),  # SAMed's shares
    "focal+dice+iou": Objective(focal=20.0, dice=1.0),  # SAM's
}


def to_objective(value: Any) -> Objective:
    """An objective from itself, its name, or a table of weights, which may start from a ``name``.

    >>> to_objective({"name": "focal+dice+iou", "gamma": 1.5})
    Objective(bce=0.0, dice=1.0, focal=20.0, iou=1.0, alpha=0.25, gamma=1.5)

    Raises:
        ConfigError: there is no such objective, or no such part.
    """
    if isinstance(value, Objective):
        return value
    table = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {"name": value}
    name = table.pop("name", None)
    if name is not None and (not isinstance(name, str) or name not in OBJECTIVES):
        raise ConfigError(f"{name!r} is no loss", where="loss", fix=f"choose from {', '.join(OBJECTIVES)}")
    known = [field.name for field in fields(Objective)]
    if unknown := sorted(set(table) - set(known)):
        raise ConfigError(f"the loss has no part {unknown[0]!r}", where="loss", fix=choices(unknown[0], known))
    return Objective(**{**(asdict(OBJECTIVES[name]) if name is not None else {}), **table})
