"""Rows become shards: one buffer is filled while the one before it is written."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from samfast.cache.format import SHARD_SUFFIX, Manifest
from samfast.cache.records import Written
from samfast.cache.shard import Row, write_shard
from samfast.errors import CacheError

SHARD_BYTES = 256 << 20
SHARD_SECONDS = 30.0
"""With a killed process go the shard that is filled and the one that is being written: a minute of work at most."""


class ShardWriter:
    """Collects rows and writes them as shards of :data:`SHARD_BYTES`, or of :data:`SHARD_SECONDS` of work.

    Leaving the ``with`` block writes what is left, also on Ctrl-C and errors.

    Args:
        folder: of the cache.
        manifest: what the rows have in common.
        shard_bytes: features after which a shard is written.
        shard_seconds: time since its first row after which a shard is written.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        shard_bytes: int = SHARD_BYTES,
        shard_seconds: float = SHARD_SECONDS,
    ) -> None:
        self.written: list[Written] = []
        self._folder = folder
        self._manifest = manifest
        self._max_rows = max(1, shard_bytes // manifest.row_bytes)
        self._shard_seconds = shard_seconds
        self._rows: list[Row] = []
        self._started = 0.0
        self._executor = ThreadPoolExecutor(1, "samfast-shard-writer")
        self._pending: Future[Written] | None = None

    def add(self, row: Row) -> None:
        """Take a row.

        Raises:
            CacheError: an earlier shard could not be written.
        """
        if not self._rows:
            self._started = time.monotonic()
        self._rows.append(row)
        if len(self._rows) >= self._max_rows or time.monotonic() - self._started >= self._shard_seconds:
            self.flush()

    def flush(self) -> None:
        """Begin to write what has been taken, as a shard; waits for the one before.

        Raises:
            CacheError: an earlier shard could not be written.
        """
        self._wait()
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        self._pending = self._executor.submit(self._write, rows)

    def finish(self) -> None:
        """Write what has been taken, and wait until it is on the disk.

        Raises:
            CacheError: a shard could not be written.
        """
        self.flush()
        self._wait()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        finally:
            self._executor.shutdown()

    def _wait(self) -> None:
        if self._pending is None:
            return
        try:
            self.written.append(self._pending.result())
        except CacheError:
            self._pending = None
            raise
        self._pending = None  # and not before: Ctrl-C may end the wait, and a later one takes it up again

    def _write(self, rows: list[Row]) -> Written:
        path = self._folder / f"{uuid.uuid4().hex}{SHARD_SUFFIX}"
        return Written(path.name, len(rows), write_shard(path, rows, self._manifest))
