"""Several processes on one cache: where each begins, what the others have made meanwhile, and where to go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast.cache.format import Manifest
from samfast.cache.seats import Seat
from samfast.cache.shard import Shard, list_shards, read_shard
from samfast.errors import CacheError
from samfast.progress import say

RESCAN_SECONDS = 1.0
PATIENCE_SECONDS = 300.0
"""After which rows that another process has at hand, and does not write, are encoded here."""


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

    It goes forward from its own start. Where it meets what another process has written or has at hand, it goes on in
    the middle of the longest stretch that is left, so that it meets the one at work there as late as can be.

    Args:
        keys: of the rows that are missing.
        seat: of this process.
        new_keys: what has been written since it was last asked.

    Attributes:
        skipped: rows that others had written before this process came to them.
    """

    def __init__(self, keys: Sequence[str], seat: Seat, new_keys: Callable[[], Iterable[str]]) -> None:
        self.skipped = 0
        self._keys = keys
        self._at = {key: index for index, key in enumerate(keys)}
        self._is_written = np.zeros(len(keys), bool)
        self._is_elsewhere = np.zeros(len(keys), bool)
        self._is_bad = np.zeros(len(keys), bool)
        self._stretch = np.full(len(keys), -1, np.int32)
        self._next = start_of(seat.number, len(keys))
        self._num_stretches = 0
        self._seat = seat
        self._new_keys = new_keys
        self._looked = -math.inf
        self._trusts_others = True

    def __iter__(self) -> Iterator[int]:
        """Indices of keys, each at most once, until all are done or at hand elsewhere; may be iterated again then."""
        while True:
            if time.monotonic() - self._looked >= RESCAN_SECONDS:
                self._look()
            at = self._next
            if at == len(self._keys) or not self._left(slice(at, at + 1)).any():
                self._look()
                if not self._left().any():
                    return
                at = middle_of_longest(self._left())
                self._num_stretches += 1
            self._stretch[at] = self._num_stretches
            self._next = at + 1
            self._seat.claim([self._keys[at]])
            yield at

    def is_written(self, key: str) -> bool:
        """Whether any process has written this row, as far as is known."""
        return bool(self._is_written[self._at[key]])

    def stretch(self, key: str) -> int:
        """The number of times the walk had gone on elsewhere when it came to this row."""
        return int(self._stretch[self._at[key]])

    def give_up(self, key: str) -> None:
        """Nothing will come of this row: others are not to wait for it."""
        self._is_bad[self._at[key]] = True

    def wait(self) -> bool:
        """Wait until others have written what they have at hand, or are gone; whether there is more to do here.

        What this process has at hand is to be written before: others may wait for that.
        """
        self._look()
        since, before = time.monotonic(), -1
        while not self._left().any():
            at_hand = int((~self._is_written & self._is_elsewhere & (self._stretch < 0)).sum())
            if not at_hand:
                return False
            if before < 0:
                say(f"  waiting for {at_hand} rows that other processes have at hand")
            if at_hand != before:
                since, before = time.monotonic(), at_hand
            # A process that is alive and does nothing, as one that was suspended.
            self._trusts_others = time.monotonic() - since < PATIENCE_SECONDS
            time.sleep(RESCAN_SECONDS)
            self._look()
        return True

    def _left(self, part: slice = slice(None)) -> NDArray[np.bool_]:
        is_mine = self._stretch[part] >= 0
        left: NDArray[np.bool_] = ~(self._is_written[part] | self._is_elsewhere[part] | is_mine)
        return left

    def _look(self) -> None:
        """See what has been written and what others have at hand, and say what this process has."""
        self._is_written[self._known(self._new_keys())] = True
        self._is_elsewhere[:] = False
        if self._trusts_others:
            self._is_elsewhere[self._known(self._seat.others())] = True
        self.skipped = int((self._is_written & (self._stretch < 0)).sum())
        mine = (self._stretch >= 0) & ~self._is_written & ~self._is_bad
        self._seat.claim([self._keys[at] for at in np.flatnonzero(mine).tolist()], instead=True)
        self._looked = time.monotonic()

    def _known(self, keys: Iterable[str]) -> list[int]:
        return [self._at[key] for key in keys if key in self._at]


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
