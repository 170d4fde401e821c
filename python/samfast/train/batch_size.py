"""``batch_size="auto"``: the images that a device decodes at once."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from samfast.cache.loader import epoch_order
from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.models.sam import Sam
from samfast.train.batches import Read, make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.folder import differences
from samfast.train.run import Run, is_run

UPDATES_PER_EPOCH = 16
"""An epoch has that many updates at the least, as far as it has images."""
TRIED_IMAGES = 64
"""How many images tell how many prompts one has, and what fits."""


def fitting_batch_size(
    sam: Sam,
    dataset: Dataset,
    samples: Sequence[Sample],
    read: Read,
    config: TrainConfig,
    *,
    device: torch.device,
    precision: str,
) -> int:
    """The largest power of two of images whose prompts are decoded at once, in one chunk.

    More would be cut into chunks, and give fewer updates in the same time. On a GPU, a chunk is what a step on images
    of the train set, tried out and forgotten, finds memory for; elsewhere it is what caches hold. Several devices
    take so many each. An epoch keeps :data:`UPDATES_PER_EPOCH` updates.
    """
    trainer = Trainer(copy.deepcopy(sam), config, steps_per_epoch=1, device=device, precision=precision)
    tried = epoch_order(samples, seed=config.seed, epoch=1)[:TRIED_IMAGES]
    batch = make_batch(dataset, tried, read, config, sam.spec, epoch=1)
    if device.type == "cuda":
        trainer.try_out(batch)
    processes = config.devices * config.nodes
    at_once = trainer.chunk * len(tried) * processes // max(len(batch), 1)
    return largest_power_of_two(min(at_once, len(samples) // UPDATES_PER_EPOCH), at_least=processes)


def largest_power_of_two(limit: int, *, at_least: int) -> int:
    """The largest power of two up to ``limit``, or ``at_least`` where that is more.

    >>> [largest_power_of_two(limit, at_least=1) for limit in (0, 1, 3, 4, 100)]
    [1, 1, 2, 4, 64]
    """
    return max(1 << max(limit, 1).bit_length() - 1, at_least)


def earlier_batch_size(places: Iterable[Path], record: dict[str, Any]) -> int | None:
    """What a run chose that differs from ``record`` in its batch size at most, so that it can be continued."""
    for path in takewhile(is_run, places):
        run = Run(path)
        if {name for name, _, _ in differences(run.record, record)} <= {"batch_size"}:
            return run.config.batch_size
    return None
