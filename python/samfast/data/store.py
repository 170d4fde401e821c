"""Arrays put aside in a file that has no name: the masks of a data set, read back one image at a time."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast.errors import DataError

ALIGNMENT = 8
"""Of every array, in bytes: kernels refuse views that are not aligned to their dtype."""


def _padded(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Place:
    """Where some arrays lie in a :class:`Store`, and what they are."""

    offset: int
    parts: tuple[tuple[str, int], ...]


class Store:
    """An append-only file of one-dimensional arrays, safe to use from threads, gone with the process.

    >>> store = Store()
    >>> place = store.put(np.arange(3), np.zeros(0, np.uint32))
    >>> [array.tolist() for array in store.get(place)]
    [[0, 1, 2], []]
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="samfast-", buffering=0)  # noqa: SIM115 - lives as long as the store
        self._lock = threading.Lock()
        self._end = 0

    def put(self, *arrays: NDArray[Any]) -> Place:
        """Append arrays; what comes back finds them again.

        Raises:
            DataError: the disk that holds temporary files is full.
        """
        data = b"".join(np.ascontiguousarray(array).tobytes().ljust(_padded(array.nbytes), b"\0") for array in arrays)
        with self._lock:
            place = Place(self._end, tuple((sys.intern(array.dtype.str), array.size) for array in arrays))
            try:
                self._file.seek(place.offset)
                written = 0
                while written < len(data):
                    written += self._file.write(data[written:]) or 0
            except OSError as error:
                fix = "free some space, or set TMPDIR to a larger disk"
                raise DataError(f"cannot put masks aside: {error}", where=tempfile.gettempdir(), fix=fix) from None
            self._end += len(data)
        return place

    def get(self, place: Place) -> list[NDArray[Any]]:
        """The arrays put at ``place``, each ``(n,)`` of its dtype."""
        sizes = [_padded(np.dtype(dtype).itemsize * size) for dtype, size in place.parts]
        data = self._read(place.offset, sum(sizes))
        arrays, start = [], 0
        for (dtype, size), length in zip(place.parts, sizes, strict=True):
            arrays.append(np.frombuffer(data, dtype, size, start))
            start += length
        return arrays

    def _read(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):  # leaves the file's position alone, which forked processes share
            return os.pread(self._file.fileno(), length, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)
