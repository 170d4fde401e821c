"""Rows come back as they were written, or not at all."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samfast import cache_embeddings, load_dataset
from samfast.cache import EmbeddingCache
from samfast.cache.handles import FileHandles
from samfast.cache.shard import list_shards, read_shard
from samfast.errors import CacheError, ConfigError, CorruptCacheError


@pytest.fixture
def cache(photos: Callable, small: Any, tmp_path: Path, shards_of: Callable) -> EmbeddingCache:
    shards_of(2)
    return cache_embeddings(photos(7), model=small, out=tmp_path / "c")


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_order_repetition_and_dtype(cache: EmbeddingCache) -> None:
    keys = cache.keys
    whole = cache.read(keys)["image_embeddings"]
    assert whole.dtype == np.float16
    order = [3, 3, 0, 6, 1]
    part = cache.read([keys[index] for index in order], dtype=np.float32)["image_embeddings"]
    assert part.dtype == np.float32
    np.testing.assert_array_equal(part, whole[order].astype(np.float32))
    assert cache.read([])["image_embeddings"].shape == (0, 32, 8, 8)
    with pytest.raises(ConfigError, match="int8"):
        cache.read(keys, dtype=np.int8)


def test_a_missing_image_is_named(cache: EmbeddingCache, photos: Callable) -> None:
    stranger = load_dataset(photos(2, "other")).samples[0]
    assert stranger not in cache
    assert stranger.key not in cache
    assert cache.keys[0] in cache
    with pytest.raises(CacheError, match="run `samfast cache` again") as caught:
        cache.read([cache.keys[0], stranger])
    assert stranger.name in str(caught.value)
    with pytest.raises(CacheError, match="no row key"):
        cache.read(["photo.jpg"])


def test_not_a_cache(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CacheError) as caught:
            EmbeddingCache.open(path)
        assert str(path) in str(caught.value)


def test_every_flipped_bit_is_noticed(cache: EmbeddingCache) -> None:
    """Positions all over a shard: header, padding, every index tensor, features."""
    path = list_shards(cache.path)[1]
    original = path.read_bytes()
    begin = int.from_bytes(original[:8], "little") + 8
    rng = np.random.default_rng(0)
    positions = [0, 3, 7, 8, 9, begin - 1, *range(begin, begin + 400, 3), len(original) - 1]
    for position in [*positions, *rng.integers(0, len(original), 100).tolist()]:
        flip(path, position, int(rng.integers(8)))
        with pytest.raises(CorruptCacheError) as caught:
            _read_all(EmbeddingCache.open(cache.path))
        assert path.name in str(caught.value), position
        path.write_bytes(original)
    EmbeddingCache.open(cache.path).read(cache.keys)


def test_a_damaged_row_is_named_and_the_others_are_not_lost(cache: EmbeddingCache) -> None:
    path = list_shards(cache.path)[0]
    last = len(read_shard(path, cache.manifest)) - 1
    flip(path, path.stat().st_size - 1, 7)
    opened = EmbeddingCache.open(cache.path)
    errors = []
    for key in opened.keys:
        try:
            opened.read([key])
        except CorruptCacheError as error:
            errors.append(str(error))
    assert len(errors) == 1
    assert path.name in errors[0]
    assert f"row {last} (images/" in errors[0]


@pytest.mark.parametrize("keep", [0, 5, 100, 5000, -1])
def test_a_truncated_shard_is_named(cache: EmbeddingCache, keep: int) -> None:
    path = list_shards(cache.path)[2]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptCacheError) as caught:
        EmbeddingCache.open(cache.path)
    assert path.name in str(caught.value)


def test_a_shard_cut_after_opening_is_named(cache: EmbeddingCache) -> None:
    path = list_shards(cache.path)[2]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CorruptCacheError, match="cut short") as caught:
        cache.read(cache.keys)
    assert path.name in str(caught.value)


def test_a_shard_deleted_after_opening_is_named(cache: EmbeddingCache) -> None:
    path = list_shards(cache.path)[2]
    path.unlink()
    with pytest.raises(CacheError) as caught:
        cache.read(cache.keys)
    assert path.name in str(caught.value)


def test_foreign_files_are_named(cache: EmbeddingCache, photos: Callable, draw_model: Callable, tmp_path: Path) -> None:
    other = cache_embeddings(photos(2, "other"), model=draw_model("small", 1), out=tmp_path / "stranger")
    for source in (list_shards(other.path)[0], cache.path / "decoder.safetensors", cache.path / "cache.json"):
        stranger = cache.path / "stranger.safetensors"
        shutil.copy(source, stranger)
        with pytest.raises(CorruptCacheError) as caught:
            EmbeddingCache.open(cache.path)
        assert stranger.name in str(caught.value)
        stranger.unlink()


def test_of_two_rows_the_smaller_shard_name_wins(cache: EmbeddingCache, contents: Callable) -> None:
    """The copy's features are damaged: which one is read shows which one counts."""
    before = contents(cache)
    path = list_shards(cache.path)[0]
    size = path.stat().st_size
    for name, is_read in (("00.safetensors", True), ("zz.safetensors", False)):
        copy = cache.path / name
        shutil.copy(path, copy)
        flip(copy, size - 1)
        opened = EmbeddingCache.open(cache.path)
        assert len(opened) == len(before)
        if is_read:
            with pytest.raises(CorruptCacheError, match=name):
                contents(opened)
        else:
            assert contents(opened) == before
        copy.unlink()


