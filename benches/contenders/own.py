"""samfast: its cache, and the functions that ``train_decoder`` itself trains an epoch with, without the validation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from contenders.job import ROWS, Job, measure, waiter
from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.data import Dataset, load_dataset
from samfast.data.types import Sample
from samfast.inference.segmenter import EMBED_BATCH
from samfast.models.allocator import keep_heap
from samfast.models.checkpoints import load_model
from samfast.train.batches import epoch_updates
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer


class Own:
    """A training run on the samples of a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = torch.device(job.device)
        start = time.perf_counter()
        self.dataset: Dataset = load_dataset(job.data, limit=job.limit)
        named = {sample.name: sample for sample in self.dataset.samples}
        self.samples: list[Sample] = [named[name] for name in job.names]
        self.open_image_s = (time.perf_counter() - start) / len(named)

    def encode(self) -> dict[str, Any]:
        """Seconds an image to make a cache."""
        job = self.job
        sam = load_model(job.model, checkpoint=job.checkpoint).to(self.device)
        kind = self.device.type
        images = torch.zeros(EMBED_BATCH.get(kind, 1), 3, sam.spec.size, sam.spec.size, device=self.device)
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=job.precision == "bf16"):
            sam.encode(images)  # the first pass of a process costs more
        chosen = replace(self.dataset, samples=tuple(self.samples[: job.encodes]))
        precision = {"fp32": "float32", "bf16": "bfloat16"}[job.precision]
        start = time.perf_counter()
        cache_embeddings(chosen, model=sam, out=job.encode_into, precision=precision, device=job.device)
        return {"image_s": (time.perf_counter() - start) / len(chosen), "images": len(chosen)}

    def begin(self, row: str) -> None:
        """A new decoder and optimizer, for training with the prompts of a row."""
        job, asked = self.job, ROWS[row]
        self.cache = EmbeddingCache.open(Path(job.cache))
        self.config = TrainConfig.make(
            "flood-study",
            model=job.model,
            regime=asked.regime,
            batch_size=job.batch_size,
            max_prompts=job.objects,
            prompts_per_object=asked.prompts,
            seed=job.seed,
            device=job.device,
            precision=job.precision,
        )
        steps = -(-len(self.samples) // job.batch_size)
        decoder = self.cache.decoder()
        self.trainer = Trainer(decoder, self.config, steps_per_epoch=steps, device=self.device, precision=job.precision)

    def epoch(self, number: int) -> Iterator[int]:
        """Train on every image once, in a new order; yields the images of each step."""
        step = (number - 1) * self.trainer.steps_per_epoch
        spec = self.trainer.sam.spec
        for (batch,) in epoch_updates(self.dataset, self.samples, self.cache.read, self.config, spec, epoch=number):
            self.trainer.step(batch, step)
            step += 1
            yield len(batch.weight)


def run(job: Job) -> dict[str, Any]:
    """See :func:`contenders.job.run`."""
    if job.malloc == "system":
        os.environ["SAMFAST_MALLOC"] = "system"
    keep_heap()
    own = Own(job)
    if job.task == "curve":
        from contenders.curves import judge

        own.begin(job.rows[0])
        return judge(job, own.epoch, own.trainer.sam.state_dict)
    answer: dict[str, Any] = {"open_image_s": own.open_image_s, "encode": own.encode(), "rows": {}}
    own.begin(job.rows[0])
    next(own.epoch(1))
    for row in job.rows:
        own.begin(row)
        timing = measure(own.epoch, images=len(own.samples), budget_s=job.budget_s, wait=waiter(job.device))
        answer["rows"][row] = vars(timing)
    return answer
