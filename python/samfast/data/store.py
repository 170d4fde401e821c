"""Arrays put aside in a file that has no name: the masks of a data set, read back one image at a time."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast.errors import DataError

ALIGNMENT = 8
"""Of every array, in bytes: kernels refuse views that are not aligned to their dtype."""
LENGTH = 8
"""Bytes that say how long a record is."""


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")


Place = int
"""Where some arrays lie in a :class:`Store`. What they are is written there too: a data set has many places."""


class Store:
    """An append-only file of one-dimensional arrays, safe to use from threads, gone with the process.

    Pickled, it takes all it holds along: another process gets a file of its own.

    >>> store = Store()
    >>> place = store.put(np.arange(3), np.zeros(0, np.uint32))
    >>> [array.tolist() for array in store.get(place)]
    [[0, 1, 2], []]
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="samfast-", buffering=0)  # noqa: SIM115 - lives as long as the store
        self._lock = threading.Lock()
        self._end = 0

    def __getstate__(self) -> bytes:
        return self._read(0, self._end)

    def __setstate__(self, content: bytes) -> None:
        Store.__init__(self)
        self._end = self._file.write(content)

    def put(self, *arrays: NDArray[Any]) -> Place:
        """Append arrays; what comes back finds them again.

        Raises:
            DataError: the disk that holds temporary files is full.
        """
        head = np.array(
            [len(arrays), *(number for one in arrays for number in (ord(one.dtype.char), one.size))], np.int64
        )
        record = b"".join(_padded(np.ascontiguousarray(array).tobytes()) for array in (head, *arrays))
        data = len(record).to_bytes(LENGTH, "little") + record
        with self._lock:
            place = self._end
            try:
                self._file.seek(place)
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
        length = int.from_bytes(self._read(place, LENGTH), "little")
        data = self._read(place + LENGTH, length)
        numbers = np.frombuffer(data, np.int64, 1 + 2 * int.from_bytes(data[:8], sys.byteorder)).tolist()
        arrays, start = [], 8 * len(numbers)
        for kind, size in zip(numbers[1::2], numbers[2::2], strict=True):
            array = np.frombuffer(data, np.dtype(chr(kind)), size, start)
            arrays.append(array)
            start += _aligned(array.nbytes)
        return arrays

    def _read(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):  # leaves the file's position alone, which forked processes share
            return os.pread(self._file.fileno(), length, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)