def test_verify_lists_everything_at_once(cache: EmbeddingCache) -> None:
    assert cache.verify() == {"rows": 7, "shards": 4, "bytes": sum(p.stat().st_size for p in list_shards(cache.path))}
    flipped, cut, gone, _ = list_shards(cache.path)
    flip(flipped, flipped.stat().st_size - 1)
    os.truncate(cut, 1000)
    gone.unlink()
    flip(cache.path / "decoder.safetensors", 50_000)
    with pytest.raises(CorruptCacheError) as caught:
        cache.verify()
    for name in (flipped.name, cut.name, gone.name, "decoder.safetensors"):
        assert name in caught.value.what


def test_the_next_job_heals_what_was_found_damaged(
    cache: EmbeddingCache, contents: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace
) -> None:
    before = contents(cache)
    flipped, cut, gone, good = list_shards(cache.path)
    kept = len(read_shard(good, cache.manifest))
    flip(flipped, flipped.stat().st_size - 1)
    os.truncate(cut, 1000)
    gone.unlink()
    (cache.path / "decoder.safetensors").write_bytes(b"")
    with pytest.raises(CorruptCacheError):
        cache.verify()
    healed = cache_embeddings(tmp_path / "photos", model=small, out=cache.path)
    assert encoded.images == 7 - kept
    assert contents(healed) == before
    healed.verify()
    assert sorted(path.name for path in (cache.path / "set-aside").iterdir()) == sorted([flipped.name, cut.name])


def test_a_shard_deleted_is_encoded_again_and_then_no_longer_missed(
    cache: EmbeddingCache, contents: Callable, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = contents(cache)
    list_shards(cache.path)[0].unlink()
    with pytest.raises(CorruptCacheError, match="gone"):
        EmbeddingCache.open(cache.path).verify()
    again = cache_embeddings(tmp_path / "photos", model=small, out=cache.path)
    assert "shards of earlier jobs that are gone: 1" in capsys.readouterr().err
    assert contents(again) == before
    again.verify()


def test_threads_and_a_fork_read_the_same(cache: EmbeddingCache, contents: Callable) -> None:
    expected = contents(cache)
    opened = EmbeddingCache.open(cache.path)
    opened._files = FileHandles(2)

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            keys = rng.choice(opened.keys, 3).tolist()
            rows = opened.read(keys)["image_embeddings"]
            if [row.tobytes() for row in rows] != [expected[key] for key in keys]:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    opened._files._lock.acquire()  # as if another thread were reading at the moment of the fork
    with multiprocessing.get_context("fork").Pool(2) as processes:
        results = processes.map_async(_read_all, [opened, opened]).get(60)
    opened._files._lock.release()
    assert results == [expected, expected]


def _read_all(cache: EmbeddingCache) -> dict[str, bytes]:
    return {key: cache.read([key])["image_embeddings"][0].tobytes() for key in cache.keys}


def test_a_forked_child_reads_through_an_inherited_cache(cache: EmbeddingCache, contents: Callable) -> None:
    expected = contents(cache)
    cache._files._lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if _read_all(cache) == expected else 1)
    cache._files._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _read_all(cache) == expected


def test_a_cache_goes_to_another_process(cache: EmbeddingCache, contents: Callable) -> None:
    assert contents(pickle.loads(pickle.dumps(cache))) == contents(cache)


def test_open_files_are_bounded(photos: Callable, small: Any, tmp_path: Path, shards_of: Callable) -> None:
    shards_of(1)
    cache = cache_embeddings(photos(12), model=small, out=tmp_path / "c")
    cache._files = FileHandles(3)

    def open_shards() -> int:
        links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        return sum(str(cache.path) in link for link in links)

    for key in cache.keys:
        cache.read([key])
        assert 1 <= open_shards() <= 3
    cache.close()
    assert open_shards() == 0
    cache.read(cache.keys)


def test_the_loader_goes_through_an_order_in_batches(cache: EmbeddingCache) -> None:
    keys = cache.keys
    whole = cache.read(keys, dtype=np.float32)["image_embeddings"]
    order = [6, 0, 3, 2, 5]
    batches = list(cache.loader(keys, 2, order, dtype=np.float32))
    assert [positions.tolist() for positions, _ in batches] == [[6, 0], [3, 2], [5]]
    for positions, features in batches:
        np.testing.assert_array_equal(features["image_embeddings"], whole[positions])
    assert sum(len(positions) for positions, _ in cache.loader(keys, 4)) == 7
    assert list(cache.loader([], 4)) == []


def test_the_loader_leaves_no_thread_and_passes_errors_on(cache: EmbeddingCache) -> None:
    def threads() -> int:
        return sum(thread.name.startswith("samfast-cache-loader") for thread in threading.enumerate())

    loader = cache.loader(cache.keys, 1)
    next(loader)
    assert threads() == 1
    loader.close()
    assert threads() == 0
    with pytest.raises(CacheError, match="not in the cache"):
        list(cache.loader([cache.keys[0], "00" * 32], 1))
    assert threads() == 0


def test_reading_needs_no_torch(cache: EmbeddingCache) -> None:
    code = (
        "import sys; from samfast import EmbeddingCache; c = EmbeddingCache.open(sys.argv[1]);"
        "c.read(c.keys); c.info(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(cache.path)], check=True)
