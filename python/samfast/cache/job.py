"""The encoding job: every image of a data set through the frozen encoder, once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from samfast.cache.base import decoder_hash
from samfast.cache.encode import Encoder, prepared
from samfast.cache.format import CACHE_JSON, SUFFIX, Features, Manifest, Storage, read_manifest, row_matrix
from samfast.cache.reader import EmbeddingCache
from samfast.cache.records import Job, dataset_id, lost_shards, read_jobs, record_dataset, record_job
from samfast.cache.rows import ABSENT, Rows
from samfast.cache.shard import Row
from samfast.cache.store import create_cache, existing_shards
from samfast.cache.writer import ShardWriter
from samfast.data import Dataset, load_dataset
from samfast.data.types import Sample
from samfast.errors import CacheError, ConfigError, DataError
from samfast.models.allocator import keep_heap
from samfast.models.checkpoints import load_model
from samfast.models.fingerprint import encoder_fingerprint_parts
from samfast.models.sam import Sam
from samfast.models.segmenter import EMBED_BATCH, pick_device
from samfast.progress import Bar, Stopwatch, bar, say

Precision = Literal["float32", "bfloat16"]

_INDEX_BYTES = 256
"""Of a row's place in the index, generously."""
_MOST_LISTED = 20


def cache_embeddings(
    data: Dataset | str | Path,
    *,
    model: str | Sam = "tiny",
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    precision: Precision | Literal["auto"] = "auto",
    storage: Storage | Mapping[str, Storage] = "float16",
    batch_size: int | None = None,
    device: str = "auto",
    max_bad: float = 0.05,
) -> EmbeddingCache:
    """Encode every image of a data set that is not in the cache yet, of all splits, annotated or not.

    May be interrupted at any time and run again: it continues. Labels play no part in it.

    Args:
        data: a data set, or the path of one.
        model: name of a model, or a model with its image encoder.
        checkpoint: the model's weights; none for ``tiny``.
        out: folder of the cache, new or made with the same arguments; ``<data set>-<model>.samcache`` by default.
        precision: of the computation; ``"auto"`` is that of the cache if there is one, else bfloat16 on CUDA devices
            that have it, else float32.
        storage: dtype on disk, of all features or feature by feature; ``"float32"`` takes twice the room. Features of
            whole numbers are kept as they are.
        batch_size: images encoded at once.
        device: ``"auto"`` takes a CUDA device if there is one.
        max_bad: the fraction of images that may fail to decode, before the job stops.

    Returns:
        the cache, open.

    Raises:
        StaleCacheError: the cache at ``out`` was made by another model or in another way; lists what differs.
        CacheError: the disk is too small or full, or embeddings overflow the storage.
        OutputExistsError: ``out`` holds something else.
        DataError: more than ``max_bad`` of the images cannot be decoded.
        ConfigError: an option cannot be.
    """
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} encodes nothing", where="batch_size", fix="use 1 or more")
    keep_heap()
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    sam = _resolve_model(model, checkpoint)
    folder = default_path(dataset.root, sam.name) if out is None else Path(out).expanduser()
    place = pick_device(device)
    manifest = _manifest(sam, dataset, _resolve_precision(precision, folder, place), storage)
    todo = _plan(dataset, folder, manifest)
    create_cache(folder, manifest, sam)
    step = batch_size or EMBED_BATCH.get(place.type, 1)
    _Encoding(dataset, folder, manifest, todo, step, max_bad).run(Encoder(sam, manifest, place))
    return EmbeddingCache.open(folder)


def default_path(root: str | Path, model: str) -> Path:
    """Where the cache of a data set goes when no one says where: ``<data set>-<model>.samcache``, here."""
    return Path(f"{Path(root).resolve().name or 'data'}-{model}{SUFFIX}")


@dataclass(frozen=True)
class _Todo:
    """What is to be encoded.

    Attributes:
        samples: one an image file content that is not in the cache.
        present: images of the data set that are.
        lost: shards of earlier jobs on this data set that are gone.
    """

    samples: tuple[Sample, ...]
    present: int
    lost: tuple[str, ...]


