"""What training reads next: the order of an epoch, and threads that read ahead of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from samfast.data.types import Sample
from samfast.errors import ConfigError
from samfast.prompts import draw_keys

T = TypeVar("T")
R = TypeVar("R")
Image = TypeVar("Image", str, Sample)

AHEAD = 2
"""Batches ready while one is trained on: one to take next, and one in case that takes longer than a step."""


def key_of(image: str | Sample) -> str:
    """The hex key of a sample, or of what is one already."""
    return image.key if isinstance(image, Sample) else image


def epoch_order(images: Sequence[Image], *, seed: int, epoch: int) -> list[Image]:
    """The images in the order of an epoch: by a hash of (seed, epoch, key), in whatever order they come.

    So it depends neither on how they are spread over shards nor on the platform.

    >>> epoch_order(["cc", "bb", "aa"], seed=0, epoch=1) == epoch_order(["aa", "bb", "cc"], seed=0, epoch=1)
    True
    """

    def place(image: str | Sample) -> tuple[int, str]:
        # Files of the same bytes have the same key, and different names.
        name = image.name if isinstance(image, Sample) else ""
        return int(draw_keys(seed, key_of(image), [""], epoch=epoch)[0]), name

    return sorted(images, key=place)


def in_batches(items: Sequence[T], size: int) -> list[list[T]]:
    """Consecutive ``items``, ``size`` in each list; the last may be shorter.

    Raises:
        ConfigError: no list could hold that many.
    """
    if size < 1:
        raise ConfigError(f"batch_size={size} reads nothing", where="batch_size", fix="use 1 or more")
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def prefetch(make: Callable[[T], R], items: Sequence[T], *, ahead: int = AHEAD) -> Generator[R, None, None]:
    """Yield ``make(item)`` for each item, in order, made by threads before it is asked for.

    Args:
        make: runs in several threads at once.
        items: to go through.
        ahead: results that are ready or being made while one is used; bounds memory.
    """
    executor = ThreadPoolExecutor(ahead, "samfast-prefetch")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
