"""The cache beside its peers, 2 MiB rows in random order: ``pytest benches/test_cache.py --benchmark-only``.

Every contender fills the same batch buffer with the same rows; what it read is compared before anything is timed. The
rows are noise, which no codec makes smaller. Reads that come from the disk are those of ``cold_reads.py``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from synthetic import write_cache

from samfast.cache import EmbeddingCache
from samfast.cache.reader import aligned_empty
from samfast.cache.shard import list_shards, read_shard

zarr = pytest.importorskip("zarr")

ROWS = 64
BATCH = 32
THREADS = 4
FEATURE = "image_embeddings"
Read = Callable[[], object]


class Setting:
    """The same rows in every peer's form, and a batch of them to read."""

    def __init__(self, folder: Path) -> None:
        names = [f"{number:03}" for number in range(ROWS)]
        self.cache = write_cache(folder / "cache", names, rows_per_shard=ROWS // 2)
        self.shards = list_shards(self.cache.path)
        self.keys = np.random.default_rng(1).choice(self.cache.keys, BATCH, replace=False).tolist()
        indices = [read_shard(path, self.cache.manifest) for path in self.shards]
        places = {
            key.tobytes().hex(): (number, row) for number, of in enumerate(indices) for row, key in enumerate(of.keys)
        }
        self.places = [places[key] for key in self.keys]
        self.offsets = [of.offsets[FEATURE] for of in indices]
        shape = (BATCH, *self.cache.feature_shapes[FEATURE])
        self.out = aligned_empty(shape, np.dtype(np.float16))
        self.wide = aligned_empty(shape, np.dtype(np.float32))
        self.row_bytes = self.out[0].nbytes

        self.folder = folder
        self.zarr = zarr.create_array(
            folder / "rows.zarr",
            shape=(ROWS, *self.out.shape[1:]),
            chunks=(1, *self.out.shape[1:]),
            dtype=np.float16,
        )
        for number, key in enumerate(self.cache.keys):
            row = self.cache.read([key])[FEATURE][0]
            self.zarr[number] = row
            np.save(folder / f"{key}.npy", row)
            np.savez_compressed(folder / f"{key}.npz", row)
        self.numbers = [self.cache.keys.index(key) for key in self.keys]
        self.pool = ThreadPoolExecutor(THREADS)
        self.descriptors = [os.open(path, os.O_RDONLY) for path in self.shards]

    def close(self) -> None:
        self.pool.shutdown()
        for descriptor in self.descriptors:
            os.close(descriptor)

    def samfast(self) -> None:
        self.cache.read_into(self.keys, {FEATURE: self.out})

    def samfast_float32(self) -> None:
        self.cache.read_into(self.keys, {FEATURE: self.wide})

    def samfast_allocating(self) -> NDArray[Any]:
        return self.cache.read(self.keys)[FEATURE]

    def pread(self) -> None:
        def share(first: int) -> None:
            for item in range(first, BATCH, THREADS):
                shard, row = self.places[item]
                at = self.offsets[shard] + row * self.row_bytes
                os.preadv(self.descriptors[shard], [self.out[item].reshape(-1).view(np.uint8)], at)

        list(self.pool.map(share, range(THREADS)))

    def safetensors(self) -> None:
        files = [safe_open(path, "np") for path in self.shards]
        for item, (shard, row) in enumerate(self.places):
            self.out[item] = files[shard].get_slice(FEATURE)[row]

    def npy(self) -> None:
        for item, key in enumerate(self.keys):
            self.out[item] = np.load(self.folder / f"{key}.npy")

    def npz(self) -> None:
        for item, key in enumerate(self.keys):
            with np.load(self.folder / f"{key}.npz") as file:
                self.out[item] = file["arr_0"]

    def zarr_v3(self) -> None:
        for item, number in enumerate(self.numbers):
            self.out[item] = self.zarr[number]

    def forget_checks(self) -> None:
        """As if no row had been read yet."""
        self.cache = EmbeddingCache.open(self.cache.path)

    def forget_pages(self) -> None:
        """Have the system drop what it holds of the shards."""
        for descriptor in self.descriptors:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """On the disk that the temporary folder is on: point TMPDIR at the one to be measured."""
    folder = tmp_path_factory.mktemp("cache-bench")
    setting = Setting(folder)
    os.sync()
    yield setting
    setting.close()
    shutil.rmtree(folder)


def check(setting: Setting, read: Read) -> None:
    """Raise unless a contender fills the buffer with the rows."""
    expected = setting.cache.read(setting.keys)[FEATURE]
    setting.out[:] = 0
    setting.wide[:] = 0
    returned = read()
    filled = returned if returned is not None else setting.out if setting.out.any() else setting.wide
    np.testing.assert_array_equal(filled, expected)


WARM = ["samfast", "samfast_float32", "samfast_allocating", "pread", "safetensors", "npy", "npz", "zarr_v3"]


@pytest.mark.parametrize("who", WARM)
def test_rows_that_were_read_before(benchmark: Any, setting: Setting, who: str) -> None:
    read = getattr(setting, who)
    check(setting, read)
    benchmark.group = "warm, checked before"
    benchmark.pedantic(read, rounds=5 if who in ("npz", "zarr_v3") else 15)


@pytest.mark.parametrize("who", ["samfast", "samfast_float32", "pread"])
def test_rows_that_are_checked(benchmark: Any, setting: Setting, who: str) -> None:
    read = getattr(setting, who)
    check(setting, read)
    benchmark.group = "warm, checked now"
    benchmark.pedantic(read, setup=setting.forget_checks, rounds=15)


ROW_BYTES_SMALL = 64


def test_what_a_row_costs_beyond_its_bytes(benchmark: Any, tmp_path: Path) -> None:
    """4096 rows of 64 bytes: next to nothing to copy. Divide by 4096."""
    cache = write_cache(tmp_path / "c", [str(n) for n in range(4096)], shape=(ROW_BYTES_SMALL // 2,))
    out = {FEATURE: np.empty((4096, ROW_BYTES_SMALL // 2), np.float16)}
    benchmark.group = "4096 rows of next to nothing"
    benchmark.pedantic(lambda: cache.read_into(cache.keys, out), rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("rows_per_shard", [128, 12])
def test_opening(benchmark: Any, tmp_path: Path, rows_per_shard: int) -> None:
    """100 000 rows in shards of 256 MiB of SAM 1's rows, and in those that a CPU fills in a minute."""
    names = [f"images/{number:06}.jpg" for number in range(100_000)]
    path = write_cache(tmp_path / "c", names, shape=(4,), rows_per_shard=rows_per_shard).path
    benchmark.group = "opening 100 000 rows"
    cache = benchmark.pedantic(lambda: EmbeddingCache.open(path), rounds=3)
    assert len(cache) == 100_000
