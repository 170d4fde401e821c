"""merge and prune: the same embeddings in fewer bytes, and never fewer embeddings than are in use."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samfast import cache_embeddings, load_dataset, merge, prune
from samfast.cache import EmbeddingCache, atomic, compact, index, plan
from samfast.cache.atomic import lock
from samfast.cache.shard import Row, list_shards, read_shard
from samfast.cache.writer import ShardWriter
from samfast.errors import CacheError, ConfigError, CorruptCacheError


@pytest.fixture
def cache(photos: Callable, small: Any, tmp_path: Path, shards_of: Callable) -> EmbeddingCache:
    """Seven rows in four shards."""
    shards_of(2)
    return cache_embeddings(photos(7), model=small, out=tmp_path / "c")


def opened(cache: EmbeddingCache) -> EmbeddingCache:
    again = EmbeddingCache.open(cache.path)
    again.verify()
    return again


def test_many_small_shards_become_one(cache: EmbeddingCache, contents: Callable) -> None:
    before = contents(cache)
    assert merge(cache.path) | {"freed_bytes": 0} == {"rows": 7, "shards": 1, "dropped_rows": 0, "freed_bytes": 0}
    assert contents(opened(cache)) == before
    assert opened(cache).info()["shards"] == 1


def test_a_reader_goes_on_through_a_merge(cache: EmbeddingCache, contents: Callable) -> None:
    """Of a batch some rows were read before, some were not: what is not open any more is found where it is now."""
    before = contents(opened(cache))
    reader = EmbeddingCache.open(cache.path)
    reader.read(reader.keys[:2])
    merge(cache.path)
    assert contents(reader) == before
    assert reader.info()["shards"] == 1


def test_an_epoch_goes_on_through_a_merge(cache: EmbeddingCache, contents: Callable) -> None:
    before = contents(opened(cache))
    reader, seen = EmbeddingCache.open(cache.path), {}
    for step, (keys, features) in enumerate(reader.loader(reader.keys, 1, epoch=1)):
        if step == 0:
            merge(cache.path)
            reader.close()
        seen[keys[0]] = features["image_embeddings"][0].tobytes()
    assert seen == before


def test_a_row_that_was_pruned_is_missed_by_its_reader(cache: EmbeddingCache, tmp_path: Path) -> None:
    reader = EmbeddingCache.open(cache.path)
    gone = load_dataset(tmp_path / "photos").samples[2]
    gone.path.unlink()
    (tmp_path / "photos" / "masks" / gone.path.name).unlink()
    prune(cache.path, [tmp_path / "photos"])
    with pytest.raises(CacheError, match="No such file") as caught:
        reader.read(reader.keys)
    assert Path(caught.value.where).parent == cache.path
    assert len(reader.read([key for key in reader.keys if key != gone.key])["image_embeddings"]) == 6


def test_a_cache_is_opened_while_a_merge_removes_shards(
    cache: EmbeddingCache, contents: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing the shards and reading them: once, and with a folder that lists what it does not have."""
    before, old = contents(cache), list_shards(cache.path)
    merge(cache.path)
    lists = [old]
    monkeypatch.setattr(index, "list_shards", lambda folder: lists.pop() if lists else list_shards(folder))
    assert contents(EmbeddingCache.open(cache.path)) == before
    monkeypatch.setattr(index, "list_shards", lambda folder: old)
    with pytest.raises(CacheError, match="No such file"):
        EmbeddingCache.open(cache.path)


def test_what_is_compact_is_left_alone(cache: EmbeddingCache) -> None:
    merge(cache.path)
    before = sorted(cache.path.rglob("*"))
    assert merge(cache.path)["freed_bytes"] == 0
    assert sorted(cache.path.rglob("*")) == before


