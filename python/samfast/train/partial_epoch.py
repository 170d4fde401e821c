"""An epoch as far as it is trained: where a run that was killed in the middle of one goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class PartialEpoch:
    """What the finished updates of an epoch came to.

    Attributes:
        updates: how many they are, the skipped ones included.
        skipped: those whose loss was not finite.
        prompts: that the others were made of.
        sums: of the loss and its parts over those prompts, by name.
        seconds: they took.
    """

    updates: int = 0
    skipped: int = 0
    prompts: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, means: Mapping[str, float] | None) -> None:
        """Take in what :meth:`samfast.train.engine.Trainer.step` says of the next update."""
        self.updates += 1
        if means is None:
            self.skipped += 1
            return
        count = int(means["prompts"])
        self.prompts += count
        for name, value in means.items():
            if name != "prompts":
                self.sums[name] = self.sums.get(name, 0.0) + value * count

    def means(self) -> dict[str, float]:
        """The loss and its parts, as means over the prompts.

        >>> epoch = PartialEpoch()
        >>> epoch.add({"loss": 1.0, "prompts": 1})
        >>> epoch.add({"loss": 0.0, "prompts": 3})
        >>> epoch.means()
        {'loss': 0.25}
        """
        return {name: value / self.prompts for name, value in self.sums.items()}
