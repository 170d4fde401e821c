"""The shards of a cache as they were when they were listed: which row lies where, and the files to read it from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast.cache.format import Features, Manifest
from samfast.cache.handles import ShardFiles
from samfast.cache.rows import Rows
from samfast.cache.shard import Shard, list_shards, read_shard
from samfast.errors import CacheError

MOST_LOOKS = 3
"""Times that the shards are listed, where one is gone before its index is read."""


class Index:
    """Rows of some shards, checked when they are first read.

    Attributes:
        rows: of all shards.
        files: of the shards.
        num_bytes: of all shards.
    """

    def __init__(self, shards: Sequence[Shard], manifest: Manifest) -> None:
        self.rows = Rows(shards)
        self.files = ShardFiles(shards, manifest)
        self.num_bytes = sum(shard.num_bytes for shard in shards)
        self._is_checked = np.zeros(len(self.rows), bool)

    @classmethod
    def listed(cls, folder: Path, manifest: Manifest) -> Index:
        """That of the shards which are in a folder now; what ``merge`` removes meanwhile is found in its new place.

        Raises:
            CacheError: a shard cannot be read.
            CorruptCacheError: a shard is truncated, damaged or of another cache; the message names it.
        """
        for look in range(MOST_LOOKS):
            try:
                shards = [read_shard(path, manifest) for path in list_shards(folder)]
                break
            except CacheError as error:
                if look == MOST_LOOKS - 1 or not is_of_a_file_gone(error):
                    raise
        return cls(shards, manifest)

    def read_into(self, rows: NDArray[np.int64], out: Features) -> None:
        """Fill ``out`` with ``(n,)`` rows.

        Raises:
            CacheError, CorruptCacheError: as :meth:`~samfast.cache.handles.ShardFiles.read_into`.
        """
        places = self.rows.shard[rows], self.rows.row[rows], self.rows.crc[rows]
        self.files.read_into(*places, out, check=~self._is_checked[rows])
        self._is_checked[rows] = True


def is_of_a_file_gone(error: CacheError) -> bool:
    """Whether an error names a file that is not there any more."""
    return error.where is not None and not os.path.lexists(error.where)
