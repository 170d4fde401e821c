"""Whether the bytes of a cache are those that were written: shard by shard, row by row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from samfast.cache.format import Manifest
from samfast.cache.handles import ShardFiles
from samfast.cache.records import lost_shards, read_jobs
from samfast.cache.shard import SET_ASIDE_FIX, Shard, list_shards, mark_suspect, read_shard
from samfast.errors import CacheError, CorruptCacheError
from samfast.progress import bar

_MOST_LISTED = 20
_ROWS_AT_ONCE = 32


def verify_cache(folder: Path, manifest: Manifest) -> dict[str, int]:
    """Read every byte of a cache and compare it with what was written; what :meth:`EmbeddingCache.verify` does."""
    from samfast.cache.base import load_decoder

    problems: list[str] = []
    shards: list[Shard] = []
    paths = list_shards(folder)
    for path in paths:
        _collect(problems, partial(_append, shards, path, manifest))
    _collect(problems, lambda: load_decoder(folder, manifest))
    _collect(problems, lambda: _compare_with_jobs(folder, shards, {path.name for path in paths}, problems))

    with bar("verify", sum(map(len, shards)), unit="rows") as running:
        for shard in shards:
            damaged = damaged_rows(shard, manifest, advance=running.advance)
            if damaged:
                mark_suspect(shard.path)
                first = f"row {damaged[0]} ({shard.names[damaged[0]]})"
                problems.append(
                    f"{shard.path.name}: {len(damaged)} of {len(shard)} rows are damaged, the first is {first}"
                )
    if problems:
        hidden = len(problems) - _MOST_LISTED
        listed = problems[:_MOST_LISTED] + ([f"and {hidden} more"] if hidden > 0 else [])
        raise CorruptCacheError("the cache is damaged:\n    " + "\n    ".join(listed), where=folder, fix=SET_ASIDE_FIX)
    return {
        "rows": sum(map(len, shards)),
        "shards": len(shards),
        "bytes": sum(shard.num_bytes for shard in shards),
    }


def damaged_rows(shard: Shard, manifest: Manifest, *, advance: Callable[[int], None] | None = None) -> list[int]:
    """Rows of a shard whose features are not those that were written."""
    reader = ShardFiles([shard], manifest).reader
    damaged: list[int] = []
    for start in range(0, len(shard), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(shard)), dtype=np.int32)
        found = reader.damaged(np.zeros_like(rows), rows, np.ascontiguousarray(shard.crcs[rows]))
        damaged += rows[found].tolist()
        if advance is not None:
            advance(len(rows))
    return damaged


def _compare_with_jobs(folder: Path, shards: list[Shard], present: set[str], problems: list[str]) -> None:
    jobs = read_jobs(folder)
    problems += [f"{name}: written by an earlier job, and gone" for name in lost_shards(jobs, present)]
    crcs = {shard.path.name: shard.header_crc for shard in shards}
    problems += [
        f"{shard.name}: not the file that its job wrote"
        for job in jobs
        for shard in job.shards
        if shard.name in crcs and crcs[shard.name] != shard.header_crc32c
    ]


def _append(shards: list[Shard], path: Path, manifest: Manifest) -> None:
    shards.append(read_shard(path, manifest))


def _collect(problems: list[str], step: Callable[[], object]) -> None:
    try:
        step()
    except CacheError as error:
        name = Path(error.where).name if error.where else "cache"
        problems.append(f"{name}: {error.what}")