def test_full_shards_stay_and_small_ones_join(
    cache: EmbeddingCache, contents: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for four rows a shard, those of two are half full, and the one of one row has no other to join."""
    monkeypatch.setattr(compact, "SHARD_BYTES", 4 * cache.manifest.row_bytes)
    names = [path.name for path in list_shards(cache.path)]
    merge(cache.path)
    assert [path.name for path in list_shards(cache.path)] == names
    monkeypatch.setattr(compact, "SHARD_BYTES", 5 * cache.manifest.row_bytes)
    merge(cache.path)
    assert not {path.name for path in list_shards(cache.path)} & set(names)


def test_rows_that_are_there_twice_are_merged(
    cache: EmbeddingCache, contents: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "SHARD_BYTES", 2 * cache.manifest.row_bytes)
    before = contents(cache)
    whole = max(list_shards(cache.path), key=lambda path: path.stat().st_size)
    shutil.copy(whole, cache.path / "00.safetensors")
    done = merge(cache.path)
    assert done["dropped_rows"] == 2
    assert contents(opened(cache)) == before


def test_rows_of_no_data_set_are_dropped(
    cache: EmbeddingCache, photos: Callable, small: Any, contents: Callable, encoded: SimpleNamespace, tmp_path: Path
) -> None:
    kept = contents(cache)
    other = photos(3, "other")
    cache_embeddings(other, model=small, out=cache.path)
    both = contents(opened(cache))
    assert len(both) == 10
    assert prune(cache.path, [tmp_path / "photos", load_dataset(other)])["dropped_rows"] == 0
    assert contents(opened(cache)) == both

    done = prune(cache.path, [tmp_path / "photos"])
    assert (done["rows"], done["dropped_rows"]) == (7, 3)
    assert done["freed_bytes"] > 3 * cache.manifest.row_bytes
    assert contents(opened(cache)) == kept
    assert opened(cache).info()["datasets"] == [str((tmp_path / "photos").resolve())]

    encoded.images = 0
    cache_embeddings(other, model=small, out=cache.path)
    assert encoded.images == 3
    assert contents(opened(cache)) == both


def test_an_image_that_left_its_data_set_is_pruned(cache: EmbeddingCache, tmp_path: Path) -> None:
    """Two rows lie in a shard; the other row of the shard is written anew."""
    gone = load_dataset(tmp_path / "photos").samples[2]
    gone.path.unlink()
    (tmp_path / "photos" / "masks" / gone.path.name).unlink()
    assert prune(cache.path, [tmp_path / "photos"])["dropped_rows"] == 1
    assert gone.key not in opened(cache)
    assert len(opened(cache)) == 6


def test_nothing_is_pruned_by_mistake(cache: EmbeddingCache, photos: Callable, contents: Callable) -> None:
    before = contents(cache)
    with pytest.raises(ConfigError, match="no data set"):
        prune(cache.path, [])
    with pytest.raises(CacheError, match="nothing would stay"):
        prune(cache.path, [photos(3, "other")])
    assert contents(opened(cache)) == before


@pytest.mark.parametrize("verb", ["merge", "prune"])
def test_damage_is_named_and_nothing_is_removed(cache: EmbeddingCache, tmp_path: Path, verb: str) -> None:
    """The last row of a shard is damaged, and the image of its first is in no use."""
    before = list_shards(cache.path)
    damaged = max(before, key=lambda path: path.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    image = tmp_path / "photos" / read_shard(damaged, cache.manifest).names[0]
    (tmp_path / "photos" / "masks" / image.name).unlink()
    image.unlink()
    with pytest.raises(CorruptCacheError, match=f"row 1 .* of shard {damaged.name} is damaged"):
        merge(cache.path) if verb == "merge" else prune(cache.path, [tmp_path / "photos"])
    assert set(before) <= set(list_shards(cache.path))


def test_a_merged_shard_that_is_lost_is_missed_by_every_data_set(
    cache: EmbeddingCache, photos: Callable, small: Any, contents: Callable, tmp_path: Path
) -> None:
    cache_embeddings(photos(3, "other"), model=small, out=cache.path)
    before = contents(cache)
    merge(cache.path)
    list_shards(cache.path)[0].unlink()
    for root in ("photos", "other"):
        with pytest.raises(CorruptCacheError, match="gone"):
            EmbeddingCache.open(cache.path).verify()
        cache_embeddings(tmp_path / root, model=small, out=cache.path)
    assert contents(opened(cache)).items() >= before.items()


@pytest.mark.parametrize("stage", ["shards", "record", "removal"])
def test_killed_in_the_middle_loses_nothing(
    cache: EmbeddingCache, contents: Callable, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = contents(cache)
    add = ShardWriter.add

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def add_and_die(writer: ShardWriter, row: Row) -> None:
        add(writer, row)
        if row.name.endswith("4.png"):
            die()

    child = os.fork()
    if child == 0:
        if stage == "shards":
            monkeypatch.setattr(ShardWriter, "add", add_and_die)
        elif stage == "record":
            monkeypatch.setattr(compact, "record_replaced", die)
        else:
            monkeypatch.setattr(Path, "unlink", die)
        merge(cache.path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert contents(opened(cache)) == before
    merge(cache.path)
    assert contents(opened(cache)) == before
    assert len(list_shards(cache.path)) == 1
    assert not list(cache.path.rglob(".*.tmp"))


def test_only_one_is_at_work(
    cache: EmbeddingCache, small: Any, tmp_path: Path, photos: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "MOMENT_SECONDS", 0.05)
    with lock(cache.path / "cache.json", shared=True):
        for work in (lambda: merge(cache.path), lambda: prune(cache.path, [tmp_path / "photos"])):
            with pytest.raises(CacheError, match="another process is at work"):
                work()
    with lock(cache.path / "cache.json", shared=False):
        with pytest.raises(CacheError, match="another process is at work"):
            cache_embeddings(photos(2, "other"), model=small, out=cache.path)
        with pytest.raises(CacheError, match="another process is at work"):
            merge(cache.path)
    merge(cache.path)


def test_no_room_no_merge(cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(CacheError, match="the disk is too small"):
        merge(cache.path)
    assert len(list_shards(cache.path)) == 4


def test_the_records_say_what_became_of_the_shards(cache: EmbeddingCache) -> None:
    names = {path.name for path in list_shards(cache.path)}
    merge(cache.path)
    jobs = [json.loads(path.read_text()) for path in (cache.path / "jobs").iterdir()]
    (record,) = (job for job in jobs if job["replaced"])
    assert set(record["replaced"]) == names
    assert [shard["name"] for shard in record["shards"]] == [path.name for path in list_shards(cache.path)]
