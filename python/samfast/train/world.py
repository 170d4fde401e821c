"""The processes that train together: each takes its part of every batch, and all take the same steps.

Lightning Fabric brings the processes together, finds the devices and carries what is added up. What it offers to wrap a
model in is not used: that means gradients over processes where the loss is a mean over objects, and it waits for the
gradient of every parameter from every process, some of which may have no object in a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from samfast.errors import require

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which encodes and judges alone. Whoever started them ends them sooner if
one of them fails."""


class World:
    """One process among those that train together; by default the only one.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self._fabric = fabric
        self.rank = 0 if fabric is None else fabric.global_rank
        self.size = 1 if fabric is None else fabric.world_size

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes, judges and speaks."""
        return self.rank == 0

    def device(self, alone: torch.device) -> torch.device:
        """This process's own device; ``alone`` if it is the only process."""
        return alone if self._fabric is None else self._fabric.device

    def part(self, items: Sequence[T]) -> list[T]:
        """What of a batch this process takes: an equal part, give or take one, and none of another's.

        >>> World().part(["a", "b"])
        ['a', 'b']
        """
        return list(items[self.rank :: self.size])

    def total(self, values: Tensor) -> Tensor:
        """The sum of all processes' ``values``, which have one shape; the same bits on all of them."""
        if self._fabric is None:
            return values
        summed = self._fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed

    def first(self, value: T) -> T:
        """What the first process passes here, on all of them."""
        return value if self._fabric is None else self._fabric.broadcast(value)

    def longest(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The longest of what the processes pass here, on all of them."""
        if self._fabric is None:
            return names
        found: list[tuple[str, ...]] = [()] * self.size
        torch.distributed.all_gather_object(found, names)
        return max(found, key=len)

    def meet(self) -> None:
        """Wait until all have come here."""
        if self._fabric is not None:
            self._fabric.barrier()

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """Run the block in the first process, and then in the others, which find what it left."""
        if not self.is_first:
            self.meet()
        yield
        if self.is_first:
            self.meet()


ALONE = World()
"""One process."""


def join(*, accelerator: str, devices: int, nodes: int = 1, environment: Any = None) -> World:
    """Meet the other processes that a launcher started.

    Args:
        accelerator: ``"cpu"`` (which meets over gloo) or ``"cuda"`` (over NCCL).
        devices: processes on each machine.
        nodes: machines.
        environment: of the launcher, as Fabric knows it; None to look for one.
    """
    require("lightning_fabric")
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its import sets another

    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=PATIENCE),
        plugins=None if environment is None else [environment],
    )
    fabric.launch()
    return World(fabric)
