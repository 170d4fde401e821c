"""A function over many items at once: results in order, a bounded number of them ahead, and gone at Ctrl-C."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from samfast.progress import track

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 16
AHEAD_PER_THREAD = 8
"""So that no thread stands still behind a file that takes longer than others."""


def thread_count() -> int:
    """Threads that read files: the processors this process may use, within reason."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_THREADS)


def prefetch(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item, in order, computed by threads before it is asked for.

    Args:
        function: runs in several threads at once.
        items: to go through.
        threads: that compute.
        ahead: results that are ready or being made while one is used; bounds memory.
    """
    executor = ThreadPoolExecutor(threads, "samfast-prefetch")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def parallel_map(function: Callable[[T], R], items: Sequence[T], description: str) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order; the first exception ends the rest."""
    threads = thread_count()
    results = prefetch(function, items, threads=threads, ahead=AHEAD_PER_THREAD * threads)
    with closing(results):
        yield from track(results, description, total=len(items))