def _resolve_model(model: str | Sam, checkpoint: str | Path | None) -> Sam:
    if not isinstance(model, Sam):
        return load_model(model, checkpoint=checkpoint)
    if checkpoint is not None:
        raise ConfigError("a loaded model takes no checkpoint", where="checkpoint", fix="pass the model's name instead")
    return model


def _resolve_precision(precision: str, folder: Path, device: torch.device) -> Precision:
    if precision == "auto":
        if (folder / CACHE_JSON).exists():
            precision = str(read_manifest(folder).parts["precision"])
        elif device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            precision = "bfloat16"
        else:
            precision = "float32"
    if precision not in get_args(Precision):
        raise ConfigError(
            f"precision={precision!r} is none of auto, {', '.join(get_args(Precision))}", where="precision"
        )
    return cast(Precision, precision)


def _manifest(sam: Sam, dataset: Dataset, precision: Precision, storage: Storage | Mapping[str, Storage]) -> Manifest:
    parts = encoder_fingerprint_parts(sam, precision)
    with torch.device("meta"):
        features = Sam(sam.architecture).encode(torch.zeros(1, 3, sam.spec.size, sam.spec.size))
    return Manifest(
        model=sam.name,
        parts=parts,
        features={name: tuple(tensor.shape[1:]) for name, tensor in sorted(features.items())},
        storage=_resolve_storage(storage, features),
        decode=dataset.decode.to_dict(),
        decoder=decoder_hash(sam),
    )


