"""train_decoder: from a data set and its embedding cache to a run on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.cache.base import decoder_hash
from samfast.cache.format import CACHE_JSON
from samfast.data import Dataset, load_dataset
from samfast.data.types import Sample, Split
from samfast.errors import CacheError, DataError, RunError, StaleCacheError
from samfast.models.allocator import keep_heap
from samfast.models.checkpoints import load_model
from samfast.models.fingerprint import encoder_fingerprint_parts
from samfast.models.precision import pick_precision
from samfast.models.sam import Sam
from samfast.models.segmenter import TorchSegmenter, pick_device
from samfast.progress import Stopwatch, bar, say
from samfast.train.balance import Balance
from samfast.train.batches import Read, epoch_batches
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.folder import RunFolder, check_out, claim, differences, numbered
from samfast.train.record import run_record
from samfast.train.regimes import get_regime
from samfast.train.run import Run, is_run
from samfast.train.targets import visible
from samfast.train.validation import validate
from samfast.train.views import EpochViews, recipe_in, recipe_name
from samfast.views import Recipe
from samfast.views.recipe import Photometric


def train_decoder(
    data: Dataset | str | Path,
    *,
    model: str | Sam | None = None,
    checkpoint: str | Path | None = None,
    cache: EmbeddingCache | str | Path | None = None,
    regime: str | None = None,
    recipe: str | Path = "default",
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    max_prompts: int | None = None,
    views: int | None = None,
    augment: str | Recipe | Photometric | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    overwrite: bool = False,
    keep_finished: bool = False,
    **settings: Any,
) -> Run:
    """Train a model's prompt encoder and mask decoder from cached embeddings.

    The image encoder is never loaded for training: every image was encoded once, into the cache. Each epoch visits
    every image of the train set once, with fresh prompts; after it, or every ``eval_interval`` epochs, the decoder is
    judged on the val set, and the best epoch's weights are kept, those of the untuned model included. Labels are read
    as they are now.

    An interrupted run that is started again with the same arguments continues after its last finished epoch, and ends
    with the weights it would have had. Ctrl-C loses the epoch at work.

    Args:
        data: a data set, or a folder as :func:`samfast.load_dataset` takes it.
        model: ``"tiny"`` (default), ``"vit_b"``, ``"vit_l"``, ``"vit_h"``; taken from ``cache`` if that is given.
        checkpoint: the model's official checkpoint; ``tiny`` ships with samfast. With ``cache``, it is checked to be
            the one that the cache was made by.
        cache: an embedding cache that holds the images, or where to make one; None encodes them first, into the
            default place.
        regime: how prompts are drawn, see :mod:`samfast.train.regimes`; by default as the recipe says, or
            ``"point+box"``. The epoch is chosen by the same prompts, drawn once and without noise; by points and boxes
            where answers are corrected.
        recipe: one of :data:`~samfast.train.recipes.RECIPES`, or the ``config.toml`` of a run, which it reproduces.
            Arguments that are given take precedence.
        epochs: passes over the train set.
        lr: base learning rate.
        batch_size: images an optimizer step.
        max_prompts: objects of an image that take part in an epoch.
        views: encoded views of each image, the plain one (1, the default) included: each epoch shows every image in
            the next of its views. Judged is the plain one alone.
        augment: how the others are made, as :func:`samfast.cache_embeddings` takes it.
        seed: of prompts, object choice and order; 0 by default.
        out: the run's folder; ``runs/<data>-<model>-<regime>`` by default.
        device: ``"auto"`` (default) or a torch device.
        overwrite: replace the run in ``out``.
        keep_finished: give back the run in ``out``, or under the default name, that is finished and had the same
            arguments.
        **settings: any other field of :class:`~samfast.train.config.TrainConfig`.

    Returns:
        the run.

    Raises:
        ConfigError: a setting is not allowed.
        DataError: there is nothing to train on, or nothing to judge on.
        StaleCacheError: the cache is of another model or checkpoint.
        CacheError: the cache lacks images of the data.
        OutputExistsError: ``out`` holds another run, a finished one, or something else.
        RunError: the loss diverged, or the disk is full; what was finished is kept.
    """
    place = None
    if isinstance(cache, str | Path):
        place = Path(cache).expanduser()
        cache = EmbeddingCache.open(place) if (place / CACHE_JSON).exists() else None
    name = model.name if isinstance(model, Sam) else model
    if name is None and cache is not None:
        name = cache.model
    config = check_training(
        data if isinstance(data, Dataset) else None,
        out=out,
        recipe=recipe,
        model=name,
        regime=regime,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        max_prompts=max_prompts,
        views=views,
        augment=augment,
        seed=seed,
        device=device,
        **settings,
    )
    compute = pick_device(config.device)
    precision = pick_precision(config.precision, compute)
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    train, val = labelled(dataset, "train"), labelled(dataset, "val")
    if cache is None:
        cache = cache_embeddings(
            dataset,
            model=model or config.model,
            checkpoint=checkpoint,
            out=place,
            device=config.device,
            views=config.views,
            augment=augment or config.augment,
            seed=config.seed,
        )
    else:
        _check_model(cache, config.model, model if isinstance(model, Sam) else None, checkpoint)
    shown = EpochViews(cache, recipe_in(cache, augment or config.augment), config.views, config.seed)
    _check_rows(cache, dataset, shown, train, val, config.augment)

    sam = cache.decoder()
    record = run_record(config, dataset, shown, sam, checkpoint, precision=precision, device=compute)
    default = Path("runs") / f"{dataset.root.resolve().name}-{config.model}-{config.regime}"
    if keep_finished and not overwrite:
        found = finished_run([Path(out).expanduser()] if out is not None else numbered(default), record)
        if found is not None:
            say(f"this run is finished: {found.path}")
            return found
    tables = {"data": dict(dataset.options), "base": {"checkpoint": record["encoder"]["checkpoint"]}}
    folder = claim(out, default, record, config.to_toml(**tables), overwrite=overwrite)
    say(f"run: {folder.path}")
    keep_heap()

    def read(samples: Sequence[Sample]) -> dict[str, NDArray[Any]]:
        return cache.read(samples, pinned=compute.type == "cuda")

    with folder.held():
        folder.begin()
        fit(folder, sam, dataset, shown, train, val, read, config, device=compute, precision=precision)
    return Run(folder.path)


def check_training(
    dataset: Dataset | None, *, out: str | Path | None = None, recipe: str | Path = "default", **settings: Any
) -> TrainConfig:
    """Everything that can be known to be wrong before an image is encoded.

    Args:
        dataset: to train on; None where it is not open yet.
        out: the run's folder.
        recipe: as :func:`train_decoder` takes it.
        **settings: fields of :class:`~samfast.train.config.TrainConfig`; None leaves the recipe's.

    Returns:
        the settings of the run.

    Raises:
        ConfigError: a setting is not allowed.
        DataError: there is nothing to train on, or nothing to judge on.
        OutputExistsError: ``out`` holds something that is no run.
    """
    config = TrainConfig.make(recipe, **{**settings, "augment": recipe_name(settings.get("augment"))})
    pick_precision(config.precision, pick_device(config.device))
    check_out(out)
    if dataset is not None:
        labelled(dataset, "train")
        labelled(dataset, "val")
    return config


def fit(
    folder: RunFolder,
    sam: Sam,
    dataset: Dataset,
    views: EpochViews,
    train: Sequence[Sample],
    val: Sequence[Sample],
    read: Read,
    config: TrainConfig,
    *,
    device: torch.device,
    precision: str,
) -> None:
    """Train ``sam`` in place, from the last epoch that ``folder`` holds to the end, and leave the run in it.

    Raises:
        RunError: the loss diverged; the best weights so far are kept.
    """
    steps_per_epoch = -(-len(train) // config.batch_size)
    trainer = Trainer(sam, config, steps_per_epoch=steps_per_epoch, device=device, precision=precision)
    regime = get_regime(config.regime)
    balance = Balance.over(config.balance, (visible(dataset.target(sample)) for sample in train))
    segmenter = TorchSegmenter(sam, regime.contract, device=device)
    metrics: list[dict[str, Any]] = []

    def finish_epoch(*, epoch: int, **line: Any) -> None:
        is_best = False
        metrics.append({"epoch": epoch, **line})
        if epoch % config.eval_interval == 0 or epoch == config.epochs:
            watch = Stopwatch()
            with trainer.averaged():
                judged = validate(segmenter, dataset, val, read, regime.kinds, seed=config.seed)
                is_best = judged["val_iou"] > max(trainer.judged, default=-1.0)
                if is_best:
                    folder.save_best(sam.decoder_state(), epoch=epoch)
            trainer.judged.append(judged["val_iou"])
            metrics[-1] |= {**judged, "val_seconds": round(watch.seconds, 3)}
        folder.save_epoch(sam.decoder_state(), trainer.state(), metrics)
        say(_line(metrics[-1], config.epochs, is_best=is_best))

    done = folder.progress()
    if done is not None:
        sam.load_state_dict(done.weights, strict=False)
        trainer.load_state(done.trainer)
        metrics += done.metrics
        say(f"continuing after epoch {done.epoch} of {config.epochs}")
    try:
        if done is None:
            finish_epoch(epoch=0, loss=None, lr=None, seconds=0.0)
        for epoch in range(len(metrics), config.epochs + 1):
            if config.patience and len(trainer.judged) - 1 - np.argmax(trainer.judged) >= config.patience:
                say(f"no better for {config.patience} judgements in a row: the run ends after epoch {epoch - 1}")
                break
            watch = Stopwatch()
            shown = views.shown(train, epoch=epoch)
            trained = _train_epoch(trainer, dataset, shown, read, config, epoch=epoch, balance=balance)
            finish_epoch(epoch=epoch, **trained, seconds=round(watch.seconds, 3))
    except KeyboardInterrupt:
        say(
            f"interrupted in epoch {len(metrics)} of {config.epochs}; {folder.path} holds what was finished before."
            " Start it again with the same arguments to continue."
        )
        raise
    folder.finish()


def _train_epoch(
    trainer: Trainer,
    dataset: Dataset,
    samples: Sequence[Sample],
    read: Read,
    config: TrainConfig,
    *,
    epoch: int,
    balance: Balance,
) -> dict[str, float]:
    """One pass over the train set: the mean over prompts of the loss and its parts, and the last learning rate."""
    sums: dict[str, float] = {}
    prompts = skipped = 0
    step = (epoch - 1) * trainer.steps_per_epoch
    with bar(f"epoch {epoch}/{config.epochs}", len(samples)) as running:
        spec = trainer.sam.spec
        for batch in epoch_batches(dataset, samples, read, config, spec, epoch=epoch, balance=balance):
            if len(batch):
                try:
                    means = trainer.step(batch, step)
                except RunError as error:
                    raise RunError(f"epoch {epoch}: {error.what}", where=error.where, fix=error.fix) from None
                if means is None:
                    skipped += 1
                else:
                    for name, value in means.items():
                        sums[name] = sums.get(name, 0.0) + value * len(batch)
                    prompts += len(batch)
            step += 1
            running.advance(len(batch.weight), loss=sums.get("loss", 0.0) / max(prompts, 1))
    if prompts == 0 and skipped:
        raise RunError(f"epoch {epoch}: no step had a finite loss", where="lr", fix="a smaller lr, or clip_norm=1")
    if prompts == 0:
        raise DataError("every object of the train set lies in the ignored region", where=dataset.root)
    trained = {**{name: value / prompts for name, value in sums.items()}, "lr": trainer.learning_rate(step - 1)}
    return {**trained, "skipped_steps": skipped} if skipped else trained


def labelled(dataset: Dataset, split: Split) -> list[Sample]:
    """The samples of a set that prompted training can use: those with objects.

    Raises:
        DataError: there are none.
    """
    samples = list(dataset.of(split, state="labelled"))
    if not samples:
        why = "training needs objects" if split == "train" else "the best epoch is chosen on the val set"
        raise DataError(
            f"the {split} set holds no image with an annotated object: {why}",
            where=dataset.root,
            fix="look at it with `samfast data`, or split it with load_dataset(...).split(val=0.15)",
        )
    return samples


def finished_run(places: Iterable[Path], record: dict[str, Any]) -> Run | None:
    """The finished run that had the same arguments as ``record`` says, looked for as far as there are runs."""
    for path in takewhile(is_run, places):
        run = Run(path)
        if run.is_finished and not differences(run.record, record):
            return run
    return None


def _check_model(cache: EmbeddingCache, name: str, sam: Sam | None, checkpoint: str | Path | None) -> None:
    """Raise unless the cache holds embeddings of the model and checkpoint that were asked for."""
    if cache.model != name:
        raise StaleCacheError(
            f"the cache holds embeddings of {cache.model}, not of {name}",
            where=cache.path,
            fix=f"pass model={cache.model!r}, or another cache",
        )
    if checkpoint is not None and sam is None:
        sam = load_model(name, checkpoint=checkpoint)
    if sam is not None and sam.image_encoder is not None:
        asked = encoder_fingerprint_parts(sam, cache.parts["precision"])
        differing = sorted(part for part in asked if asked[part] != cache.parts.get(part))
        if decoder_hash(sam) != cache.manifest.decoder:
            differing.append("decoder")
        if differing:
            raise StaleCacheError(
                f"the cache was made by another model than {checkpoint or name}: {', '.join(differing)} differ",
                where=cache.path,
                fix="pass the checkpoint that the cache was made with, or another cache",
            )


def _check_rows(
    cache: EmbeddingCache,
    dataset: Dataset,
    views: EpochViews,
    train: Sequence[Sample],
    val: Sequence[Sample],
    augment: str,
) -> None:
    """Raise unless every sample has its rows in the cache."""
    more = f" --views {views.count} --augment {augment}" if views.count > 1 else ""
    fix = f"encode them: samfast cache {dataset.root} --model {cache.model} --out {cache.path}{more}"
    samples = [*train, *val]
    if missing := cache.missing(samples):
        what = f"the cache lacks {len(missing)} of {len(samples)} images, such as {missing[0].name}"
        raise CacheError(what, where=cache.path, fix=fix)
    rows = views.rows(train)
    if lacking := sum(key not in cache for key in rows):
        what = f"the cache lacks {lacking} of {len(rows)} views of the train set, made as {augment!r}"
        raise CacheError(what, where=cache.path, fix=fix)


def _line(line: dict[str, Any], epochs: int, *, is_best: bool) -> str:
    """An epoch in a line for people."""
    loss = "untuned    " if line["loss"] is None else f"loss {line['loss']:.4f}"
    kinds = "  ".join(
        f"{name.removeprefix('val_iou_')} {value:.3f}" for name, value in line.items() if name.startswith("val_iou_")
    )
    judged = f"  val IoU {line['val_iou']:.4f}  ({kinds})" if "val_iou" in line else ""
    return f"epoch {line['epoch']:>3}/{epochs}  {loss}{judged}{'  best' if is_best else ''}"
