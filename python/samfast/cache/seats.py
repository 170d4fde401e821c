"""Who encodes into a cache: every process holds a seat, and says in its file which rows it has at hand."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from samfast.cache.atomic import read_held, try_lock
from samfast.cache.rows import KEY_BYTES


class Seat:
    """A number that no other process holds in a folder.

    Args:
        path: of its file.
        number: of the seat.
        descriptor: of its file, locked; None where the file system has no locks, and no one knows of another.
    """

    def __init__(self, path: Path, number: int, descriptor: int | None) -> None:
        self.number = number
        self._path = path
        self._descriptor = descriptor
        self._num_bytes = 0

    def claim(self, keys: Sequence[str], *, instead: bool = False) -> None:
        """Say that this process has rows at hand: in addition to those it has said, or ``instead`` of them."""
        if self._descriptor is None:
            return
        content = bytes.fromhex("".join(keys))
        at = 0 if instead else self._num_bytes
        os.pwrite(self._descriptor, content, at)
        self._num_bytes = at + len(content)
        os.ftruncate(self._descriptor, self._num_bytes)

    def others(self) -> set[str]:
        """The rows that other processes have at hand, of those that are alive."""
        if self._descriptor is None:
            return set()
        keys: set[str] = set()
        for path in self._path.parent.glob(".*.tmp"):
            if path != self._path and path.name.split(".")[1].isdigit():
                content = read_held(path) or b""
                whole = range(0, len(content) - KEY_BYTES + 1, KEY_BYTES)
                keys.update(content[start : start + KEY_BYTES].hex() for start in whole)
        return keys


@contextmanager
def take_seat(folder: Path) -> Iterator[Seat]:
    """Hold the smallest number from 0 on that is free in ``folder`` while the block runs; a random one without locks.

    The file is that of a temporary: that of a process which is gone is removed like any other.
    """
    number, descriptor = -1, None
    try:
        while descriptor is None:
            number += 1
            descriptor = try_lock(_path(folder, number))
    except OSError:
        number = random.getrandbits(16)
    try:
        yield Seat(_path(folder, number), number, descriptor)
    finally:
        if descriptor is not None:
            _path(folder, number).unlink(missing_ok=True)
            os.close(descriptor)


def _path(folder: Path, number: int) -> Path:
    return folder / f".{number}.tmp"
