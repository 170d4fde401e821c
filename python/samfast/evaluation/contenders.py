"""The contenders: what is judged, what each one is compared with, and which of them share their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samfast.artifacts import is_segmenter, open_model, open_segmenter
from samfast.cache import EmbeddingCache
from samfast.errors import CacheError, CheckpointError, StaleCacheError
from samfast.evaluation.rows import Role
from samfast.inference.segmenter import Embedding, Segmenter

if TYPE_CHECKING:
    from samfast.data import Dataset
    from samfast.data.types import Sample
    from samfast.models.sam import Sam
    from samfast.train import Run


@dataclass
class Encoder:
    """Where the embeddings of the contenders that share an encoder come from: a cache, or the encoder itself.

    Attributes:
        load: makes a segmenter that embeds images; called at the first image that is in no cache.
        cache: read where it holds the image.
    """

    load: Callable[[], Segmenter]
    cache: EmbeddingCache | None = None
    encoded: int = 0
    _segmenter: Segmenter | None = None
    _latest: tuple[str, Embedding] | None = None

    def embedding(self, sample: Sample, dataset: Dataset) -> Embedding:
        """The embedding of one image; kept until another image is asked for."""
        if self._latest is None or self._latest[0] != sample.key:
            self._latest = (sample.key, self._make(sample, dataset))
        return self._latest[1]

    def source(self) -> str:
        """Where the embeddings came from, in words."""
        parts = [] if self.cache is None else [f"from the cache {self.cache.path}"]
        if self.encoded or not parts:
            parts.append(f"of {self.encoded} images computed")
        return ", ".join(parts)

    def _make(self, sample: Sample, dataset: Dataset) -> Embedding:
        if self.cache is not None and sample.key in self.cache:
            return Embedding(self.cache.read([sample.key]), (self.cache.spec.frame(*sample.size),))
        if self._segmenter is None:
            self._segmenter = self.load()
        self.encoded += 1
        return self._segmenter.embed([dataset.image(sample)])


@dataclass(frozen=True)
class Contender:
    """One model that is judged.

    Attributes:
        label: as tables show it; no two are equal.
        role: what it is.
        segmenter: decodes the prompts.
        encoder: where its embeddings come from.
        base: label of its zero-shot model.
        run: that trained it.
        path: of the run or bundle.
        identity: equal for two contenders that answer alike.
    """

    label: str
    role: Role
    segmenter: Segmenter
    encoder: Encoder
    base: str | None = None
    run: Run | None = None
    path: Path | None = None
    identity: tuple[str, ...] = field(default=())


def line_up(
    models: Any,
    *,
    cache: EmbeddingCache | str | Path | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
) -> list[Contender]:
    """The contenders of ``models``: runs, bundles and segmenters in their order, then models asked for by name.

    Before the first run of each base model comes that base model; asked for by name, it does not come twice.

    Args:
        models: as :func:`~samfast.evaluation.evaluate` takes them.
        cache: embeddings to read.
        checkpoint: of the base model.
        device: where torch models compute.

    Raises:
        ConfigError: something that is no model.
        StaleCacheError: ``cache`` fits none of the models; says what differs.
    """
    given = EmbeddingCache.open(cache) if isinstance(cache, str | Path) else cache
    contest = _Contest(given, checkpoint, device)
    opened = [model if is_segmenter(model) else open_model(model) for model in listed(models)]
    opened.sort(key=lambda model: isinstance(model, str))  # a run's base model may be the one that is asked for by name
    for model in opened:
        contest.add(model)
    contest.require_fit()
    return contest.contenders


def listed(models: Any) -> list[Any]:
    """One model or several, as a list."""
    return list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]


def is_run(model: Any) -> bool:
    """Whether an opened model is a run."""
    return hasattr(model, "dataset_info") and hasattr(model, "metrics")


class _Contest:
    def __init__(self, cache: EmbeddingCache | None, checkpoint: str | Path | None, device: str) -> None:
        self.contenders: list[Contender] = []
        self._cache = cache
        self._checkpoint = checkpoint
        self._device = device
        self._misfits: list[str] = []
        self._encoders: dict[str, Encoder] = {}

    def add(self, model: Any) -> None:
        if is_run(model):
            self._add_run(model)
        elif isinstance(model, str):
            self._add_base(model)
        else:
            self._add_other(model)

    def require_fit(self) -> None:
        """Raise if a cache was given and no contender reads it."""
        if self._cache is None or any(each.encoder.cache is self._cache for each in self.contenders):
            return
        reasons = "\n    ".join(dict.fromkeys(self._misfits)) or "none of the models reads caches"
        raise StaleCacheError(
            f"the cache fits none of the models:\n    {reasons}",
            where=self._cache.path,
            fix="leave cache= out, or pass the cache that was made by one of these models",
        )

    def _add_run(self, run: Run) -> None:
        record = run.record["encoder"]
        encoder = self._encoders.get(record["fingerprint"])
        if encoder is None:
            encoder = Encoder(
                lambda: run.segmenter(checkpoint=self._checkpoint, device=self._device, encoder=True),
                self._fitting(run.path.name, record["parts"], self._own_cache(run)),
            )
            self._encoders[record["fingerprint"]] = encoder
        base = None if run.contract.classes else self._base_of(run, encoder).label  # a base model needs prompts
        self._append(
            Contender(
                label=run.name,
                role="tuned",
                segmenter=run.segmenter(device=self._device, encoder=False),
                encoder=encoder,
                base=base,
                run=run,
                path=run.path,
            )
        )

    def _base_of(self, run: Run, encoder: Encoder) -> Contender:
        identity = (run.model, run.record["encoder"]["fingerprint"], run.record["encoder"]["decoder"])
        for each in self.contenders:
            if each.identity == identity:
                return each
        from samfast.models.segmenter import TorchSegmenter

        sam = encoder.cache.decoder() if encoder.cache is not None else self._load_base(run)
        return self._append(
            Contender(
                label=run.model,
                role="zero-shot",
                segmenter=TorchSegmenter(sam, name=run.model, device=self._device),
                encoder=encoder,
                identity=identity,
            )
        )

    def _load_base(self, run: Run) -> Sam:
        """The model a run started from, read from its checkpoint."""
        from samfast.cache.base import decoder_hash
        from samfast.models.checkpoints import load_model

        record = run.record["encoder"]
        checkpoint = self._checkpoint if self._checkpoint is not None else record["checkpoint"]
        sam = load_model(run.model, checkpoint=checkpoint)
        differing = [
            *_differing(sam, record["parts"]),
            *(["decoder"] if decoder_hash(sam) != record["decoder"] else []),
        ]
        if differing:
            raise CheckpointError(
                f"this is not the {run.model} that {run.path.name} was tuned from: {', '.join(differing)} differ",
                where=checkpoint,
                fix="pass the checkpoint that the run was started with",
            )
        return sam

    def _add_base(self, name: str) -> None:
        """A model asked for by name; the base model of a run among the contenders if that is the same."""
        if self._checkpoint is None and any(
            each.role == "zero-shot" and each.label == name for each in self.contenders
        ):
            return
        segmenter = open_segmenter(name, checkpoint=self._checkpoint, device=self._device)
        sam = getattr(segmenter, "sam", None)
        for each in self.contenders:
            if (
                each.run is not None
                and each.base is not None
                and each.run.model == name
                and not _differing(sam, each.run.record["encoder"]["parts"])
            ):
                return
        self._append(Contender(name, "zero-shot", segmenter, Encoder(lambda: segmenter, self._fitting_sam(name, sam))))

    def _add_other(self, model: Any) -> None:
        """A segmenter as it is, or a bundle."""
        segmenter = open_segmenter(model, device=self._device)
        sam = getattr(segmenter, "sam", None)
        encoder = Encoder(lambda: segmenter, None if sam is None else self._fitting_sam(segmenter.name, sam))
        path = getattr(model, "path", None)
        self._append(Contender(segmenter.name, "other", segmenter, encoder, path=path))

    def _append(self, contender: Contender) -> Contender:
        labels = {each.label for each in self.contenders}
        label, number = contender.label, 1
        if label in labels and contender.path is not None:
            label = f"{contender.path.resolve().parent.name}/{label}"
        while label in labels:
            number += 1
            label = f"{contender.label} {number}"
        named = Contender(**{**contender.__dict__, "label": label})
        self.contenders.append(named)
        return named

    def _fitting(self, name: str, parts: dict[str, Any], own: EmbeddingCache | None) -> EmbeddingCache | None:
        """The cache that was given if it holds what an encoder of these parts makes; otherwise the model's own."""
        if self._cache is None:
            return own
        differing = [part for part in parts if parts[part] != self._cache.parts.get(part)]
        if not differing:
            return self._cache
        self._misfits.append(f"{name}: {', '.join(differing)} differ")
        return own

    def _fitting_sam(self, name: str, sam: Any) -> EmbeddingCache | None:
        if self._cache is None or sam is None:
            return None
        if getattr(sam, "image_encoder", None) is None:
            return self._cache if sam.spec == self._cache.spec else None
        if differing := _differing(sam, self._cache.parts):
            self._misfits.append(f"{name}: {', '.join(differing)} differ")
            return None
        return self._cache

    def _own_cache(self, run: Run) -> EmbeddingCache | None:
        """The cache a run was trained from, if it is still there and still holds the same."""
        if self._cache is not None and self._cache.fingerprint == run.record["encoder"]["fingerprint"]:
            return None
        try:
            cache = EmbeddingCache.open(run.record["cache"])
        except CacheError:
            return None
        return cache if cache.fingerprint == run.record["encoder"]["fingerprint"] else None


def _differing(sam: Any, parts: dict[str, Any]) -> list[str]:
    """The parts of a fingerprint in which a model differs, compute precision aside."""
    from samfast.models.fingerprint import encoder_fingerprint_parts

    mine = encoder_fingerprint_parts(sam, parts["precision"])
    return sorted(part for part in parts if mine.get(part) != parts[part])
