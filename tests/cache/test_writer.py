"""One shard is filled while the one before it is written, and no third is begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samfast import cache_embeddings
from samfast.cache import writer as module
from samfast.cache.shard import Row, list_shards
from samfast.cache.writer import ShardWriter
from samfast.errors import CacheError


@pytest.fixture
def rows(photos: Callable, small: Any, tmp_path: Path) -> Callable[[Path], tuple[Any, list[Row]]]:
    """``rows(folder)``: the manifest of a cache, and rows that fit into it."""
    manifest = cache_embeddings(photos(1), model=small, out=tmp_path / "c").manifest
    shape = manifest.features["image_embeddings"]
    features = [{"image_embeddings": np.full(shape, value, np.float16)} for value in range(12)]
    return manifest, [Row(f"{i:064x}", f"{i}.png", (8, 8), np.eye(3), one) for i, one in enumerate(features)]


def test_two_buffers_and_no_more(rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is busy with a shard of two rows, two more are taken; the third waits for the disk."""
    manifest, many = rows
    disk, write = threading.Event(), module.write_shard

    def slow(*arguments: Any) -> int:
        assert disk.wait(60)
        return write(*arguments)

    monkeypatch.setattr(module, "write_shard", slow)
    taken: list[str] = []

    def fill() -> None:
        with ShardWriter(tmp_path, manifest, shard_bytes=2 * manifest.row_bytes) as writer:
            for row in many:
                writer.add(row)
                taken.append(row.name)

    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill)
        threading.Event().wait(0.3)
        assert len(taken) == 3, "two in the disk's hands, one beside, and the fourth that fills the shard waits"
        assert not filling.done()
        disk.set()
        filling.result(60)
    assert len(taken) == 12
    assert len(list_shards(tmp_path)) == 6


def test_a_minute_of_work_is_in_danger_at_most(rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 10 s each, on a disk that takes for ever: what would be lost is in one of the two buffers."""
    manifest, many = rows
    clock, disk = [0.0], threading.Event()
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "write_shard", lambda *_: disk.wait(60))

    def fill() -> None:
        with ShardWriter(tmp_path, manifest) as writer:
            for row in many:
                clock[0] += 10
                writer.add(row)

    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill)
        threading.Event().wait(0.3)
        assert not filling.done()
        in_danger = clock[0]
        disk.set()
        filling.result(60)
    assert 60 <= in_danger <= 60 + 2 * 10, "and the row that each buffer begins with"


def test_a_shard_that_could_not_be_written_is_said_at_the_next_one(
    rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, many = rows
    write, failed = module.write_shard, []

    def failing_once(*arguments: Any) -> int:
        if not failed:
            failed.append(arguments)
            raise CacheError("the disk is full")
        return write(*arguments)

    monkeypatch.setattr(module, "write_shard", failing_once)
    writer = ShardWriter(tmp_path, manifest, shard_bytes=2 * manifest.row_bytes)

    def fill() -> None:
        with writer:
            for row in many:
                writer.add(row)

    with pytest.raises(CacheError, match="the disk is full"):
        fill()
    assert [shard.rows for shard in writer.written] == [2], "what was in the other buffer is written all the same"
