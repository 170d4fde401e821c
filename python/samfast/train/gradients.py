"""The gradient of an update, added up piece by piece: chunks of prompts, batches, processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from samfast.train.world import World


class Gradients:
    """What some parameters' gradients sum up to.

    A parameter that no piece reaches has no gradient, which is not the same as one of zeros: an optimizer leaves it
    alone, weight decay and momentum included.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._sums: list[Tensor | None] = [None] * len(parameters)

    def clear(self) -> None:
        """Start over."""
        self._sums = [None] * len(self._parameters)
        self._drop()

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Add what the block takes backward; none of it if the block raises."""
        self._drop()
        try:
            yield
            for index, parameter in enumerate(self._parameters):
                before, found = self._sums[index], parameter.grad
                if before is None or found is None:
                    self._sums[index] = before if found is None else found
                else:
                    before += found
        finally:
            self._drop()

    def join(self, world: World, totals: Tensor) -> Tensor:
        """Add up over processes, ``(n,)`` float32 ``totals`` of other things along with the gradients.

        Returns:
            the sum of the totals.
        """
        if world.size == 1:
            return totals
        reached = torch.tensor([total is not None for total in self._sums], dtype=torch.float32, device=totals.device)
        here = [torch.zeros_like(p) if g is None else g for p, g in zip(self._parameters, self._sums, strict=True)]
        lengths = [len(totals), len(reached), *(gradient.numel() for gradient in here)]
        totals, reached, *sums = world.total(torch.cat([totals, reached, *map(torch.flatten, here)])).split(lengths)
        self._sums = [
            total.view_as(parameter) if is_reached else None
            for total, parameter, is_reached in zip(sums, self._parameters, reached.tolist(), strict=True)
        ]
        return totals

    def norm(self) -> Tensor:
        """The Euclidean norm of the sums, of no dimension."""
        return nn.utils.get_total_norm(self._known)

    def put(self, divisor: float) -> None:
        """Leave the sums, divided, where an optimizer looks for them: in ``parameter.grad``."""
        if self._known:
            torch._foreach_div_(self._known, divisor)
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            parameter.grad = total

    @property
    def _known(self) -> list[Tensor]:
        return [total for total in self._sums if total is not None]

    def _drop(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
