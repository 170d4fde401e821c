"""train_decoder: from a data set and its embedding cache to a run on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.cache.base import decoder_hash
from samfast.cache.format import CACHE_JSON
from samfast.data import Dataset, load_dataset
from samfast.data.types import Sample, Split
from samfast.errors import CacheError, DataError, StaleCacheError
from samfast.inference.prompt_kinds import label_of
from samfast.models.allocator import keep_heap
from samfast.models.checkpoints import load_model
from samfast.models.fingerprint import encoder_fingerprint_parts
from samfast.models.precision import pick_precision
from samfast.models.sam import Sam
from samfast.models.segmenter import pick_device
from samfast.progress import say
from samfast.train.batch_size import earlier_batch_size, fitting_batch_size
from samfast.train.callbacks import Callback, Callbacks
from samfast.train.config import AUTO, TrainConfig
from samfast.train.fit import fit
from samfast.train.folder import RunFolder, check_out, claim, differences, numbered
from samfast.train.given import asked_for, check_given
from samfast.train.launch import check_processes, enter, spread
from samfast.train.loggers import to_callbacks
from samfast.train.prompt_free import run_contract, tell_overlap, with_tokens
from samfast.train.recipes import RECIPES, recipe_source
from samfast.train.record import run_record
from samfast.train.regimes import get_regime
from samfast.train.run import Run, is_run
from samfast.train.views import EpochViews, recipe_in, recipe_name
from samfast.train.world import World
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
    batch_size: int | str | None = None,
    max_prompts: int | None = None,
    views: int | None = None,
    augment: str | Recipe | Photometric | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    overwrite: bool = False,
    keep_finished: bool = False,
    callbacks: Sequence[Callback | str] = (),
    **settings: Any,
) -> Run:
    """Train a model's prompt encoder and mask decoder from cached embeddings.

    The image encoder is never loaded for training: every image was encoded once, into the cache. Each epoch visits
    every image of the train set once, with fresh prompts; after it, or every ``eval_interval`` epochs, the decoder is
    judged on the val set, and the best epoch's weights are kept, those of the untuned model included. Labels are read
    as they are now.

    An interrupted run that is started again with the same arguments continues where it was, within the epoch too, and
    ends with the weights it would have had. Ctrl-C or a kill loses the last minute at most, or the update or judgement
    at work.

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
        epochs: passes over the train set; or ``steps=`` in their place.
        lr: base learning rate.
        batch_size: images a batch, on all devices together; ``"auto"`` for as many as a device decodes at once.
        max_prompts: objects of an image that take part in an epoch.
        views: encoded views of each image, the plain one (1, the default) included: each epoch shows every image in
            the next of its views. Judged is the plain one alone.
        augment: how the others are made, as :func:`samfast.cache_embeddings` takes it.
        seed: of prompts, object choice and order; 0 by default.
        out: the run's folder; ``runs/<data>-<model>-<regime>`` by default.
        device: ``"auto"`` (default) or a torch device.
        overwrite: replace the run in ``out``, or under the default name.
        keep_finished: give back the run in ``out``, or under the default name, that is finished and had the same
            arguments.
        callbacks: what is told of the run, see :class:`~samfast.train.callbacks.Callback`; ``"tensorboard"``,
            ``"wandb"`` and ``"mlflow"`` name the :mod:`~samfast.train.loggers`.
        **settings: any other field of :class:`~samfast.train.config.TrainConfig`.

    Returns:
        the run.

    Raises:
        ConfigError: a setting is not allowed.
        DataError: there is nothing to train on, or nothing to judge on, or a file of prompts asks for none of it.
        StaleCacheError: the cache is of another model or checkpoint.
        CacheError: the cache lacks images of the data.
        OutputExistsError: ``out`` holds another run, a finished one, or something else.
        RunError: the loss diverged, a callback failed, or the disk is full; what was finished is kept.
        RuntimeUnavailableError: the package of a logger is not installed.
    """
    told = to_callbacks(callbacks)
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
    world = enter(config)
    compute = pick_device(config.device)
    precision = pick_precision(config.precision, compute)
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    way = get_regime(config.regime)
    train, val = (labelled(dataset, split, with_empty=way.is_prompt_free) for split in ("train", "val"))
    given = way.given
    if given is not None:
        check_given(given, dataset)
        train, val = (asked_for(given, dataset, each) for each in (train, val))
    if cache is None:
        with world.first_goes_ahead():
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

    contract = run_contract(config, dataset)
    sam = with_tokens(cache.decoder(), contract)
    if world.is_first:
        tell_overlap(contract, dataset, train)
    default = Path("runs") / f"{dataset.root.resolve().name}-{config.model}-{label_of(config.regime)}"

    def places() -> Iterable[Path]:
        return [Path(out).expanduser()] if out is not None else numbered(default)

    about: dict[str, Any] = {"precision": precision, "device": compute}
    record = run_record(config, dataset, shown, sam, checkpoint, **about)
    if config.batch_size == AUTO:
        size = None if overwrite else earlier_batch_size(places(), record)
        if size is None:
            size = fitting_batch_size(sam, dataset, train, cache.read, config, **about)
        config = config.replace(batch_size=world.first(size))
        say(f"batch size: {config.batch_size} images")
        record = run_record(config, dataset, shown, sam, checkpoint, **about)
    if keep_finished and not overwrite:
        found = finished_run(places(), record)
        if found is not None:
            say(f"this run is finished: {found.path}")
            return found
    tables = {
        "data": {**dataset.options, "root": record["dataset"]["opened"]},
        "base": {"checkpoint": record["encoder"]["checkpoint"]},
    }
    toml = config.to_toml(**tables)
    folder = world.first(claim(out, default, record, toml, overwrite=overwrite) if world.is_first else None)
    assert folder is not None
    work = folder, sam, shown, train, val, config, precision, told
    if not world.is_first:
        _take_part(world, dataset, *work)
        return Run(folder.path)
    with folder.held():
        folder.begin()
        folder.journal.say(f"run: {folder.path}")
        if config.recipe in RECIPES[1:]:  # who names none asks for no source
            folder.journal.say(f"recipe {config.recipe}: {recipe_source(config.recipe)}")
        if config.devices * config.nodes > world.size:
            spread(_take_part, dataset, work, config=config)
        else:
            _take_part(world, dataset, *work)
    return Run(folder.path)


def _take_part(
    world: World,
    dataset: Dataset,
    folder: RunFolder,
    sam: Sam,
    views: EpochViews,
    train: Sequence[Sample],
    val: Sequence[Sample],
    config: TrainConfig,
    precision: str,
    callbacks: Callbacks,
) -> None:
    """Train, as one of the processes that do."""
    device = world.device(pick_device(config.device))
    keep_heap()

    def read(samples: Sequence[Sample]) -> dict[str, NDArray[Any]]:
        return views.cache.read(samples, pinned=device.type == "cuda")

    about: dict[str, Any] = {"device": device, "precision": precision, "callbacks": callbacks, "world": world}
    fit(folder, sam, dataset, views, train, val, read, config, **about)
    world.meet()  # whoever goes on finds the run finished


def check_training(
    dataset: Dataset | None,
    *,
    out: str | Path | None = None,
    recipe: str | Path = "default",
    callbacks: Sequence[Callback | str] = (),
    **settings: Any,
) -> TrainConfig:
    """Everything that can be known to be wrong before an image is encoded.

    Args:
        dataset: to train on; None where it is not open yet.
        out: the run's folder.
        recipe, callbacks: as :func:`train_decoder` takes them.
        **settings: fields of :class:`~samfast.train.config.TrainConfig`; None leaves the recipe's.

    Returns:
        the settings of the run.

    Raises:
        ConfigError: a setting is not allowed.
        DataError: there is nothing to train on, or nothing to judge on.
        OutputExistsError: ``out`` holds something that is no run.
        RuntimeUnavailableError: the package of a logger is not installed.
    """
    to_callbacks(callbacks)
    config = TrainConfig.make(recipe, **{**settings, "augment": recipe_name(settings.get("augment"))})
    pick_precision(config.precision, pick_device(config.device))
    check_processes(config)
    check_out(out)
    if dataset is not None:
        labelled(dataset, "train")
        labelled(dataset, "val")
    return config


def labelled(dataset: Dataset, split: Split, *, with_empty: bool = False) -> list[Sample]:
    """The samples of a set that training can use: those with objects; and those annotated as empty, if asked for.

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
    return [one for one in dataset.of(split) if one.state != "missing"] if with_empty else samples


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
