"""Whether the bytes of a cache are those that were written: shard by shard, row by row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from samfast.cache.format import Features, Manifest
from samfast.cache.handles import FileHandles
from samfast.cache.records import lost_shards, read_jobs
from samfast.cache.shard import SET_ASIDE_FIX, Shard, as_bytes, list_shards, mark_suspect, read_shard, row_crc
from samfast.errors import CacheError, CorruptCacheError
from samfast.progress import bar

_MOST_LISTED = 20


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


def damaged_rows(shard: Shard, manifest: Manifest, *, advance: Callable[[], None] | None = None) -> list[int]:
    """Rows of a shard whose features are not those that were written."""
    features = empty_row(manifest)
    files = FileHandles()
    damaged = []
    for row in range(len(shard)):
        if not read_row(files, shard, row, features):
            damaged.append(row)
        if advance is not None:
            advance()
    return damaged


def empty_row(manifest: Manifest) -> Features:
    """Room for the features of one row."""
    return {name: np.empty(shape, manifest.storage[name]) for name, shape in manifest.features.items()}


def read_row(files: FileHandles, shard: Shard, row: int, features: Features) -> bool:
    """Fill ``features`` with those of a row; whether they are what was written."""
    for name, array in features.items():
        try:
            if files.read_into(shard.path, shard.offsets[name] + row * array.nbytes, as_bytes(array)) < array.nbytes:
                return False
        except OSError:
            return False
    return row_crc(features) == int(shard.crcs[row])


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
