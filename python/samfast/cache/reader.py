"""The embedding cache as training and evaluation read it: rows of features by image key, checked on first touch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from samfast.cache.format import Features, Manifest, read_manifest
from samfast.cache.index import Index, is_of_a_file_gone
from samfast.cache.loader import AHEAD, epoch_order, in_batches, key_of
from samfast.cache.records import read_datasets, read_jobs, read_views
from samfast.cache.rows import ABSENT
from samfast.cache.shard import PAGE_BYTES, PLAIN_VIEW
from samfast.data.parallel import prefetch
from samfast.data.types import Sample
from samfast.errors import CacheError, ConfigError
from samfast.frames import PreprocessSpec
from samfast.views import Placement
from samfast.views.recipe import recipe_identity

if TYPE_CHECKING:
    from samfast.models.sam import Sam

T = TypeVar("T", str, Sample)


class EmbeddingCache:
    """Embeddings of many images on disk. Only the index is in memory: about 150 bytes a row.

    Open one with :meth:`open`. May be used from several threads, after a fork, and pickled to other processes.
    """

    def __init__(self, path: Path, manifest: Manifest, index: Index) -> None:
        self.path = path
        self.manifest = manifest
        self._index = index

    @classmethod
    def open(cls, path: str | Path) -> EmbeddingCache:
        """Open the cache in the folder ``path``; reads the shards' indices, and no features.

        Raises:
            CacheError: there is no cache, or one of another format.
            CorruptCacheError: a shard is truncated, damaged or of another cache; the message names it.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        return cls(folder, manifest, Index.listed(folder, manifest))

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
        return self._index.rows.keys()

    def __len__(self) -> int:
        return len(self._index.rows)

    def __contains__(self, key: str | Sample) -> bool:
        return bool(self._index.rows.find([key_of(key)])[0] != ABSENT)

    def missing(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those of ``samples`` that are not in the cache, in their order."""
        found = self._index.rows.find([sample.key for sample in samples])
        return [sample for sample, row in zip(samples, found, strict=True) if row == ABSENT]

    def read(self, keys: Sequence[str | Sample], *, dtype: DTypeLike | None = None, pinned: bool = False) -> Features:
        """Read the features of some images.

        Args:
            keys: samples, or their hex keys.
            dtype: ``np.float32`` converts the features of floats on the way; None leaves each as it is on disk.
            pinned: into memory that a CUDA device copies from while the CPU goes on; needs torch.

        Returns:
            feature name to ``(n, ...)`` array, in the order of ``keys``.

        Raises:
            CacheError: an image is not in the cache, or a shard cannot be read.
            CorruptCacheError: the bytes of a row are not those that were written.
            ConfigError: ``dtype`` is one that embeddings are not converted to.
        """
        empty = _pinned_empty if pinned else aligned_empty
        out = {
            name: empty((len(keys), *shape), _wanted(self.storage[name], dtype))
            for name, shape in self.manifest.features.items()
        }
        self._read(keys, out)
        return out

    def read_into(self, keys: Sequence[str | Sample], out: Features) -> None:
        """Read the features of some images into arrays that are there already, such as views of pinned tensors.

        Args:
            keys: ``n`` samples, or their hex keys.
            out: feature name to ``(n, ...)`` array, C-contiguous; of the dtype on disk, or float32 for features of
                floats. Holds anything after an error.

        Raises:
            CacheError, CorruptCacheError: as :meth:`read`.
            ConfigError: ``out`` is not what the features fit into; says what differs.
        """
        if set(out) != set(self.manifest.features):
            raise ConfigError(f"features {sorted(self.manifest.features)}, not {sorted(out)}", where="out")
        for name, shape in self.manifest.features.items():
            array, where = out[name], f"out[{name!r}]"
            if array.shape != (len(keys), *shape):
                raise ConfigError(f"shape {(len(keys), *shape)}, not {array.shape}", where=where)
            _require_readable(np.dtype(self.storage[name]), array.dtype, where)
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise ConfigError("an array that is not C-contiguous, or read-only, cannot be read into", where=where)
        self._read(keys, out)

    def placements(self, keys: Sequence[str | Sample]) -> list[Placement]:
        """Where rows show their images.

        Args:
            keys: samples, or their hex keys; of views, those that :func:`~samfast.views.view_key` makes.

        Raises:
            CacheError: a row is not in the cache.
        """
        index = self._index
        rows = self._find(index, keys)
        return [
            Placement.from_model(matrix, size, self.spec)
            for matrix, size in zip(index.rows.matrix[rows], index.rows.size[rows].tolist(), strict=True)
        ]

    def recipe(self, name: str) -> str:
        """Identity of the recipe of that name, as far as any views here were made by one.

        Raises:
            CacheError: there is none, or more than one.
        """
        found = {recipe_identity(record["recipe"]) for record in read_views(self.path) if record["name"] == name}
        if len(found) != 1:
            raise CacheError(
                f"the cache holds views of {len(found) or 'no'} recipes of the name {name!r}",
                where=self.path,
                fix="pass the recipe itself, or encode its views: samfast cache",
            )
        return found.pop()

    def loader(
        self,
        images: Sequence[T],
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int | None = None,
        dtype: DTypeLike | None = None,
        pinned: bool = False,
        ahead: int = AHEAD,
    ) -> Iterator[tuple[list[T], Features]]:
        """Batches of features, read by threads before they are asked for.

        Args:
            images: samples, or their hex keys.
            batch_size: images in a batch; the last may be smaller.
            seed: of the order.
            epoch: another order each, see :func:`~samfast.cache.loader.epoch_order`; None for that of ``images``.
            dtype, pinned: as :meth:`read` takes them.
            ahead: batches kept ready; bounds memory.

        Yields:
            the images of a batch, and their features.

        Raises:
            CacheError, CorruptCacheError: as :meth:`read`.
        """
        order = list(images) if epoch is None else epoch_order(images, seed=seed, epoch=epoch)

        def load(batch: list[T]) -> tuple[list[T], Features]:
            return batch, self.read(batch, dtype=dtype, pinned=pinned)

        return prefetch(load, in_batches(order, batch_size), threads=ahead, ahead=ahead)

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
        index = self._index
        return {
            "kind": "embedding cache",
            "path": str(self.path),
            "model": self.model,
            "images": int((index.rows.view == PLAIN_VIEW).sum()),
            "rows": len(index.rows),
            "views": [
                {"name": record["name"], "views": record["views"], "seed": record["seed"]}
                for record in read_views(self.path)
            ],
            "shards": len(index.files.paths),
            "bytes": index.num_bytes,
            "features": {name: list(shape) for name, shape in self.feature_shapes.items()},
            "storage": self.storage,
            "precision": self.parts.get("precision"),
            "fingerprint": self.fingerprint,
            "datasets": [record["root"] for record in read_datasets(self.path)],
            "jobs": len(read_jobs(self.path)),
        }

    def close(self) -> None:
        """Close the open files; they open again when read."""
        self._index.files.close()

    def _find(self, index: Index, keys: Sequence[str | Sample]) -> NDArray[np.int64]:
        rows = index.rows.find([key_of(key) for key in keys])
        for key, row in zip(keys, rows, strict=True):
            if row == ABSENT:
                raise CacheError(
                    f"{key.name if isinstance(key, Sample) else key} is not in the cache",
                    where=self.path,
                    fix="run `samfast cache` again: it encodes what is missing",
                )
        return rows

    def _read(self, keys: Sequence[str | Sample], out: Features) -> None:
        index = self._index
        rows = self._find(index, keys)
        try:
            index.read_into(rows, out)
        except CacheError as error:
            if not is_of_a_file_gone(error):
                raise
            latest = Index.listed(self.path, self.manifest)  # a merge has put the rows elsewhere
            rows = latest.rows.find([key_of(key) for key in keys])
            if (rows == ABSENT).any():
                raise
            latest.read_into(rows, out)
            self._index = latest


def _wanted(stored: str, dtype: DTypeLike | None) -> np.dtype[Any]:
    """What a feature is read as if ``dtype`` is asked for: features of whole numbers stay what they are."""
    has, asked = np.dtype(stored), np.dtype(stored if dtype is None else dtype)
    if has.kind != "f" and asked.kind == "f":
        return has
    _require_readable(has, asked, "dtype")
    return asked


def _require_readable(stored: np.dtype[Any], asked: np.dtype[Any], where: str) -> None:
    if asked != stored and (asked != np.float32 or stored.kind != "f"):
        raise ConfigError(f"embeddings stored as {stored} cannot be read as {asked}", where=where, fix="use float32")


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Memory that begins at a page, which systems copy files to up to twice as fast as to that of ``np.empty``."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + PAGE_BYTES, np.uint8)
    start = -room.ctypes.data % PAGE_BYTES
    return room[start : start + size].view(dtype).reshape(shape)


def _pinned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    import torch

    array: NDArray[Any] = torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True).numpy()
    return array
