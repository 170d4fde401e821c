"""Several processes on one cache: where each begins, what the others have made meanwhile, and where to go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast.cache.format import Manifest
from samfast.cache.shard import Shard, list_shards, read_shard
from samfast.errors import CacheError

RESCAN_SECONDS = 1.0


class NewShards:
    """The keys of rows that have been written to a cache since this was last asked, by whomever.

    Args:
        folder: of the cache.
        manifest: what its rows have in common.
        known: shards that are no news.
    """

    def __init__(self, folder: Path, manifest: Manifest, known: Iterable[Shard]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._known = {shard.path.name for shard in known}

    def __call__(self) -> list[str]:
        """Hex keys."""
        keys: list[str] = []
        for path in list_shards(self._folder):
            if path.name not in self._known:
                self._known.add(path.name)
                with suppress(CacheError):  # what is no shard makes no row; the next job sets it aside
                    keys += [key.tobytes().hex() for key in read_shard(path, self._manifest).keys]
        return keys


class Walk:
    """The order in which one of several processes encodes what is missing.

    It goes forward from its own start. Where it meets what another process has written, that one is at work right
    behind it: it goes on in the middle of the longest stretch that is left, so that it meets it again as late as can
    be. What others are about to write cannot be seen; at most the shard at hand is encoded twice.

    Args:
        keys: of the rows that are missing.
        seat: the number of this process among those at work.
        new_keys: what has been written since it was last asked.
    """

    def __init__(self, keys: Sequence[str], seat: int, new_keys: Callable[[], Iterable[str]]) -> None:
        self._at = {key: index for index, key in enumerate(keys)}
        self._is_written = np.zeros(len(keys), bool)
        self._stretch = np.full(len(keys), -1, np.int32)
        self._next = start_of(seat, len(keys))
        self._num_stretches = 0
        self.skipped = 0
        """Rows that others had written before this process came to them."""
        self._new_keys = new_keys
        self._asked = time.monotonic()

    def __iter__(self) -> Iterator[int]:
        """Indices of keys, each at most once; whether others have written them is looked up as late as can be."""
        while True:
            self._look()
            at = self._next
            if at == len(self._stretch) or self._is_written[at] or self._stretch[at] >= 0:
                left = ~self._is_written & (self._stretch < 0)
                if not left.any():
                    return
                at = middle_of_longest(left)
                self._num_stretches += 1
            self._stretch[at] = self._num_stretches
            self._next = at + 1
            yield at

    def is_written(self, key: str) -> bool:
        """Whether any process has written this row, as far as is known."""
        return bool(self._is_written[self._at[key]])

    def stretch(self, key: str) -> int:
        """The number of times the walk had gone on elsewhere when it came to this row."""
        return int(self._stretch[self._at[key]])

    def _look(self) -> None:
        if time.monotonic() - self._asked < RESCAN_SECONDS:
            return
        self._is_written[[self._at[key] for key in self._new_keys() if key in self._at]] = True
        self.skipped = int((self._is_written & (self._stretch < 0)).sum())
        self._asked = time.monotonic()


def start_of(seat: int, count: int) -> int:
    """Where the process of a seat begins among ``count`` rows: as far from those before it as can be.

    >>> [start_of(seat, 1000) for seat in range(6)]
    [0, 500, 250, 750, 125, 625]
    """
    way, step = 0.0, 0.5
    while seat:
        way += step * (seat & 1)
        seat, step = seat >> 1, step / 2
    return int(way * count)


def middle_of_longest(left: NDArray[np.bool_]) -> int:
    """The middle of the longest run of True.

    >>> middle_of_longest(np.array([1, 0, 1, 1, 1, 0, 1, 1], bool))
    3
    """
    edges = np.flatnonzero(np.diff(left.astype(np.int8), prepend=0, append=0))
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    return int(begins[longest] + ends[longest]) // 2
