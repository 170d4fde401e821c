"""The files of some shards: a bounded number of them open, read by several threads, opened anew after a fork."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast._rust import RowError, ShardReader
from samfast.cache.format import Features, Manifest
from samfast.cache.shard import SET_ASIDE_FIX, Shard, mark_suspect, read_shard
from samfast.errors import CacheError, CorruptCacheError

MAX_OPEN_FILES = 64


class ShardFiles:
    """Reads the rows of shards, all features of a row together, in name order as their CRC is made.

    Args:
        shards: whose rows are read; a shard's number is its place here.
        manifest: of their cache.
        limit: files kept open; more are open only while more threads than this read at once.

    Attributes:
        paths: of the shards.
    """

    def __init__(self, shards: Sequence[Shard], manifest: Manifest, *, limit: int = MAX_OPEN_FILES) -> None:
        self.paths = [shard.path for shard in shards]
        self._manifest = manifest
        self._limit = limit
        self._features = sorted(manifest.features)
        sizes = {name: np.dtype(manifest.storage[name]).itemsize for name in self._features}
        self._row_bytes = [math.prod(manifest.features[name]) * sizes[name] for name in self._features]
        offsets = [[shard.offsets[name] for shard in shards] for name in self._features]
        self._offsets = np.array(offsets, np.int64).reshape(len(self._features), len(shards))
        self._open()

    def _open(self) -> None:
        self._reader = ShardReader(self.paths, self._offsets, self._row_bytes, self._limit)
        self._pid = os.getpid()

    @property
    def reader(self) -> ShardReader:
        """The reader of this process: that of a parent may be locked by a thread which the fork left behind."""
        if os.getpid() != self._pid:
            self._open()
        return self._reader

    def read_into(
        self,
        shard: NDArray[np.int32],
        row: NDArray[np.int32],
        crc: NDArray[np.uint32],
        out: Features,
        *,
        check: NDArray[np.bool_] | None = None,
    ) -> None:
        """Fill ``out`` with rows.

        Args:
            shard: ``(n,)`` int32 numbers of their shards.
            row: ``(n,)`` int32 places in them.
            crc: ``(n,)`` uint32 CRC-32C of their features.
            out: feature name to ``(n, ...)`` array, C-contiguous: of the dtype on disk, or float32 for float16.
            check: ``(n,)`` bool: which rows to check; None for all.

        Raises:
            CacheError: a shard cannot be read.
            CorruptCacheError: a row is not what was written.
        """
        buffers = []
        for name in self._features:
            values = out[name].reshape(-1)
            buffers.append(values.view(np.uint8) if values.dtype == self._manifest.storage[name] else values)
        try:
            self.reader.read_into(shard, row, crc, np.ones(len(row), bool) if check is None else check, buffers)
        except RowError as error:
            item, reason, is_system = error.args
            path = self.paths[shard[item]]
            if is_system:
                raise CacheError(f"a shard cannot be read: {reason}", where=path, fix=SET_ASIDE_FIX) from None
            raise self._corrupt(path, int(row[item]), reason) from None

    def close(self) -> None:
        """Close all files that are not being read; they open again when they are."""
        self.reader.close()

    def _corrupt(self, path: Path, row: int, reason: str) -> CorruptCacheError:
        try:
            name = f" ({read_shard(path, self._manifest).names[row]})"
        except CacheError:
            name = ""
        mark_suspect(path)
        return CorruptCacheError(f"row {row}{name} of shard {path.name} is {reason}", where=path, fix=SET_ASIDE_FIX)
