"""Balance: how much each object counts in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samfast.data.types import Target

BALANCES = ("none", "image", "class", "size")
"""``none``: every object counts alike; ``image``: every image of a step; ``class``: every class of the train set;
``size``: every size of it, small, medium and large as COCO has them."""

PROMPT_FREE_BALANCES = ("none", "image")
"""Those that need no objects; without prompts the two are the same."""

SIZES_PX2 = (32**2, 96**2)
"""Areas from which an object is medium, and large (COCO's evaluation)."""


@dataclass(frozen=True)
class Balance:
    """The rule, and what it has to know of the train set.

    Attributes:
        rule: one of :data:`BALANCES`.
        share: of each class, or size: the weight of its objects, whose mean over the train set is 1.
    """

    rule: str = "none"
    share: dict[int, float] = field(default_factory=dict)

    @classmethod
    def over(cls, rule: str, targets: Iterable[Target]) -> Balance:
        """The balance of a train set; ``targets`` are looked at if the rule needs them."""
        if rule not in ("class", "size"):
            return cls(rule)
        counts = Counter(group for target in targets for group in _groups(rule, target).tolist())
        whole = sum(counts.values()) / max(len(counts), 1)
        return cls(rule, {group: whole / count for group, count in counts.items()})

    def weights(self, target: Target) -> NDArray[np.float32]:
        """``(N,)`` float32: how much each object of an image counts."""
        count = len(target.masks)
        if self.rule == "image":
            return np.full(count, 1 / max(count, 1), np.float32)
        if self.rule == "none":
            return np.ones(count, np.float32)
        return np.array([self.share.get(group, 1.0) for group in _groups(self.rule, target).tolist()], np.float32)


EVEN = Balance()
"""Every object counts alike."""


def _groups(rule: str, target: Target) -> NDArray[np.int64]:
    """The class, or the size, of each object."""
    if rule == "class":
        return target.classes
    return np.searchsorted(SIZES_PX2, target.masks.area(), side="right")
