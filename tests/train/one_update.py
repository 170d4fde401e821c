"""One update of one process, in a module of its own: processes that are started find what they run by its name."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from samfast.cache import EmbeddingCache
from samfast.data import Dataset
from samfast.train.batches import epoch_updates
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.world import World


def take_update(world: World, dataset: Dataset, cache: Path, config: TrainConfig, out: Path) -> None:
    """Take the first update of a run, and write its gradient into the folder ``out``, as ``RANK.safetensors``."""
    opened, samples = EmbeddingCache.open(cache), dataset.of("train", state="labelled")
    trainer = Trainer(opened.decoder(), config, steps_per_epoch=1, device=torch.device("cpu"), world=world)
    update = next(epoch_updates(dataset, samples, opened.read, config, opened.spec, epoch=1, world=world))
    trainer.step(update, 0)
    gradient = {name: value.grad for name, value in trainer.sam.named_parameters() if value.grad is not None}
    out.mkdir(exist_ok=True)
    save_file(gradient, out / f"{world.rank}.safetensors")
