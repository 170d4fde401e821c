"""Whatever ends a job, what was finished stays, and the next run ends where an uninterrupted one would have."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from samfast import cache_embeddings, load_dataset
from samfast.cache import EmbeddingCache
from samfast.cache.shard import list_shards
from samfast.errors import CorruptCacheError

JOB = """
import os, signal, time
from functools import partial
import torch
from samfast.cache import atomic, job
from samfast.models.architecture import ARCHITECTURES, Architecture
from samfast.models.sam import Sam

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by whatever a shell has put in the background
torch.set_num_threads(1)
ARCHITECTURES["small"] = Architecture("small", 64, 8, 32, 2, 2, (1,), 4, 32, 64, iou_head_dim=32)
job.ShardWriter = partial(job.ShardWriter, shard_bytes=2 * 4096)
encode, fsync = Sam.encode, os.fsync

def slow(self, images):
    time.sleep(pause)
    return encode(self, images)

def fatal(descriptor, seen=[]):
    seen.append(descriptor)
    if len(seen) == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)

Sam.encode = slow
atomic.os.fsync = fatal
job.cache_embeddings(root, model="small", checkpoint=checkpoint, out=out)
"""


@pytest.fixture
def start(tmp_path: Path, small: Any) -> Callable[..., BaseProcess]:
    """``start(root, out, pause, deadly)``: a job in a process, killing itself at its ``deadly``-th fsync.

    The processes are forks of one that has imported torch, and has done nothing else.
    """
    torch.save(small.state_dict(), tmp_path / "small.pth")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["samfast.cache.job"])

    def run(root: Path, out: Path, *, pause: float = 0.0, deadly: int = 0) -> BaseProcess:
        names = {"root": root, "out": out, "checkpoint": tmp_path / "small.pth", "pause": pause, "deadly": deadly}
        process = context.Process(target=exec, args=(JOB, names))
        process.start()
        return process

    return run


def wait_for_shards(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list_shards(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("deadly", [1, 3, 5])
def test_killed_while_the_cache_is_being_made(
    photos: Callable, small: Any, tmp_path: Path, start: Callable, deadly: int
) -> None:
    """Before cache.json, the decoder and the first record are in place: one fsync is the file's, one the folder's."""
    root, out = photos(2), tmp_path / "c"
    start(root, out, deadly=deadly).join()
    assert list(out.rglob(".*.tmp"))
    cache = cache_embeddings(root, model=small, out=out)
    assert cache.verify()["rows"] == 2
    cache.decoder()
    assert not list(out.rglob(".*.tmp"))


def test_ctrl_c_writes_the_shard_at_hand(
    photos: Callable, tmp_path: Path, start: Callable, small: Any, encoded: SimpleNamespace
) -> None:
    root, out = photos(20), tmp_path / "c"
    encoding = start(root, out, pause=1.0)
    wait_for_shards(out, 1)
    os.kill(encoding.pid, signal.SIGINT)
    encoding.join(60)
    assert encoding.exitcode == 1
    cache = EmbeddingCache.open(out)
    (record,) = (json.loads(path.read_text("utf-8")) for path in (out / "jobs").iterdir())
    assert not record["complete"]
    assert len(cache) == record["encoded"] < 20
    assert sum(shard["rows"] for shard in record["shards"]) == len(cache)
    cache_embeddings(root, model=small, out=out).verify()
    assert encoded.images == 20 - len(cache)


def test_an_error_in_the_encoder_keeps_what_was_encoded(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = small.encode, []

    def failing(images: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(len(images))
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return encode(images)

    monkeypatch.setattr(small, "encode", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        cache_embeddings(load_dataset(photos(6)), model=small, out=tmp_path / "c")
    assert len(EmbeddingCache.open(tmp_path / "c")) == 3


def test_a_damaged_record_is_named(photos: Callable, small: Any, tmp_path: Path) -> None:
    cache = cache_embeddings(photos(2), model=small, out=tmp_path / "c")
    (record,) = (cache.path / "jobs").iterdir()
    record.write_text("{}")
    with pytest.raises(CorruptCacheError, match=record.name):
        cache.verify()
