"""Rows come back as they were written, or not at all."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from samfast import cache_embeddings, load_dataset
from samfast._rust import ShardReader
from samfast.cache import EmbeddingCache
from samfast.cache.handles import ShardFiles
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
    assert cache.read(keys, dtype=np.float16)["image_embeddings"].dtype == np.float16
    for dtype in (np.int8, np.float64):
        with pytest.raises(ConfigError, match="cannot be read as"):
            cache.read(keys, dtype=dtype)


def test_reading_into_arrays_that_are_there(cache: EmbeddingCache) -> None:
    keys = cache.keys[::2]
    expected = cache.read(keys)["image_embeddings"]
    for dtype in (np.float16, np.float32):
        room = np.full((len(keys) + 2, 32, 8, 8), 7, dtype)
        cache.read_into(keys, {"image_embeddings": room[1:-1]})
        np.testing.assert_array_equal(room[1:-1], expected.astype(dtype))
        assert (room[[0, -1]] == 7).all()
    tensor = torch.empty(len(keys), 32, 8, 8)
    cache.read_into(keys, {"image_embeddings": tensor.numpy()})
    np.testing.assert_array_equal(tensor, expected.astype(np.float32))


@pytest.mark.parametrize(
    "out",
    [
        {},
        {"image_embeddings": np.empty((2, 32, 8, 8), np.float16), "other": np.empty(2)},
        {"image_embeddings": np.empty((3, 32, 8, 8), np.float16)},
        {"image_embeddings": np.empty((2, 32, 64), np.float16)},
        {"image_embeddings": np.empty((2, 32, 8, 8), np.float64)},
        {"image_embeddings": np.empty((2, 32, 8, 8), np.int16)},
        {"image_embeddings": np.empty((8, 8, 32, 2), np.float16).T},
        {"image_embeddings": np.broadcast_to(np.float16(0), (2, 32, 8, 8))},
    ],
)
def test_arrays_that_do_not_fit_are_refused(cache: EmbeddingCache, out: dict) -> None:
    with pytest.raises(ConfigError) as caught:
        cache.read_into(cache.keys[:2], out)
    assert str(caught.value.where).startswith("out")


def test_a_row_is_checked_once(cache: EmbeddingCache) -> None:
    """What is damaged after it was read is not noticed again: the check is of what the disk gave first."""
    first, second = cache.keys[:2]
    cache.read([first])
    for path in list_shards(cache.path):
        content = bytearray(path.read_bytes())
        begin = read_shard(path, cache.manifest).offsets["image_embeddings"]
        content[begin:] = bytes(byte ^ 1 for byte in content[begin:])
        path.write_bytes(content)
    cache.read([first])
    with pytest.raises(CorruptCacheError, match="CRC"):
        cache.read([second])


def test_ctrl_c_ends_a_long_read(tmp_path: Path) -> None:
    size = 1 << 24
    with (tmp_path / "shard").open("wb") as file:
        file.truncate(size)
    reader = ShardReader([tmp_path / "shard"], np.zeros((1, 1), np.int64), [size], 1)

    def read(count: int) -> float:
        zeros = np.zeros(count, np.int32)
        clock = time.monotonic()
        with suppress(KeyboardInterrupt):
            reader.damaged(zeros, zeros, np.zeros(count, np.uint32))
        return time.monotonic() - clock

    count = int(20 / (read(40) / 40))
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored by what a shell has put in the background
    try:
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        assert read(count) < 10  # of 20 seconds
    finally:
        signal.signal(signal.SIGINT, before)


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


def test_threads_read_the_same(cache: EmbeddingCache, contents: Callable) -> None:
    expected = contents(cache)
    opened = limited(EmbeddingCache.open(cache.path), 2)

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


def limited(cache: EmbeddingCache, files: int) -> EmbeddingCache:
    """The same cache with at most so many shards open."""
    shards = [read_shard(path, cache.manifest) for path in list_shards(cache.path)]
    cache._index.files = ShardFiles(shards, cache.manifest, limit=files)
    return cache


def _read_all(cache: EmbeddingCache) -> dict[str, bytes]:
    return {key: cache.read([key])["image_embeddings"][0].tobytes() for key in cache.keys}


def test_a_forked_child_reads_whatever_the_parents_threads_do(cache: EmbeddingCache, contents: Callable) -> None:
    """Threads open and close files all the time, so that some forks happen while the parent's reader is locked."""
    expected = contents(cache)
    opened = limited(EmbeddingCache.open(cache.path), 1)
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            opened.read(opened.keys)

    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(hammer) for _ in range(3)]
        try:
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)  # a deadlock ends as an error
                    os._exit(0 if _read_all(opened) == expected else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            stop.set()
    for thread in threads:
        thread.result()
    assert _read_all(opened) == expected


def test_a_forked_child_has_a_reader_of_its_own(cache: EmbeddingCache) -> None:
    before = cache._index.files.reader
    assert cache._index.files.reader is before
    child = os.fork()
    if child == 0:
        os._exit(0 if cache._index.files.reader is not before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_workers_of_a_data_loader_read_the_same(cache: EmbeddingCache, contents: Callable) -> None:
    from torch.utils.data import DataLoader

    expected = contents(cache)  # the parent has files open when its workers start
    loader = DataLoader(
        cache.keys,
        batch_size=3,
        num_workers=2,
        collate_fn=partial(_read_batch, cache),
        multiprocessing_context="fork",
    )
    assert {key: row for batch in loader for key, row in batch} == expected


def _read_batch(cache: EmbeddingCache, keys: list[str]) -> list[tuple[str, bytes]]:
    rows = cache.read(keys)["image_embeddings"]
    return [(key, row.tobytes()) for key, row in zip(keys, rows, strict=True)]


def test_a_cache_goes_to_another_process(cache: EmbeddingCache, contents: Callable) -> None:
    assert contents(pickle.loads(pickle.dumps(cache))) == contents(cache)


def test_open_files_are_bounded(photos: Callable, small: Any, tmp_path: Path, shards_of: Callable) -> None:
    shards_of(1)
    cache = limited(cache_embeddings(photos(12), model=small, out=tmp_path / "c"), 3)

    def open_shards() -> int:
        links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        return sum(str(cache.path) in link for link in links)

    for key in cache.keys:
        cache.read([key])
        assert 1 <= open_shards() <= 3
    cache.close()
    assert open_shards() == 0
    cache.read(cache.keys)


def test_reading_needs_no_torch(cache: EmbeddingCache) -> None:
    code = (
        "import sys; from samfast import EmbeddingCache; c = EmbeddingCache.open(sys.argv[1]);"
        "c.read(c.keys); c.info(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(cache.path)], check=True)
