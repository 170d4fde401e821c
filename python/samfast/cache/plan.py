"""What an encoding job has to do, said to the person who waits before it begins, and whether the disk can take it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samfast.cache.format import Manifest
from samfast.cache.records import dataset_id, lost_shards, read_jobs
from samfast.cache.rows import ABSENT, Rows
from samfast.cache.shard import Shard
from samfast.cache.store import existing_shards
from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.errors import CacheError
from samfast.progress import say
from samfast.views import Views, ViewSample

INDEX_BYTES = 256
"""Of a row's place in the index, generously."""


@dataclass(frozen=True)
class Plan:
    """What is to be encoded.

    Attributes:
        samples: views of image file contents that are not in the cache.
        present: views that are.
        lost: shards of earlier jobs on this data set that are gone.
        shards: that are there.
    """

    samples: tuple[ViewSample, ...]
    present: int
    lost: tuple[str, ...]
    shards: tuple[Shard, ...]


def make_plan(dataset: Dataset, views: Views, folder: Path, manifest: Manifest) -> Plan:
    """Look what is missing, and say it.

    Raises:
        CacheError: the disk is too small.
        StaleCacheError, OutputExistsError: as :func:`~samfast.cache.store.existing_shards`.
    """
    shards = existing_shards(folder, manifest)
    unique: dict[str, Sample] = {}
    for sample in dataset.samples:
        unique.setdefault(sample.key, sample)
    samples = views.samples(unique.values())
    found = Rows(shards).find([sample.key for sample in samples])
    todo = tuple(sample for sample, row in zip(samples, found, strict=True) if row == ABSENT)
    lost = lost_shards(read_jobs(folder), {shard.path.name for shard in shards}, dataset=dataset_id(opened(dataset)))

    needed = len(todo) * (manifest.row_bytes + INDEX_BYTES)
    free = free_bytes(folder)
    twins = len(dataset.samples) - len(unique)
    say(f"cache {folder}: {len(dataset.samples)} images" + (f", {twins} of them identical to another" if twins else ""))
    if lost:
        say(f"  shards of earlier jobs that are gone: {len(lost)}; their images are encoded again")
    if views.count > 1:
        say(f"  {views.count} views of each, {views.recipe.name}: {views.count} times the time and the disk of one")
    if len(todo) < len(samples):
        say(f"  {len(samples) - len(todo)} are there already")
    if todo:
        say(f"  {len(todo)} to encode: {in_bytes(needed)} on disk, {in_bytes(free)} free")
    require_room(needed, folder)
    return Plan(todo, len(samples) - len(todo), tuple(lost), tuple(shards))


def require_room(needed: int, folder: Path) -> None:
    """Check that ``needed`` bytes fit on the disk of ``folder``, which need not be there yet.

    Raises:
        CacheError: they do not.
    """
    free = free_bytes(folder)
    if needed > free:
        raise CacheError(
            f"the disk is too small: the embeddings take {in_bytes(needed)}, {in_bytes(free)} are free",
            where=folder,
            fix="make room, or use a folder on a larger disk",
        )


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free


def opened(dataset: Dataset) -> dict[str, Any]:
    """How a data set was opened."""
    return {
        "root": str(dataset.root.resolve()),
        "layout": dataset.layout,
        "options": dict(dataset.options),
        "split_origin": dataset.split_origin,
        "target": dataset.target_kind,
    }


def in_bytes(count: int) -> str:
    """A number of bytes for people.

    >>> in_bytes(2_621_440)
    '2.6 MB'
    """
    unit, name = (1e9, "GB") if count >= 1e9 else (1e6, "MB") if count >= 1e6 else (1e3, "kB")
    return f"{count / unit:.1f} {name}"


def in_time(seconds: float) -> str:
    """A duration for people.

    >>> in_time(95), in_time(600)
    ('95.0 s', '10 min')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
