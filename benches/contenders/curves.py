"""How fast a contender learns: validation IoU after every epoch, judged by the same functions for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from contenders.job import Job
from samfast.cache import EmbeddingCache
from samfast.data import load_dataset
from samfast.models.segmenter import TorchSegmenter
from samfast.train.validation import validate

KIND = "point"


def judge(job: Job, epoch: Callable[[int], Iterator[int]], state: Callable[[], Mapping[str, Tensor]]) -> dict[str, Any]:
    """Train, and judge the decoder on the validation set before the first epoch and after each.

    Args:
        job: its ``cache`` holds the validation set too.
        epoch: the number of an epoch to an iterator that takes a step and yields its images.
        state: the weights as they are.
    """
    dataset, cache = load_dataset(job.data, limit=job.limit), EmbeddingCache.open(Path(job.cache))
    judged = cache.decoder()
    segmenter = TorchSegmenter(judged, device=job.device)
    val = dataset.of("val", state="labelled")
    found: list[float] = []
    for number in range(job.epochs + 1):
        if number:
            for _ in epoch(number):
                pass
            weights = state()
            judged.load_state_dict({name: weights[name] for name in judged.state_dict()})
        found.append(validate(segmenter, dataset, val, cache.read, (KIND,), seed=0)["val_iou"])
    return {"val_iou": found}
