"""Which row lies where: the indices of all shards of a cache, merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samfast.cache.shard import Shard
from samfast.errors import CacheError

KEY_BYTES = 32
ABSENT = -1


class Rows:
    """The rows of several shards, one a key, about 140 bytes of memory each.

    Of two rows with one key the one in the shard of the smaller name counts, so that all readers agree.

    Attributes:
        shard: ``(N,)`` int32, the position of each row's shard in the sequence this was made of.
        row: ``(N,)`` int32, the row in the shard.
        crc: ``(N,)`` uint32 CRC-32C of the row's features.
        view: ``(N,)`` int32, which view of its image each row is.
        size: ``(N, 2)`` int32 (height, width), view frame.
        matrix: ``(N, 3, 3)`` float64, original frame to model frame.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        by_name = sorted(range(len(shards)), key=lambda index: shards[index].path.name)
        counts = [len(shards[index]) for index in by_name]
        keys = _joined([_as_strings(shards[index].keys) for index in by_name], f"S{KEY_BYTES}")
        # Byte strings lose trailing zeros, which makes no difference between strings of one length.
        self._keys, first = np.unique(keys, return_index=True)
        self.shard = np.repeat(np.array(by_name, np.int32), counts)[first]
        self.row = _joined([np.arange(count, dtype=np.int32) for count in counts], "i4")[first]
        self.crc = _joined([shards[index].crcs for index in by_name], "u4")[first]
        self.view = _joined([shards[index].views for index in by_name], "i4")[first]
        self.size = _joined([shards[index].sizes for index in by_name], "i4").reshape(-1, 2)[first]
        self.matrix = _joined([shards[index].matrices for index in by_name], "f8").reshape(-1, 3, 3)[first]
        self.num_duplicates = len(keys) - len(first)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> list[str]:
        """Hex keys, sorted."""
        return [key.ljust(KEY_BYTES, b"\0").hex() for key in self._keys.tolist()]

    def find(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """``(n,)`` int64 positions of hex ``keys`` among these rows, -1 where there is none.

        Raises:
            CacheError: one is not a key at all.
        """
        wanted = _as_strings(np.frombuffer(b"".join(map(_key_bytes, keys)), np.uint8))
        at = np.searchsorted(self._keys, wanted)
        found = np.zeros(len(at), bool)
        inside = at < len(self._keys)
        found[inside] = self._keys[at[inside]] == wanted[inside]
        return np.where(found, at, ABSENT)


def _key_bytes(key: str) -> bytes:
    try:
        data = bytes.fromhex(key)
    except ValueError:
        data = b""
    if len(data) != KEY_BYTES:
        raise CacheError(f"{key!r} is no row key: one has {2 * KEY_BYTES} hex digits", where="keys")
    return data


def _as_strings(keys: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    return np.ascontiguousarray(keys).reshape(-1).view(f"S{KEY_BYTES}")


def _joined(arrays: Sequence[NDArray], dtype: str) -> NDArray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)
