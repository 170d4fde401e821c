"""Shards written anew: many small ones as a few full ones, or without the rows that no one uses.

A row is at every moment in an old shard, a new one, or both, and of two the reader takes one: new shards are written
first, then records say that they replace the old ones, then those are removed. Killed in between, a cache is whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samfast.cache.atomic import explained, lock, remove_stale
from samfast.cache.format import CACHE_JSON, SUSPECT_SUFFIX, Manifest, read_manifest
from samfast.cache.handles import ShardFiles
from samfast.cache.plan import INDEX_BYTES, in_bytes, require_room
from samfast.cache.records import forget_datasets, read_views, record_replaced
from samfast.cache.rows import ABSENT, Rows
from samfast.cache.shard import Row, Shard, list_shards, read_shard
from samfast.cache.writer import SHARD_BYTES, ShardWriter
from samfast.data import Dataset, load_dataset
from samfast.errors import CacheError, ConfigError
from samfast.progress import bar, say
from samfast.views import view_key
from samfast.views.recipe import recipe_identity

Live = list[NDArray[np.int64]]
"""For each shard, its rows that count."""


def merge(path: str | Path) -> dict[str, int]:
    """Compact a cache: rows of shards that are less than half full, or that hold rows twice, go into full shards.

    Keeps encoding jobs away while it is at work. Embeddings are copied as they are.

    Args:
        path: of the cache.

    Returns:
        numbers of ``rows`` and ``shards`` it holds now, of ``dropped_rows`` that were there twice, and of
        ``freed_bytes``.

    Raises:
        CacheError: no cache; another process is at work in it; the disk is too small.
        CorruptCacheError: a shard or row is damaged, and named; nothing is removed.
    """
    with _alone(path) as (folder, manifest, shards):
        live = _live(shards, lambda rows: np.ones(len(rows), bool))
        half = SHARD_BYTES // manifest.row_bytes / 2
        chosen = [i for i, shard in enumerate(shards) if len(shard) < half or len(live[i]) < len(shard)]
        if len(chosen) == 1 and len(live[chosen[0]]) == len(shards[chosen[0]]):
            chosen = []  # one small shard that has no other to go with
        return _rewrite(folder, manifest, shards, live, chosen, "merge")


def prune(path: str | Path, data: Sequence[Dataset | str | Path]) -> dict[str, int]:
    """Drop from a cache the rows that no image of the given data sets has, and forget all other data sets.

    Keeps encoding jobs away while it is at work.

    Args:
        path: of the cache.
        data: every data set, or its path, that is to stay. Images that a data set leaves out, such as those with bad
            masks or beyond its ``limit``, are not in use.

    Returns:
        numbers of ``rows`` and ``shards`` it holds now, of ``dropped_rows``, and of ``freed_bytes``.

    Raises:
        CacheError: no cache; another process is at work in it; the disk is too small; nothing would stay.
        CorruptCacheError: a shard or row is damaged, and named; nothing is removed.
        ConfigError: no data set is given.
        DataError: a data set cannot be opened.
    """
    if not data:
        raise ConfigError("no data set is given: nothing would stay", where="data", fix="name those that are in use")
    datasets = [one if isinstance(one, Dataset) else load_dataset(one) for one in data]
    images = {sample.key for dataset in datasets for sample in dataset.samples}
    with _alone(path) as (folder, manifest, shards):
        used = images | _views_of(images, folder)
        live = _live(shards, lambda rows: _among(rows, used))
        if shards and not any(map(len, live)):
            raise CacheError(
                "no row belongs to an image of the data given: nothing would stay",
                where=folder,
                fix="name the data sets that are in use, or remove the folder",
            )
        forget_datasets(folder, keep={str(dataset.root.resolve()) for dataset in datasets})
        chosen = [i for i, shard in enumerate(shards) if len(live[i]) < len(shard)]
        return _rewrite(folder, manifest, shards, live, chosen, "prune")


@contextmanager
def _alone(path: str | Path) -> Iterator[tuple[Path, Manifest, list[Shard]]]:
    """A cache that no other process writes to."""
    folder = Path(path).expanduser()
    manifest = read_manifest(folder)
    with explained(folder), lock(folder / CACHE_JSON, shared=False):
        remove_stale(folder)
        yield folder, manifest, [read_shard(file, manifest) for file in list_shards(folder)]


def _live(shards: Sequence[Shard], choose: Callable[[Rows], NDArray[np.bool_]]) -> Live:
    rows = Rows(shards)
    chosen = np.flatnonzero(choose(rows))
    return [np.sort(rows.row[chosen[rows.shard[chosen] == index]]).astype(np.int64) for index in range(len(shards))]


def _among(rows: Rows, keys: set[str]) -> NDArray[np.bool_]:
    found = rows.find(sorted(keys))
    among = np.zeros(len(rows), bool)
    among[found[found != ABSENT]] = True
    return among


def _views_of(images: set[str], folder: Path) -> set[str]:
    """Keys of all views of these images that a cache may hold."""
    counts: dict[str, int] = {}
    for record in read_views(folder):
        recipe = recipe_identity(record["recipe"])
        counts[recipe] = max(record["views"], counts.get(recipe, 0))
    return {
        view_key(key, recipe, view) for recipe, count in counts.items() for key in images for view in range(1, count)
    }


def _rewrite(
    folder: Path, manifest: Manifest, shards: Sequence[Shard], live: Live, chosen: list[int], verb: str
) -> dict[str, int]:
    """Write the live rows of the chosen shards as new ones, and remove the chosen."""
    copied = sum(len(live[index]) for index in chosen)
    dropped = sum(len(shards[index]) for index in chosen) - copied
    require_room(copied * (manifest.row_bytes + INDEX_BYTES), folder)
    writer = ShardWriter(folder, manifest, shard_seconds=math.inf)
    with writer, bar(verb, copied, unit="rows") as running:
        for index in chosen:
            for row in _rows(shards[index], live[index], manifest):
                writer.add(row)
                running.advance()
    before = sum(shards[index].num_bytes for index in chosen)
    after = sum((folder / shard.name).stat().st_size for shard in writer.written)
    if chosen:
        record_replaced(folder, [shards[index].path.name for index in chosen], writer.written)
    for index in chosen:
        shards[index].path.unlink(missing_ok=True)
        shards[index].path.with_suffix(SUSPECT_SUFFIX).unlink(missing_ok=True)
    result = {
        "rows": sum(map(len, live)),
        "shards": len(shards) - len(chosen) + len(writer.written),
        "dropped_rows": dropped,
        "freed_bytes": before - after,
    }
    say(
        f"{verb} {folder}: {len(chosen)} of {len(shards)} shards became {len(writer.written)},"
        f" {dropped} rows dropped, {in_bytes(max(0, before - after))} freed"
    )
    return result


def _rows(shard: Shard, rows: NDArray[np.int64], manifest: Manifest) -> Iterator[Row]:
    files = ShardFiles([shard], manifest)
    first = np.zeros(1, np.int32)
    for row in rows.tolist():
        features = {name: np.empty((1, *shape), manifest.storage[name]) for name, shape in manifest.features.items()}
        files.read_into(first, np.array([row], np.int32), shard.crcs[[row]], features)
        values = {name: array[0] for name, array in features.items()}
        height, width = shard.sizes[row].tolist()
        key = shard.keys[row].tobytes().hex()
        yield Row(key, shard.names[row], (height, width), shard.matrices[row], values, int(shard.views[row]))
