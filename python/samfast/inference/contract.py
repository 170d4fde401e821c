"""The output contract: which of a decoder's mask tokens its training has taught, and which one answers a prompt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samfast.errors import ConfigError

Selection = Literal["single", "best-predicted"]
"""``"single"`` answers with token 0; ``"best-predicted"`` answers a lone point with the multimask token of the highest
predicted IoU, and any other prompt with token 0."""

NO_PROMPT = "none"
"""What asking without prompts is called, as a regime and among prompt kinds."""

SINGLE = (0,)
MULTIMASK = (1, 2, 3)


@dataclass(frozen=True)
class OutputContract:
    """Mask tokens supervised in training, by the kind of prompt. Stored with every run and every export.

    Attributes:
        one_point: tokens supervised on prompts that are a single point; () if training never saw one.
        other: tokens supervised on every other prompt (boxes, masks, two or more points); () if it never saw one.
        classes: of a model that is asked without prompts: the class each mask token answers with, in their order;
            () of a model that answers prompts.
        multilabel: whether a pixel may be of several of the ``classes``; else it is of one of them, or of none.
    """

    one_point: tuple[int, ...] = SINGLE + MULTIMASK
    other: tuple[int, ...] = SINGLE
    classes: tuple[str, ...] = ()
    multilabel: bool = False

    def takes(self, kind: str) -> bool:
        """Whether the model can be asked by a prompt kind: one of classes by :data:`NO_PROMPT`, others by the rest."""
        return bool(self.classes) == (kind == NO_PROMPT)

    def require(self, kind: str, name: str) -> None:
        """Raise :class:`~samfast.errors.ConfigError` unless the model of that name can be asked by a prompt kind."""
        if not self.takes(kind):
            (self.require_classes if kind == NO_PROMPT else self.require_prompts)(name)

    def require_prompts(self, name: str) -> None:
        """Raise :class:`~samfast.errors.ConfigError` if the model of that name is asked without prompts."""
        if self.classes:
            raise ConfigError(
                f"{name} takes no prompts: it gives a mask for each of its classes ({shortened(self.classes)})",
                where="prompts",
                fix="leave the prompts out (prompts='none'), or train a model with a regime of prompts, such as box",
            )

    def require_classes(self, name: str) -> None:
        """Raise :class:`~samfast.errors.ConfigError` unless the model of that name is asked without prompts."""
        if not self.classes:
            raise ConfigError(
                f"{name} answers nothing without a prompt: it was not taught any classes",
                where="prompts",
                fix="ask it by prompts, such as box or point, or train a model with regime='none'",
            )

    def select(
        self, scores: NDArray[np.float32], is_one_point: NDArray[np.bool_], selection: Selection = "single"
    ) -> NDArray[np.int64]:
        """The token that answers each prompt.

        Args:
            scores: ``(P, T)`` float32 predicted IoU of every mask token.
            is_one_point: ``(P,)`` bool, see :attr:`samfast.prompts.Prompts.is_one_point`.
            selection: the rule, see :data:`Selection`.

        Returns:
            ``(P,)`` int64 token indices.

        Warns:
            UserWarning: the rule asks for tokens that this decoder's training has not supervised.
        """
        check_selection(selection)
        tokens = np.zeros(len(scores), np.int64)
        if selection == "best-predicted" and is_one_point.any():
            self.warn_untrained(MULTIMASK)
            best = scores[:, list(MULTIMASK)].argmax(axis=1) + MULTIMASK[0]
            tokens = np.where(is_one_point, best, tokens)
        return tokens

    def warn_untrained(self, tokens: tuple[int, ...]) -> None:
        """Warn if any of ``tokens`` was supervised by no prompt of this decoder's training."""
        missing = sorted(set(tokens) - set(self.one_point) - set(self.other))
        if missing:
            trained = sorted({*self.one_point, *self.other})
            warnings.warn(
                f"mask tokens {missing} were not trained in this run (trained: {trained});"
                " their masks and scores are those of the base model's tokens on a decoder that has moved."
                " Use selection='single'.",
                stacklevel=3,
            )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict, the inverse of :meth:`from_dict`."""
        return {
            "one_point": list(self.one_point),
            "other": list(self.other),
            "classes": list(self.classes),
            "multilabel": self.multilabel,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> OutputContract:
        """The contract :meth:`to_dict` wrote."""
        prompted = tuple(fields["one_point"]), tuple(fields["other"])
        return cls(*prompted, tuple(fields.get("classes", ())), bool(fields.get("multilabel", False)))  # later fields


def check_selection(selection: str) -> None:
    """Raise :class:`~samfast.errors.ConfigError` unless there is such a rule."""
    if selection not in get_args(Selection):
        raise ConfigError(f"selection={selection!r} is none of {', '.join(get_args(Selection))}", where="selection")


def shortened(names: Sequence[str], most: int = 6) -> str:
    """Names with commas between them, and how many more there are.

    >>> shortened(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
