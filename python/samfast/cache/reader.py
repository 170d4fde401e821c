"""The embedding cache as training and evaluation read it: rows of features by image key, checked on first touch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from samfast.cache.format import Features, Manifest, read_manifest
from samfast.cache.handles import FileHandles
from samfast.cache.records import read_datasets, read_jobs
from samfast.cache.rows import ABSENT, Rows
from samfast.cache.shard import SET_ASIDE_FIX, Shard, as_bytes, list_shards, mark_suspect, read_shard, row_crc
from samfast.data.types import Sample
from samfast.errors import CacheError, ConfigError, CorruptCacheError
from samfast.frames import PreprocessSpec

if TYPE_CHECKING:
    from samfast.models.sam import Sam


class EmbeddingCache:
    """Embeddings of many images on disk. Only the index is in memory: about 50 bytes an image.

    Open one with :meth:`open`. May be used from several threads, after a fork, and pickled to other processes.
    """

    def __init__(self, path: Path, manifest: Manifest, shards: Sequence[Shard]) -> None:
        self.path = path
        self.manifest = manifest
        self._shards = [(shard.path, dict(shard.offsets)) for shard in shards]
        self._num_bytes = sum(shard.num_bytes for shard in shards)
        self._rows = Rows(shards)
        self._is_checked = np.zeros(len(self._rows), bool)
        self._files = FileHandles()

    @classmethod
    def open(cls, path: str | Path) -> EmbeddingCache:
        """Open the cache in the folder ``path``; reads the shards' indices, and no features.

        Raises:
            CacheError: there is no cache, or one of another format.
            CorruptCacheError: a shard is truncated, damaged or of another cache; the message names it.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        return cls(folder, manifest, [read_shard(file, manifest) for file in list_shards(folder)])

    def __reduce__(self) -> tuple[Any, ...]:
        return EmbeddingCache.open, (self.path,)

    @property
    def model(self) -> str:
        """Name of the architecture that encoded the images."""
        return self.manifest.model

    @property
    def spec(self) -> PreprocessSpec:
        """The model's preprocessing and geometry."""
        return self.manifest.spec

    @property
    def parts(self) -> dict[str, Any]:
        """What the fingerprint is made of."""
        return dict(self.manifest.parts)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of :attr:`parts`."""
        return self.manifest.fingerprint

    @property
    def storage(self) -> dict[str, str]:
        """Feature name to its dtype on disk."""
        return dict(self.manifest.storage)

    @property
    def feature_shapes(self) -> dict[str, tuple[int, ...]]:
        """Feature name to the shape of one row."""
        return dict(self.manifest.features)

    @property
    def keys(self) -> list[str]:
        """Hex keys of all rows, sorted."""
        return self._rows.keys()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str | Sample) -> bool:
        return bool(self._rows.find([_key(key)])[0] != ABSENT)

    def missing(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those of ``samples`` that are not in the cache, in their order."""
        found = self._rows.find([sample.key for sample in samples])
        return [sample for sample, row in zip(samples, found, strict=True) if row == ABSENT]

    def read(self, keys: Sequence[str | Sample], *, dtype: DTypeLike | None = None) -> Features:
        """Read the features of some images.

        Args:
            keys: samples, or their hex keys.
            dtype: of the features of floats, ``np.float16`` or ``np.float32``; None for that of each on disk.

        Returns:
            feature name to ``(n, ...)`` array, in the order of ``keys``.

        Raises:
            CacheError: an image is not in the cache.
            CorruptCacheError: the bytes of a row are not those that were written.
            ConfigError: ``dtype`` is no float type.
        """
        rows = self._rows.find([_key(key) for key in keys])
        for key, row in zip(keys, rows, strict=True):
            if row == ABSENT:
                name = key.name if isinstance(key, Sample) else key
                raise CacheError(
                    f"{name} is not in the cache",
                    where=self.path,
                    fix="run `samfast cache` again: it encodes what is missing",
                )
        if dtype is not None and np.dtype(dtype).kind != "f":
            raise ConfigError(
                f"embeddings cannot be read as {np.dtype(dtype)}", where="dtype", fix="use float16 or float32"
            )
        stored = {name: np.dtype(of) for name, of in self.manifest.storage.items()}
        shapes = self.manifest.features
        wanted = {name: of if dtype is None or of.kind != "f" else np.dtype(dtype) for name, of in stored.items()}
        out = {name: np.empty((len(rows), *shape), wanted[name]) for name, shape in shapes.items()}
        scratch = {name: np.empty(shapes[name], of) for name, of in stored.items() if wanted[name] != of}
        for place in np.lexsort((self._rows.row[rows], self._rows.shard[rows])).tolist():
            into = {name: array[place] for name, array in out.items()} | scratch
            self._read_row(int(rows[place]), into)
            for name, array in scratch.items():
                out[name][place] = array
        return out

    def loader(
        self,
        keys: Sequence[str | Sample],
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        dtype: DTypeLike | None = None,
    ) -> Iterator[tuple[NDArray[np.int64], Features]]:
        """Batches of features, the next one read by a thread while the present one is used.

        Args:
            keys: samples, or their hex keys.
            batch_size: images in a batch; the last may be smaller.
            order: ``(n,)`` positions in ``keys``, in the order to read them; None for all, as they are.
            dtype: as :meth:`read` takes it.

        Yields:
            ``(b,)`` int64 positions in ``keys``, and their features.

        Raises:
            CacheError, CorruptCacheError: as :meth:`read`.
        """
        positions = np.arange(len(keys)) if order is None else np.asarray(order, np.int64)
        batches = [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]
        executor = ThreadPoolExecutor(1, "samfast-cache-loader")

        def load(batch: NDArray[np.int64]) -> Features:
            return self.read([keys[position] for position in batch.tolist()], dtype=dtype)

        try:
            ahead = [executor.submit(load, batch) for batch in batches[:1]]
            for index, batch in enumerate(batches):
                features = ahead.pop().result()
                ahead.extend(executor.submit(load, following) for following in batches[index + 1 : index + 2])
                yield batch, features
        finally:
            executor.shutdown(cancel_futures=True)

    def decoder(self) -> Sam:
        """The base model's prompt encoder and mask decoder, float32, without an image encoder.

        Raises:
            CorruptCacheError: ``decoder.safetensors`` is gone or damaged.
        """
        from samfast.cache.base import load_decoder

        return load_decoder(self.path, self.manifest)

    def verify(self) -> dict[str, int]:
        """Read every byte and compare it with what was written.

        Returns:
            the numbers of ``rows``, ``shards`` and ``bytes`` that were checked.

        Raises:
            CorruptCacheError: something is damaged or gone; the message lists it.
        """
        from samfast.cache.check import verify_cache

        return verify_cache(self.path, self.manifest)

    def info(self) -> dict[str, Any]:
        """What the cache holds, JSON-ready."""
        return {
            "kind": "embedding cache",
            "path": str(self.path),
            "model": self.model,
            "images": len(self),
            "shards": len(self._shards),
            "bytes": self._num_bytes,
            "features": {name: list(shape) for name, shape in self.feature_shapes.items()},
            "storage": self.storage,
            "precision": self.parts.get("precision"),
            "fingerprint": self.fingerprint,
            "datasets": [record["root"] for record in read_datasets(self.path)],
            "jobs": len(read_jobs(self.path)),
        }

    def close(self) -> None:
        """Close the open files; they open again when read."""
        self._files.close()

    def _read_row(self, row: int, out: Features) -> None:
        path, offsets = self._shards[self._rows.shard[row]]
        at = int(self._rows.row[row])
        for name, array in out.items():
            try:
                count = self._files.read_into(path, offsets[name] + at * array.nbytes, as_bytes(array))
            except OSError as error:
                raise CacheError(f"a shard cannot be read: {error.strerror}", where=path, fix=SET_ASIDE_FIX) from None
            if count < array.nbytes:
                raise self._corrupt(path, at, "cut short")
        if not self._is_checked[row]:
            if row_crc(out) != self._rows.crc[row]:
                raise self._corrupt(path, at, "damaged: its CRC is wrong")
            self._is_checked[row] = True

    def _corrupt(self, path: Path, row: int, what: str) -> CorruptCacheError:
        try:
            name = f" ({read_shard(path, self.manifest).names[row]})"
        except CacheError:
            name = ""
        mark_suspect(path)
        return CorruptCacheError(f"row {row}{name} of shard {path.name} is {what}", where=path, fix=SET_ASIDE_FIX)


def _key(key: str | Sample) -> str:
    return key.key if isinstance(key, Sample) else key
