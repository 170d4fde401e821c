"""What one process of the benchmark is told and what it answers; ``python -m contenders.job JOB.json ANSWER.json``."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Contender = Literal["encoder", "naive", "samfast"]
"""The encoder in every step; embeddings kept in files by hand; samfast."""
Malloc = Literal["system", "kept"]
"""As the process finds it; or told to keep its heap, as samfast's long jobs do."""


@dataclass(frozen=True)
class Row:
    """How an object is asked for: ``prompts`` prompts at once, each asked ``clicks`` times, corrected in between."""

    name: str
    regime: str
    prompts: int
    clicks: int


ROWS = {
    row.name: row
    for row in (
        Row("1 prompt", "point", 1, 1),
        Row("8 prompts", "point", 8, 1),
        Row("8 clicks", "clicks:8", 1, 8),
    )
}


@dataclass(frozen=True)
class Job:
    """What is measured in one process.

    Attributes:
        contender: who.
        task: ``"time"`` the steps, or train and judge every epoch for its ``"curve"``.
        malloc: the allocator it runs on.
        precision: ``"fp32"``, or ``"bf16"``: autocast.
        device: to compute on.
        threads: of torch.
        model: name of the architecture.
        checkpoint: its weights; None for those that ship.
        data: folder of the data set.
        limit: images of it that are read.
        names: the samples that are trained on.
        records: JSON file of what scripts read of them, see :mod:`contenders.prepare`.
        cache: samfast's cache of them, whose embeddings all contenders train on.
        rows: names of :data:`ROWS`.
        epochs: of a curve.
        batch_size: images an optimizer step.
        objects: objects of an image that take part in an epoch.
        encodes: images that are encoded and stored, to time that.
        encode_into: where they are stored: a folder, of samfast a cache.
        budget_s: after so many seconds no further step is timed; at least one is.
        seed: of everything drawn.
    """

    contender: Contender
    task: Literal["time", "curve"]
    malloc: Malloc
    precision: str
    device: str
    threads: int
    model: str
    checkpoint: str | None
    data: str
    limit: int | None
    names: tuple[str, ...]
    records: str
    cache: str
    rows: tuple[str, ...]
    epochs: int
    batch_size: int
    objects: int
    encodes: int
    encode_into: str
    budget_s: float
    seed: int

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Job:
        fields = json.loads(path.read_text())
        return cls(**{**fields, "names": tuple(fields["names"]), "rows": tuple(fields["rows"])})


@dataclass(frozen=True)
class Timing:
    """Seconds for an epoch, and what they were measured over, such as ``"3 epochs"`` or ``"4 steps"``."""

    epoch_s: float
    over: str


MIN_STEPS = 3
"""Timed whatever they take."""


def measure(epoch: Callable[[int], Iterator[int]], *, images: int, budget_s: float, wait: Callable[[], None]) -> Timing:
    """Time optimizer steps until the budget is spent: the median of whole epochs, or the mean step where none is done.

    Args:
        epoch: the number of an epoch, counted from 1, to an iterator that takes a step and yields its images.
        images: of an epoch.
        budget_s: seconds.
        wait: returns when the device has finished.
    """
    whole: list[float] = []
    begin = time.perf_counter()
    while not whole or time.perf_counter() - begin < budget_s:
        start, done, steps = time.perf_counter(), 0, 0
        for count in epoch(len(whole) + 1):
            wait()
            done, steps = done + count, steps + 1
            if done < images and time.perf_counter() - begin >= budget_s:
                if whole:
                    return _median(whole)
                if steps < MIN_STEPS:
                    continue
                seconds = (time.perf_counter() - start) * images / done
                return Timing(seconds, f"{steps} step{'s' * (steps > 1)}")
        whole.append(time.perf_counter() - start)
    return _median(whole)


def _median(epochs: list[float]) -> Timing:
    return Timing(statistics.median(epochs), f"{len(epochs)} epoch{'s' * (len(epochs) > 1)}")


def waiter(device: str) -> Callable[[], None]:
    """What waits for a device to finish."""
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def run(job: Job) -> dict[str, Any]:
    """Answer a job in this process."""
    import torch

    torch.set_num_threads(job.threads)
    torch.backends.cudnn.allow_tf32 = False  # as samfast encodes: float32 against float32
    if job.contender == "samfast":
        from contenders import own

        return own.run(job)
    from contenders import scripts

    if job.malloc == "kept":
        from samfast.models.allocator import keep_heap

        keep_heap()
    return scripts.run(job)


if __name__ == "__main__":
    answer = run(Job.load(Path(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(answer))
