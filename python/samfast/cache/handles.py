"""A bounded number of open files, read at positions, by several threads and after a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_OPEN_FILES = 64


class FileHandles:
    """Opens files when they are first read and closes the one unused for longest when there are too many.

    A descriptor has no position of its own here, so it may be shared by threads and by the processes of a fork.

    Args:
        limit: open files kept; more are open only while more threads than this read at once.
    """

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        self._limit = limit
        self._open: dict[Path, list[int]] = {}  # [descriptor, readers], the one unused for longest first
        self._start_process()

    def _start_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        for handle in self._open.values():
            handle[1] = 0

    def read_into(self, path: Path, offset: int, out: memoryview) -> int:
        """Fill ``out`` with the bytes of ``path`` from ``offset``; how many there were.

        Raises:
            OSError: the file cannot be opened or read.
        """
        if not hasattr(os, "preadv"):  # Windows
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                return _fill(out, lambda rest, _: file.readinto(rest) or 0)
        with self._borrow(path) as descriptor:
            return _fill(out, lambda rest, done: os.preadv(descriptor, [rest], offset + done))

    def close(self) -> None:
        """Close all files that are not being read."""
        with self._lock:
            self._shrink(0)

    @contextmanager
    def _borrow(self, path: Path) -> Iterator[int]:
        if os.getpid() != self._pid:  # after a fork: the lock may be held, and rows be read, by threads left behind
            self._start_process()
        with self._lock:
            handle = self._open.pop(path, None) or [os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)), 0]
            self._open[path] = handle
            handle[1] += 1
            self._shrink(self._limit)
        try:
            yield handle[0]
        finally:
            with self._lock:
                handle[1] -= 1

    def _shrink(self, limit: int) -> None:
        for path in [path for path, (_, readers) in self._open.items() if not readers]:
            if len(self._open) <= limit:
                break
            os.close(self._open.pop(path)[0])

    def __del__(self) -> None:
        for descriptor, _ in getattr(self, "_open", {}).values():
            os.close(descriptor)


def _fill(out: memoryview, read: Callable[[memoryview, int], int]) -> int:
    done = 0
    while done < len(out):
        count = read(out[done:], done)
        if count == 0:
            break
        done += count
    return done
