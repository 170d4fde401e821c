"""A function over many files at once, results in order, behind a progress bar, and gone at Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from samfast.progress import track

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 16


def thread_count() -> int:
    """Threads that read files: the processors this process may use, within reason."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_THREADS)


def parallel_map(function: Callable[[T], R], items: Sequence[T], description: str) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order; the first exception ends the rest."""
    pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="samfast-data")
    try:
        futures = [pool.submit(function, item) for item in items]
        for future in track(futures, description):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
