"""The encoding job: every image of a data set through the frozen encoder, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from samfast.cache.atomic import explained
from samfast.cache.base import decoder_hash
from samfast.cache.encode import Encoder, batch_for, prepared
from samfast.cache.format import CACHE_JSON, JOBS, SUFFIX, Features, Manifest, Storage, read_manifest
from samfast.cache.plan import Plan, in_time, make_plan, opened
from samfast.cache.reader import EmbeddingCache
from samfast.cache.records import Job, dataset_id, record_dataset, record_job, record_views
from samfast.cache.seats import Seat, take_seat
from samfast.cache.shard import Row
from samfast.cache.store import create_cache, sharing
from samfast.cache.walk import NewShards, Walk
from samfast.cache.writer import ShardWriter
from samfast.data import Dataset, load_dataset
from samfast.data.types import Sample
from samfast.errors import CacheError, ConfigError, DataError
from samfast.models.allocator import keep_heap
from samfast.models.checkpoints import load_model
from samfast.models.fingerprint import encoder_fingerprint_parts
from samfast.models.precision import PRECISIONS, pick_precision
from samfast.models.sam import Sam
from samfast.models.segmenter import pick_device
from samfast.progress import Bar, Stopwatch, bar, say
from samfast.views import Recipe, Views, ViewSample, get_recipe
from samfast.views.recipe import Photometric

_MOST_LISTED = 20


def cache_embeddings(
    data: Dataset | str | Path,
    *,
    model: str | Sam = "tiny",
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    precision: str = "auto",
    storage: Storage | Mapping[str, Storage] = "float16",
    batch_size: int | None = None,
    device: str = "auto",
    compile: bool = False,
    max_bad: float = 0.05,
    views: int = 1,
    augment: str | Recipe | Photometric = "light",
    seed: int = 0,
) -> EmbeddingCache:
    """Encode every image of a data set that is not in the cache yet, of all splits, annotated or not.

    May be interrupted at any time and run again: it continues. Several processes, on one machine or on several that
    share the file system, may do this at once and divide the work; each returns when all of it is done. Labels play no
    part in it.

    Args:
        data: a data set, or the path of one.
        model: name of a model, or a model with its image encoder.
        checkpoint: the model's weights; none for ``tiny``.
        out: folder of the cache, new or made with the same arguments; ``<data set>-<model>.samcache`` by default.
        precision: of the computation: ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"``: that of the cache if there is
            one, else bf16 on a GPU that has it, else fp32.
        storage: dtype on disk, of all features or feature by feature; ``"float32"`` takes twice the room. Features of
            whole numbers are kept as they are.
        batch_size: images encoded at once, at most: halved where the device's memory does not suffice.
        device: ``"auto"`` takes a CUDA device if there is one.
        compile: let ``torch.compile`` make the encoder faster first, which takes a minute or more.
        max_bad: the fraction of images that may fail to decode, before the job stops.
        views: embeddings of each image: the plain one and ``views - 1`` others, at as many times the cost. More may be
            added later; of all splits, so that which set an image is in may change.
        augment: how the others are made: ``"light"``, ``"aerial"``, ``"weather"``, ``"medical"``, a
            :class:`~samfast.views.Recipe`, or a callable with a name and a version that takes and returns an image.
        seed: of their draws; no part of what they are called, so that a view that is there is not made anew.

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
    wanted = Views(get_recipe(augment), views, seed)
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    sam = _resolve_model(model, checkpoint)
    folder = default_path(dataset.root, sam.name) if out is None else Path(out).expanduser()
    place = pick_device(device)
    with explained(folder), ExitStack() as held:
        manifest = _manifest(sam, dataset, _resolve_precision(precision, folder, place), storage)
        held.enter_context(sharing(folder))
        plan = make_plan(dataset, wanted, folder, manifest)
        create_cache(folder, manifest, sam)
        held.enter_context(sharing(folder))
        if plan.samples or plan.lost:
            record_dataset(folder, opened(dataset))
            if views > 1:
                record_views(folder, wanted.to_dict())
            (folder / JOBS).mkdir(exist_ok=True)
            seat = held.enter_context(take_seat(folder / JOBS))
            step = batch_size or batch_for(place)
            job = _Encoding(dataset, wanted, folder, manifest, plan, seat=seat, batch_size=step, max_bad=max_bad)
            job.run(Encoder(sam, manifest, place, compile=compile))
        else:
            with suppress(CacheError, OSError):  # a cache that may only be read
                record_dataset(folder, opened(dataset))
    return EmbeddingCache.open(folder)


def default_path(root: str | Path, model: str) -> Path:
    """Where the cache of a data set goes when no one says where: ``<data set>-<model>.samcache``, here."""
    return Path(f"{Path(root).resolve().name or 'data'}-{model}{SUFFIX}")


def _resolve_model(model: str | Sam, checkpoint: str | Path | None) -> Sam:
    if not isinstance(model, Sam):
        return load_model(model, checkpoint=checkpoint)
    if checkpoint is not None:
        raise ConfigError("a loaded model takes no checkpoint", where="checkpoint", fix="pass the model's name instead")
    return model


def _resolve_precision(precision: str, folder: Path, device: torch.device) -> str:
    """The dtype that the encoder computes in, as the fingerprint spells it."""
    if precision == "auto" and (folder / CACHE_JSON).exists():
        return str(read_manifest(folder).parts["precision"])
    return PRECISIONS[pick_precision(precision, device)]


