"""Validation: IoU and Dice on the val set at original resolution, with prompts that never change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samfast.cache.loader import AHEAD
from samfast.data import Dataset
from samfast.data.parallel import prefetch
from samfast.data.types import Sample, Target
from samfast.inference.classes import class_masks, class_order, class_scores, segment_classes
from samfast.inference.contract import NO_PROMPT
from samfast.inference.prompt_kinds import label_of, prompt_kind
from samfast.inference.prompt_sets import evaluation_prompts
from samfast.inference.segmenter import Embedding, Segmenter, segment
from samfast.metrics import overlap_counts, scores
from samfast.train.batches import Read
from samfast.train.targets import visible


def validate(
    segmenter: Segmenter, dataset: Dataset, samples: Sequence[Sample], read: Read, kinds: Sequence[str], *, seed: int
) -> dict[str, float]:
    """Judge a decoder on a set.

    Args:
        segmenter: decodes the embeddings that ``read`` gives.
        dataset: that the samples are of.
        samples: with at least one object each; without prompts, also such as are annotated as empty.
        read: where embeddings come from.
        kinds: see :mod:`samfast.inference.prompt_kinds`; named in the figures as
            :func:`~samfast.inference.prompt_kinds.label_of` has it.
        seed: of the prompts.

    Returns:
        ``val_iou_<kind>`` and ``val_dice_<kind>``, the mean over images of the mean over an image's objects (without
        prompts, of :func:`~samfast.inference.classes.class_scores`), at original resolution outside the ignored region;
        and ``val_iou``, the mean over kinds.

    Raises:
        ConfigError: the decoder answers with other classes than the data set's.
    """
    names = {kind: label_of(kind) for kind in kinds}
    found: dict[str, list[float]] = {
        f"val_{metric}_{each}": [] for metric in ("iou", "dice") for each in names.values()
    }

    def load(sample: Sample) -> tuple[Sample, Target, Embedding]:
        embedding = Embedding(read([sample]), (segmenter.spec.frame(*sample.size),))
        return sample, visible(dataset.target(sample)), embedding

    for sample, target, embedding in prefetch(load, samples, threads=AHEAD, ahead=AHEAD):
        for kind in kinds:
            if kind == NO_PROMPT:
                order = class_order(segmenter.contract.classes, dataset.classes, model=segmenter.name)
                answer = segment_classes(segmenter, embedding).masks
                figures = class_scores(overlap_counts(answer, class_masks(target, order), target.ignore))
                for metric in ("iou", "dice"):
                    found[f"val_{metric}_{kind}"].append(figures[metric])
                continue
            asked = prompt_kind(kind).askable(target, sample)
            if len(asked.masks) == 0:
                continue
            prompts = evaluation_prompts(kind, asked, sample, segmenter.spec, seed=seed)
            masks = segment(segmenter, embedding, prompts).masks
            values = scores(overlap_counts(masks, asked.masks, asked.ignore))
            for metric in ("iou", "dice"):
                found[f"val_{metric}_{names[kind]}"].append(float(values[metric].mean()))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {"val_iou": float(np.mean([means[f"val_iou_{each}"] for each in names.values()])), **means}
