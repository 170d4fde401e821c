"""What one optimizer step is made from: embeddings, prompt tokens and soft targets of a few images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast.cache.loader import AHEAD, epoch_order, in_batches
from samfast.data import Dataset
from samfast.data.parallel import prefetch
from samfast.data.types import Sample, Target
from samfast.frames import PreprocessSpec
from samfast.inference.classes import class_masks, class_tokens
from samfast.inference.tokens import Tokens, tokenize
from samfast.prompts import PADDING, concatenate, point_prompts
from samfast.train.balance import EVEN, Balance
from samfast.train.config import TrainConfig
from samfast.train.regimes import choose_objects, click_keys, get_regime, training_prompts
from samfast.train.targets import in_bytes, soft_targets, target_spec, visible
from samfast.train.world import ALONE, World
from samfast.views import PlacedSample, view_target

Read = Callable[[Sequence[Sample]], Mapping[str, NDArray[Any]]]
"""Where embeddings come from: samples to feature name to ``(n, ...)`` array, one row a sample."""


@dataclass(frozen=True)
class Batch:
    """``P`` prompts on ``I`` images.

    Attributes:
        features: name to ``(I, ...)`` array.
        tokens: ``P`` prompts, model frame.
        target: ``(P, T, T)`` float32 in [0, 1], where T is the side of the frame that the loss is taken in, or uint8,
            255ths, in the model frame; without prompts ``(P, K, T, T)``, all of each of the ``K`` classes.
        weight: ``(I, T, T)`` float32 in [0, 1], see :func:`~samfast.train.targets.soft_targets`.
        share: ``(P,)`` float32: how much each prompt's loss counts.
        whole: the sum of it over an update's batches divides the sum over their prompts.
        is_one_point: ``(P,)`` bool.
        click_keys: ``(P, C)`` uint64: what draws the ``C`` clicks that correct each prompt's answers.
        adds_click: ``(P, C)`` bool: false where an answer is asked for again without a click.
    """

    features: Mapping[str, NDArray[Any]]
    tokens: Tokens
    target: NDArray[np.float32] | NDArray[np.uint8]
    weight: NDArray[np.float32]
    share: NDArray[np.float32]
    whole: float
    is_one_point: NDArray[np.bool_]
    click_keys: NDArray[np.uint64]
    adds_click: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens.image_index)


def epoch_updates(
    dataset: Dataset,
    samples: Sequence[Sample],
    read: Read,
    config: TrainConfig,
    spec: PreprocessSpec,
    *,
    epoch: int,
    balance: Balance = EVEN,
    world: World = ALONE,
    done: int = 0,
    at_most: int | None = None,
) -> Iterator[Iterator[Batch]]:
    """The batches of each of an epoch's updates, or the first ``at_most``: this process's parts, which may be none.

    Nothing is read for those that are ``done``. The others are made a little ahead of being taken, and not held: an
    update's have to be taken before the next update's, and what is left of them is passed over.
    """
    order = epoch_order(samples, seed=config.seed, epoch=epoch)
    updates = in_batches(in_batches(order, config.batch_size), config.accumulate)
    parts = [[part for batch in update if (part := world.part(batch))] for update in updates[done:at_most]]

    def make(group: Sequence[Sample]) -> Batch:
        return make_batch(dataset, group, read, config, spec, epoch=epoch, balance=balance)

    made = prefetch(make, [part for update in parts for part in update], threads=AHEAD, ahead=AHEAD)
    for update in parts:
        batches = islice(made, len(update))
        yield batches
        deque(batches, maxlen=0)


def make_batch(
    dataset: Dataset,
    samples: Sequence[Sample],
    read: Read,
    config: TrainConfig,
    spec: PreprocessSpec,
    *,
    epoch: int,
    balance: Balance = EVEN,
) -> Batch:
    """Draw prompts on ``samples`` and lay everything out for a step."""
    regime = get_regime(config.regime)
    if regime.is_prompt_free:
        return _class_batch(dataset, samples, read, config, spec)
    prompts = [point_prompts(np.zeros((0, 1, 2)))]  # an image may have no object outside the ignored region
    grid = target_spec(spec, config.loss_frame)
    targets = [_held(np.zeros((0, grid.low_res, grid.low_res), np.float32), config)]
    keys = [np.zeros((0, regime.corrections), np.uint64)]
    weights: list[NDArray[np.float32]] = []
    counts = [np.zeros(0, np.float32)]
    frames = [spec.frame(*shown_size(sample)) for sample in samples]
    for index, (sample, frame) in enumerate(zip(samples, frames, strict=True)):
        target = regime.askable(visible(shown_target(dataset, sample)), sample)
        objects = _dealt(dataset, sample, target, seed=config.seed, epoch=epoch, at_most=config.max_prompts)
        soft, weight = soft_targets(target.masks[objects], target.ignore, grid.frame(*shown_size(sample)))
        weights.append(weight)
        if len(objects) == 0:
            continue
        draw = {"seed": config.seed, "epoch": epoch, "prompts_per_object": config.prompts_per_object}
        drawn = training_prompts(regime, target, sample, frame, objects, **draw)
        ids = [target.ids[number] for number in objects]
        keys.append(click_keys(sample, ids, corrections=regime.corrections, **draw))
        prompts.append(replace(drawn, image_index=np.full(len(drawn), index, np.int64)))
        targets += [_held(soft, config)] * config.prompts_per_object
        counts += [balance.weights(target.select(objects))] * config.prompts_per_object
    asked, drawn_keys, share = concatenate(prompts), np.concatenate(keys), np.concatenate(counts)
    return Batch(
        features=read(samples),
        tokens=left_aligned(tokenize(asked, frames)),
        target=np.concatenate(targets),
        weight=np.stack(weights),
        share=share,
        whole=float(share.sum()) if balance.rule == "image" else len(share),
        is_one_point=asked.is_one_point,
        click_keys=drawn_keys,
        adds_click=regime.adds_click(drawn_keys),
    )


def _class_batch(
    dataset: Dataset, samples: Sequence[Sample], read: Read, config: TrainConfig, spec: PreprocessSpec
) -> Batch:
    """A step without prompts: each image is asked once, for all of every class, and counts alike."""
    order, grid = np.arange(len(dataset.classes)), target_spec(spec, config.loss_frame)
    targets, weights = [], []
    for sample in samples:
        target = visible(shown_target(dataset, sample))
        soft, weight = soft_targets(class_masks(target, order), target.ignore, grid.frame(*shown_size(sample)))
        targets.append(_held(soft, config))
        weights.append(weight)
    images = len(samples)
    return Batch(
        features=read(samples),
        tokens=class_tokens(images),
        target=np.stack(targets),
        weight=np.stack(weights),
        share=np.ones(images, np.float32),
        whole=images,
        is_one_point=np.zeros(images, bool),
        click_keys=np.zeros((images, 0), np.uint64),
        adds_click=np.zeros((images, 0), bool),
    )


def _dealt(dataset: Dataset, sample: Sample, target: Target, **deal: int) -> NDArray[np.int64]:
    """Indices of the shown objects that an epoch deals out: whatever the view, those of the plain image are dealt."""
    if not isinstance(sample, PlacedSample):
        return choose_objects(target.ids, sample.key, **deal)
    whole = visible(dataset.target(sample)).ids
    dealt = {whole[index] for index in choose_objects(whole, sample.image_key, **deal)}
    return np.array([index for index, shown in enumerate(target.ids) if shown in dealt], np.int64)


def _held(target: NDArray[np.float32], config: TrainConfig) -> NDArray[Any]:
    """Targets as a batch holds them."""
    return in_bytes(target) if config.loss_frame == "model" else target


def shown_size(sample: Sample) -> tuple[int, int]:
    """(height, width) of the frame that a sample's embedding shows: the original frame, or that of its view."""
    return sample.placement.size if isinstance(sample, PlacedSample) else sample.size


def shown_target(dataset: Dataset, sample: Sample) -> Target:
    """What is annotated on a sample, in the frame that its embedding shows."""
    target = dataset.target(sample)
    return view_target(target, sample.placement) if isinstance(sample, PlacedSample) else target


def left_aligned(tokens: Tokens) -> Tokens:
    """The same prompts with their absent tokens last, and without the columns that no prompt needs.

    The order of a prompt's tokens carries no meaning. A point with SAM's pad token and a box are both two tokens, so a
    batch of either needs no masked attention.
    """
    absent = tokens.labels == PADDING
    order = np.argsort(absent, axis=1, kind="stable")
    width = int((~absent).sum(axis=1).max(initial=0))
    order = order[:, :width]
    return replace(
        tokens,
        coords=np.take_along_axis(tokens.coords, order[..., None], axis=1),
        labels=np.take_along_axis(tokens.labels, order, axis=1),
    )