def _manifest(sam: Sam, dataset: Dataset, precision: str, storage: Storage | Mapping[str, Storage]) -> Manifest:
    parts = encoder_fingerprint_parts(sam, precision)
    with torch.device("meta"):
        features = type(sam)(sam.architecture).encode(torch.zeros(1, 3, sam.spec.size, sam.spec.size))
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


class _Encoding:
    """One job under way.

    Args:
        dataset: whose images these are.
        views: what is made of them.
        folder: of the cache.
        manifest: what its rows have in common.
        plan: what to encode.
        seat: of this process among those that encode into the cache.
        batch_size: images encoded at once.
        max_bad: fraction of the data set that may fail to decode.
    """

    def __init__(
        self,
        dataset: Dataset,
        views: Views,
        folder: Path,
        manifest: Manifest,
        plan: Plan,
        *,
        seat: Seat,
        batch_size: int,
        max_bad: float,
    ) -> None:
        self._dataset = dataset
        self._views = views
        self._folder = folder
        self._manifest = manifest
        self._plan = plan
        self._walk = Walk([sample.key for sample in plan.samples], seat, NewShards(folder, manifest, plan.shards))
        self._stretch = 0
        self._batch_size = batch_size
        self._max_bad = max_bad
        self._bad: dict[str, str] = {}
        self._encoded = 0
        self._outrun = 0
        self._since: tuple[float, int] | None = None
        self._is_estimated = False

    def run(self, encoder: Encoder) -> None:
        """Encode, write, and record what was done, whatever ends it."""
        clock = Stopwatch()
        writer = ShardWriter(self._folder, self._manifest)
        is_complete = False
        try:
            with writer, bar("encode", len(self._plan.samples)) as running:
                skipped = 0
                while self._walk.wait():
                    for batch, images in self._batches(running):
                        self._write(writer, batch, encoder(batch, images))
                        running.advance(len(batch) + self._walk.skipped - skipped)
                        skipped = self._walk.skipped
                        self._say_estimate(clock.seconds, is_warm=encoder.is_warm)
                    writer.finish()  # others may wait for it
            is_complete = True
        finally:
            replaced = self._plan.lost if is_complete else ()
            job = Job(
                dataset_id(opened(self._dataset)),
                is_complete,
                tuple(writer.written),
                tuple(replaced),
                self._encoded,
                self._plan.present + self._walk.skipped + self._outrun,
                tuple(self._bad.items()),
                round(clock.seconds, 3),
            )
            if writer.written or replaced or self._bad:
                record_job(self._folder, job)
            self._say_result(clock.seconds)

    def _batches(self, running: Bar) -> Iterator[tuple[list[ViewSample], NDArray[np.float32]]]:
        samples: list[ViewSample] = []
        images: list[NDArray[np.float32]] = []
        walk = (self._plan.samples[index] for index in self._walk)
        spec, decode = self._manifest.spec, self._dataset.decode
        stream = prepared(walk, self._views, spec, decode, ahead=2 * self._batch_size)
        with closing(stream):
            for sample, image in stream:
                if self._walk.is_written(sample.key):
                    self._outrun += 1
                    running.advance()
                    continue
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
        self._walk.give_up(sample.key)
        self._bad[sample.name] = error.what
        if len(self._bad) > self._max_bad * len(self._dataset.samples):
            raise DataError(
                f"{len(self._bad)} of {len(self._dataset.samples)} images cannot be decoded, more than"
                f" max_bad={self._max_bad:g} allows: {_listed(self._bad)}",
                where=self._dataset.root,
                fix="repair or remove them, or allow more with max_bad=",
            )

    def _write(self, writer: ShardWriter, batch: list[ViewSample], features: Features) -> None:
        for index, sample in enumerate(batch):
            if self._walk.stretch(sample.key) != self._stretch:
                self._stretch = self._walk.stretch(sample.key)
                writer.flush()  # so that the process met there sees what is done
            row = {name: array[index] for name, array in features.items()}
            place = self._views.placement(sample)
            matrix = place.to_model(self._manifest.spec)
            writer.add(Row(sample.key, sample.name, place.size, matrix, row, sample.view))
        self._encoded += len(batch)

    def _say_estimate(self, seconds: float, *, is_warm: bool) -> None:
        """Once: after the first batch, or after the second where the first one warms up."""
        if self._since is None:
            self._since = (0.0, 0) if is_warm else (seconds, self._encoded)
        since, before = self._since
        if self._is_estimated or self._encoded == before:
            return
        self._is_estimated = True
        left = len(self._plan.samples) - self._encoded - self._walk.skipped - self._outrun - len(self._bad)
        if left > 0:
            say(f"  about {in_time(left * (seconds - since) / (self._encoded - before))} for the other {left}")

    def _say_result(self, seconds: float) -> None:
        if self._encoded:
            what = "images" if self._views.count == 1 else "views"
            say(f"  encoded {self._encoded} {what} in {in_time(seconds)}")
        if self._bad:
            say(f"  left out {len(self._bad)} images that cannot be decoded: {_listed(self._bad)}")


def _listed(bad: Mapping[str, str]) -> str:
    hidden = len(bad) - _MOST_LISTED
    lines = [f"\n    {name}: {reason}" for name, reason in list(bad.items())[:_MOST_LISTED]]
    return "".join(lines) + (f"\n    and {hidden} more" if hidden > 0 else "")
