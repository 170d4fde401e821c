"""What ``torture_cache.py`` works on: images, a small encoder, jobs in this process and in others."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from samfast.artifacts import verify
from samfast.cache import EmbeddingCache, atomic, cache_embeddings, job, walk
from samfast.errors import StaleCacheError
from samfast.models.architecture import ARCHITECTURES, Architecture
from samfast.models.sam import Sam, empty_sam

SMALL = Architecture("small", 64, 8, 32, 2, 2, (1,), 4, 32, 64, iou_head_dim=32)
SHARD_ROWS = 4
STALE = 3
"""Exit code of a job that met a cache of another kind."""


class Bench:
    """A folder to work in: images, a checkpoint, and what an uninterrupted job makes of them.

    Args:
        place: an empty folder.
        images: how many.
        seed: of the images.
    """

    def __init__(self, place: Path, images: int, seed: int = 0) -> None:
        self.place = place
        self.images = images
        self.root = place / "photos"
        self._made = 0
        self._counts: list[Any] = []
        ARCHITECTURES[SMALL.name] = SMALL
        rng = np.random.default_rng(seed)
        for folder in ("images", "masks"):
            (self.root / folder).mkdir(parents=True)
        for index in range(images):
            pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(self.root / "images" / f"{index:04}.png")
            Image.fromarray(np.full((40, 50), 255, np.uint8)).save(self.root / "masks" / f"{index:04}.png")
        sam = empty_sam(SMALL)
        generator = torch.Generator().manual_seed(seed)
        for tensor in sam.state_dict().values():
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        self.checkpoint = place / "small.pth"
        torch.save(sam.state_dict(), self.checkpoint)
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["samfast.cache.job", "samfast.cache.walk"])
        self.whole = self.encode(self.new())
        self.expected = contents(self.whole)

    def new(self) -> Path:
        """Where no cache is yet."""
        self._made += 1
        return self.place / f"{self._made}.samcache"

    def copy(self, cache: Path) -> Path:
        """The same cache somewhere else."""
        return Path(shutil.copytree(cache, self.new()))

    def encode(self, out: Path, **options: Any) -> Path:
        """Run a job here, to its end."""
        with small_shards(), redirect_stderr(StringIO()):
            options = {"model": SMALL.name, "checkpoint": self.checkpoint} | options
            return cache_embeddings(self.root, out=out, **options).path

    def start(self, out: Path, **options: Any) -> tuple[BaseProcess, Any]:
        """Run a job in a process of its own, see :func:`work`; the process, and the count of images it encodes."""
        encoded = self._processes.Value("i", 0, lock=False)
        process = self._processes.Process(
            target=work, args=(self.root, self.checkpoint, out, encoded), kwargs=options, daemon=True
        )
        process.start()
        self._counts.append(encoded)  # its memory is to be there when the process opens it
        return process, encoded

    def check_whole(self, cache: Path) -> None:
        """The cache is what an uninterrupted job makes, byte for byte."""
        assert contents(cache) == self.expected, f"{cache} is not what an uninterrupted job makes"
        verify(cache)
        assert not list(cache.rglob(".*.tmp")), "temporaries are left"


def work(
    root: Path, checkpoint: Path, out: Path, encoded: Any, *, pause: float = 0.0, die_at: int = 0, **options: Any
) -> None:
    """What a job's process does: counts images, dies at its ``die_at``-th call that changes a file."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for the life of the process
    torch.set_num_threads(1)
    ARCHITECTURES[SMALL.name] = SMALL
    encode, calls = Sam.encode, [0]

    def counting(self: Sam, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if images.device.type != "meta":
            encoded.value += len(images)
            time.sleep(pause)
        return encode(self, images)

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return called

    Sam.encode = counting  # type: ignore[method-assign]
    walk.RESCAN_SECONDS = 0.02
    for name in ("write", "fsync", "replace", "link", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    try:
        with small_shards():
            cache_embeddings(root, model=SMALL.name, checkpoint=checkpoint, out=out, **options)
    except StaleCacheError:
        sys.exit(STALE)


@contextmanager
def small_shards() -> Iterator[None]:
    """Shards of :data:`SHARD_ROWS` rows, written in many calls."""
    writer, chunk = job.ShardWriter, atomic._CHUNK
    job.ShardWriter = partial(writer, shard_bytes=SHARD_ROWS * 4096)  # type: ignore[misc, assignment]
    atomic._CHUNK = 1500
    try:
        yield
    finally:
        job.ShardWriter, atomic._CHUNK = writer, chunk  # type: ignore[misc]


def contents(cache: Path) -> dict[str, bytes]:
    """Key to the bytes of its features, every one checked against its CRC."""
    opened = EmbeddingCache.open(cache)
    features = opened.read(opened.keys)["image_embeddings"]
    return {key: row.tobytes() for key, row in zip(opened.keys, features, strict=True)}


@contextmanager
def noticed(kind: type[Exception], *words: str) -> Iterator[None]:
    """The block raises an error of this kind that holds all these words.

    Raises:
        AssertionError: it does not.
    """
    try:
        yield
    except kind as error:
        missing = [word for word in words if word not in str(error)]
    else:
        raise AssertionError(f"no one notices: {words}")
    if missing:
        raise AssertionError(f"the error does not say {missing}")
