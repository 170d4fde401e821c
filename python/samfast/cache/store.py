"""A cache's folder made ready for new rows: created if need be, cleared of dead temporaries and damaged shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from samfast.cache.atomic import lock, remove_stale, write_exclusive
from samfast.cache.base import load_decoder, save_decoder
from samfast.cache.check import damaged_rows
from samfast.cache.format import (
    CACHE_JSON,
    DATASETS,
    JOBS,
    SET_ASIDE,
    SUSPECT_SUFFIX,
    VIEWS,
    Manifest,
    read_manifest,
)
from samfast.cache.shard import Shard, list_shards, read_shard
from samfast.errors import CacheError, CorruptCacheError, OutputExistsError
from samfast.models.sam import Sam
from samfast.progress import say


def existing_shards(folder: Path, manifest: Manifest) -> list[Shard]:
    """The usable shards of the cache in ``folder``, none if there is no cache yet.

    Shards that are truncated, damaged or of another cache are moved to ``set-aside/``, and so are those that a reader
    found damaged.

    Raises:
        StaleCacheError: the cache was made by another model, or in another way, than ``manifest`` says.
        OutputExistsError: the folder holds something else, or is a file.
    """
    if not (folder / CACHE_JSON).exists():
        _require_free(folder)
        return []
    read_manifest(folder).require_equal(manifest, where=folder)
    for place in (folder, folder / DATASETS, folder / JOBS, folder / VIEWS):
        remove_stale(place)
    shards = []
    for path in list_shards(folder):
        try:
            shard = read_shard(path, manifest)
        except CorruptCacheError as error:
            _set_aside(path, error.what)
            continue
        if path.with_suffix(SUSPECT_SUFFIX).exists():
            damaged = damaged_rows(shard, manifest)
            if damaged:
                _set_aside(path, f"{len(damaged)} of its {len(shard)} rows are damaged")
                continue
            path.with_suffix(SUSPECT_SUFFIX).unlink(missing_ok=True)
        shards.append(shard)
    return shards


def create_cache(folder: Path, manifest: Manifest, sam: Sam) -> None:
    """Write ``cache.json`` and the decoder, unless they are there.

    Raises:
        StaleCacheError: another process has made a cache of another kind here meanwhile.
        CacheError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"the folder cannot be made: {error.strerror}", where=folder, fix="give another out="
        ) from None
    if not write_exclusive(folder / CACHE_JSON, [manifest.to_json()]):
        read_manifest(folder).require_equal(manifest, where=folder)
    try:
        load_decoder(folder, manifest)
    except CorruptCacheError:
        save_decoder(folder, sam)


@contextmanager
def sharing(folder: Path) -> Iterator[None]:
    """Keep ``merge`` and ``prune`` away from a cache while the block runs; nothing if there is no cache yet.

    Raises:
        CacheError: one of them is at work.
    """
    path = folder / CACHE_JSON
    with lock(path, shared=True) if path.exists() else nullcontext():
        yield


def _require_free(folder: Path) -> None:
    """Raise unless ``folder`` is not there, empty, or one in which a process makes or has tried to make a cache."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputExistsError(
            "the cache is to be a folder, and this is a file", where=folder, fix="give another out="
        )
    remove_stale(folder)
    others = sorted(entry.name for entry in os.scandir(folder) if not entry.name.endswith(".tmp"))
    if others and CACHE_JSON not in others:
        raise OutputExistsError(
            f"the folder holds something else than a cache: {', '.join(others[:3])}",
            where=folder,
            fix="give another out=",
        )


def _set_aside(path: Path, reason: str) -> None:
    place = path.parent / SET_ASIDE
    place.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):  # another job that begins has done it
        os.replace(path, place / path.name)
    path.with_suffix(SUSPECT_SUFFIX).unlink(missing_ok=True)
    say(f"set aside {path.name}: {reason}. Its images are encoded again; {place} may be removed.")