def _resolve_storage(storage: Storage | Mapping[str, Storage], features: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The dtype of every feature on disk."""
    asked = dict(storage) if isinstance(storage, Mapping) else dict.fromkeys(features, storage)
    floats = {name for name, tensor in features.items() if tensor.is_floating_point()}
    for name, dtype in asked.items():
        if name not in features or (name not in floats and isinstance(storage, Mapping)):
            raise ConfigError(f"{name!r} is no feature of floats", where="storage", fix=f"one of {sorted(floats)}")
        if dtype not in get_args(Storage):
            raise ConfigError(f"storage={dtype!r} is none of {', '.join(get_args(Storage))}", where="storage")
    return {
        name: asked.get(name, "float16") if name in floats else str(tensor.dtype).removeprefix("torch.")
        for name, tensor in sorted(features.items())
    }


def _plan(dataset: Dataset, folder: Path, manifest: Manifest) -> _Todo:
    """What is missing, said to the person who waits, and whether the disk can take it."""
    shards = existing_shards(folder, manifest)
    unique: dict[str, Sample] = {}
    for sample in dataset.samples:
        unique.setdefault(sample.key, sample)
    samples = list(unique.values())
    found = Rows(shards).find([sample.key for sample in samples])
    todo = tuple(sample for sample, row in zip(samples, found, strict=True) if row == ABSENT)
    lost = lost_shards(read_jobs(folder), {shard.path.name for shard in shards}, dataset=dataset_id(_opened(dataset)))

    needed = len(todo) * (manifest.row_bytes + _INDEX_BYTES)
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    twins = len(dataset.samples) - len(samples)
    say(f"cache {folder}: {len(dataset.samples)} images" + (f", {twins} of them identical to another" if twins else ""))
    if lost:
        say(f"  shards of earlier jobs that are gone: {len(lost)}; their images are encoded again")
    if len(todo) < len(samples):
        say(f"  {len(samples) - len(todo)} are there already")
    if todo:
        say(f"  {len(todo)} to encode: {_size(needed)} on disk, {_size(free)} free")
    if needed > free:
        raise CacheError(
            f"the disk is too small: the embeddings take {_size(needed)}, {_size(free)} are free",
            where=folder,
            fix="make room, or give an out= on a larger disk",
        )
    return _Todo(todo, len(samples) - len(todo), tuple(lost))


def _opened(dataset: Dataset) -> dict[str, Any]:
    """How a data set was opened."""
    return {
        "root": str(dataset.root.resolve()),
        "layout": dataset.layout,
        "options": dict(dataset.options),
        "split_origin": dataset.split_origin,
        "target": dataset.target_kind,
    }


class _Encoding:
    """One job under way.

    Args:
        dataset: whose images these are.
        folder: of the cache.
        manifest: what its rows have in common.
        todo: what to encode.
        batch_size: images encoded at once.
        max_bad: fraction of the data set that may fail to decode.
    """

    def __init__(
        self, dataset: Dataset, folder: Path, manifest: Manifest, todo: _Todo, batch_size: int, max_bad: float
    ) -> None:
        self._dataset = dataset
        self._folder = folder
        self._manifest = manifest
        self._todo = todo
        self._batch_size = batch_size
        self._max_bad = max_bad
        self._bad: list[tuple[str, str]] = []
        self._encoded = 0

    def run(self, encoder: Encoder) -> None:
        """Encode, write, and record what was done, whatever ends it."""
        clock = Stopwatch()
        writer = ShardWriter(self._folder, self._manifest)
        name = record_dataset(self._folder, _opened(self._dataset))
        is_complete = False
        try:
            with writer, bar("encode", len(self._todo.samples)) as running:
                for batch, images in self._batches(running):
                    self._write(writer, batch, encoder(batch, images))
                    running.advance(len(batch))
                    if self._encoded == len(batch):
                        self._say_estimate(clock.seconds)
            is_complete = True
        finally:
            replaced = self._todo.lost if is_complete else ()
            job = Job(
                name,
                is_complete,
                tuple(writer.written),
                tuple(replaced),
                self._encoded,
                self._todo.present,
                tuple(self._bad),
                round(clock.seconds, 3),
            )
            if writer.written or replaced or self._bad:
                record_job(self._folder, job)
            self._say_result(clock.seconds)

    def _batches(self, running: Bar) -> Iterator[tuple[list[Sample], NDArray[np.float32]]]:
        samples: list[Sample] = []
        images: list[NDArray[np.float32]] = []
        stream = prepared(self._todo.samples, self._manifest.spec, self._dataset.decode, ahead=2 * self._batch_size)
        with closing(stream):
            for sample, image in stream:
                if isinstance(image, DataError):
                    self._take_bad(sample, image)
                    running.advance()
                    continue
                samples.append(sample)
                images.append(image)
                if len(samples) == self._batch_size:
                    yield samples, np.stack(images)
                    samples, images = [], []
        if samples:
            yield samples, np.stack(images)

    def _take_bad(self, sample: Sample, error: DataError) -> None:
        self._bad.append((sample.name, error.what))
        if len(self._bad) > self._max_bad * len(self._dataset.samples):
            raise DataError(
                f"{len(self._bad)} of {len(self._dataset.samples)} images cannot be decoded, more than"
                f" max_bad={self._max_bad:g} allows: {_listed(self._bad)}",
                where=self._dataset.root,
                fix="repair or remove them, or allow more with max_bad=",
            )

    def _write(self, writer: ShardWriter, batch: list[Sample], features: Features) -> None:
        for index, sample in enumerate(batch):
            row = {name: array[index] for name, array in features.items()}
            writer.add(Row(sample.key, sample.name, sample.size, row_matrix(sample.size, self._manifest.spec), row))
        self._encoded += len(batch)

    def _say_estimate(self, seconds: float) -> None:
        left = len(self._todo.samples) - self._encoded
        if left:
            say(f"  about {_duration(left * seconds / self._encoded)} for the other {left}")

    def _say_result(self, seconds: float) -> None:
        if self._encoded:
            say(f"  encoded {self._encoded} images in {_duration(seconds)}")
        if self._bad:
            say(f"  left out {len(self._bad)} images that cannot be decoded: {_listed(self._bad)}")


def _listed(bad: list[tuple[str, str]]) -> str:
    hidden = len(bad) - _MOST_LISTED
    lines = [f"\n    {name}: {reason}" for name, reason in bad[:_MOST_LISTED]]
    return "".join(lines) + (f"\n    and {hidden} more" if hidden > 0 else "")


def _size(num_bytes: int) -> str:
    unit, name = (1e9, "GB") if num_bytes >= 1e9 else (1e6, "MB") if num_bytes >= 1e6 else (1e3, "kB")
    return f"{num_bytes / unit:.1f} {name}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
