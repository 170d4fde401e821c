"""The order of an epoch, and what reads ahead of the training loop."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samfast import cache_embeddings, load_dataset
from samfast.cache import EmbeddingCache
from samfast.cache.loader import epoch_order
from samfast.data.parallel import prefetch
from samfast.errors import CacheError, ConfigError

GOLDEN = {
    (0, 1): [4, 5, 3, 7, 1, 6, 2, 0],
    (0, 2): [3, 2, 6, 5, 4, 1, 0, 7],
    (1, 1): [2, 0, 5, 7, 3, 4, 1, 6],
}
"""(seed, epoch) to the order of eight keys."""


@pytest.fixture
def root(photos: Callable) -> Path:
    return photos(7)


@pytest.fixture
def cache(root: Path, small: Any, tmp_path: Path) -> EmbeddingCache:
    return cache_embeddings(root, model=small, out=tmp_path / "c")


def test_batches_go_through_the_images_once(cache: EmbeddingCache) -> None:
    keys = cache.keys
    whole = dict(zip(keys, cache.read(keys)["image_embeddings"], strict=True))
    for epoch in (None, 1):
        batches = list(cache.loader(keys, 3, seed=2, epoch=epoch, dtype=np.float32))
        assert [len(batch) for batch, _ in batches] == [3, 3, 1]
        order = [key for batch, _ in batches for key in batch]
        assert order == (keys if epoch is None else epoch_order(keys, seed=2, epoch=epoch))
        for batch, features in batches:
            expected = np.stack([whole[key] for key in batch]).astype(np.float32)
            np.testing.assert_array_equal(features["image_embeddings"], expected)
    assert list(cache.loader([], 4)) == []
    with pytest.raises(ConfigError, match="batch_size"):
        cache.loader(keys, 0)


def test_the_order_is_that_of_the_keys_alone(
    root: Path, cache: EmbeddingCache, small: Any, tmp_path: Path, shards_of: Callable
) -> None:
    """Other shards, other names and another order of the same images change nothing."""
    shards_of(2)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    for number, path in enumerate(sorted((moved / "images").iterdir())):
        name = f"{(number * 5) % 7:02}.png"
        path.rename(path.with_name(f"x{name}"))
        (moved / "masks" / path.name).rename(moved / "masks" / f"x{name}")
    other = cache_embeddings(moved, model=small, out=tmp_path / "other")
    samples = [list(load_dataset(folder).samples) for folder in (root, moved)]
    random.Random(0).shuffle(samples[1])

    def order(cache: EmbeddingCache, images: Any, epoch: int) -> list[str]:
        return [getattr(i, "key", i) for batch, _ in cache.loader(images, 2, epoch=epoch) for i in batch]

    for epoch in range(3):
        expected = order(cache, cache.keys, epoch)
        assert order(cache, samples[0], epoch) == order(other, samples[1], epoch) == expected


def test_the_order_is_written_down() -> None:
    """On any platform, in any version: a run that is continued elsewhere sees the same images."""
    keys = [f"{number:064x}" for number in range(8)]
    assert [int(key, 16) for key in epoch_order(keys, seed=0, epoch=1)] == GOLDEN[0, 1]
    assert [int(key, 16) for key in epoch_order(keys, seed=0, epoch=2)] == GOLDEN[0, 2]
    assert [int(key, 16) for key in epoch_order(keys, seed=1, epoch=1)] == GOLDEN[1, 1]


def test_every_order_is_as_likely() -> None:
    """Each of four images stands at each place in a quarter of the epochs, within five standard deviations."""
    keys = [f"{number:064x}" for number in range(4)]
    orders = np.array([[keys.index(key) for key in epoch_order(keys, seed=3, epoch=epoch)] for epoch in range(4000)])
    counts = np.array([[(orders[:, place] == image).sum() for place in range(4)] for image in range(4)])
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)


def test_so_many_results_are_ready_and_no_more() -> None:
    """The consumer waits for nothing that could be ready, and never holds up more than it asked for."""
    made: list[int] = []
    changed = threading.Condition()

    def make(item: int) -> int:
        with changed:
            made.append(item)
            changed.notify_all()
        return item

    results = prefetch(make, range(10), threads=2, ahead=3)
    for number in range(10):
        assert next(results) == number
        wanted = min(number + 4, 10)
        with changed:
            assert changed.wait_for(lambda wanted=wanted: len(made) == wanted, timeout=20)
        time.sleep(0.01)
        assert len(made) == wanted
    assert list(results) == []
    assert sorted(made) == list(range(10))


def test_a_slow_result_keeps_its_place() -> None:
    def make(item: int) -> int:
        time.sleep(0.03 if item % 3 == 0 else 0)
        return item

    assert list(prefetch(make, range(9), threads=4, ahead=4)) == list(range(9))


def test_no_thread_is_left_and_errors_are_passed_on(cache: EmbeddingCache) -> None:
    def threads() -> int:
        return sum(thread.name.startswith("samfast-prefetch") for thread in threading.enumerate())

    loader = cache.loader(cache.keys, 1)
    next(loader)
    assert threads() > 0
    loader.close()
    assert threads() == 0
    good, missing = cache.keys[:2], "00" * 32
    loader = cache.loader([*good, missing, *good], 1)
    assert [next(loader)[0], next(loader)[0]] == [good[:1], good[1:]]
    with pytest.raises(CacheError, match="not in the cache"):
        next(loader)
    assert threads() == 0
