"""The process in which cells are trained, driven by :mod:`samfast.sweeps.pool`.

It reads pickles from standard input, a :class:`Setup` and then a :class:`Task` at a time, and answers each task with a
pickled :class:`Answer` on standard output. What is printed meanwhile goes to standard error. Where standard input ends,
the process does: no worker outlives the sweep.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samfast.data import Dataset
from samfast.errors import SamfastError
from samfast.progress import say
from samfast.sweeps.cell import Found, Judging, train_cell


@dataclass(frozen=True)
class Setup:
    """What all tasks share.

    Attributes:
        datasets: the data set by fold; one without folds.
        cache: the embedding cache.
        checkpoint: of the base model.
        judging: how cells are judged.
        device: to train and judge on.
        threads: of torch on the CPU.
    """

    datasets: tuple[Dataset, ...]
    cache: Path
    checkpoint: str | Path | None
    judging: Judging
    device: str
    threads: int


@dataclass(frozen=True)
class Task:
    """A cell to train.

    Attributes:
        path: of its run.
        fold: index into the data sets.
        given: what training is told.
    """

    path: Path
    fold: int
    given: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came of a task.

    Attributes:
        found: None if it failed.
        error: why it failed.
        device_bytes: the most memory the process held on a CUDA device; 0 elsewhere.
    """

    found: Found | None
    error: str | None = None
    device_bytes: int = 0


def main() -> None:
    """Answer tasks until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    received: queue.Queue[Any] = queue.Queue()

    def receive() -> None:
        try:
            while True:
                received.put(pickle.load(sys.stdin.buffer))
        except EOFError:
            os._exit(0)  # training, if any is going on, is resumed by the next sweep
        except Exception:  # nothing after it can be read either
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=receive, daemon=True).start()
    setup: Setup = received.get()
    import torch

    from samfast.cache import EmbeddingCache

    torch.set_num_threads(setup.threads)
    cache = EmbeddingCache.open(setup.cache)
    while True:
        task: Task = received.get()
        say(f"\n== {task.path.name}")
        found, error = None, None
        try:
            found = train_cell(
                task.path,
                task.given,
                setup.datasets[task.fold],
                cache,
                setup.judging,
                checkpoint=setup.checkpoint,
                device=setup.device,
            )
        except Exception as trouble:  # whatever it is, the other cells go on
            traceback.print_exc()
            what = trouble.what if isinstance(trouble, SamfastError) else str(trouble).partition("\n")[0]
            error = f"{type(trouble).__name__}: {what}"
        held = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
        pickle.dump(Answer(found, error, held), answers)
        answers.flush()
