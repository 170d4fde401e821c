"""The judgement of models that are asked without prompts: all of each class, at original resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from samfast.data import Dataset
from samfast.data.types import Sample, Target
from samfast.evaluation.baselines import ALL_CLASSES, class_baseline_counts
from samfast.evaluation.cases import Answer, WorstCases
from samfast.evaluation.rows import METRICS, OF_NO_MODEL, Row
from samfast.inference.classes import class_masks, class_order, class_scores, segment_classes
from samfast.inference.contract import NO_PROMPT
from samfast.metrics import overlap_counts
from samfast.prompts import point_prompts

if TYPE_CHECKING:
    from samfast.evaluation.contenders import Contender

OF_CLASS = f"{NO_PROMPT}: "
"""Before the name of a class: the prompt of the lines that judge it alone."""


def is_of_one_class(prompt: str) -> bool:
    """Whether a line judges one of several classes, and another line the mean over them."""
    return prompt.startswith(OF_CLASS)


def check_classes(contender: Contender, dataset: Dataset) -> None:
    """Raise :class:`~samfast.errors.ConfigError` if a model answers with other classes than the data set holds."""
    answered = contender.segmenter.contract.classes
    if answered:
        class_order(answered, dataset.classes, model=contender.label)


def judge_classes(
    sample: Sample, dataset: Dataset, target: Target, contenders: Sequence[Contender], worst: WorstCases
) -> list[Row]:
    """A row for each model that is asked without prompts; and, of several classes, one for each class at stake.

    Args:
        sample: an annotated image.
        dataset: that it is of.
        target: what is annotated on it; nothing, perhaps.
        contenders: of any kind.
        worst: is shown the answers.
    """
    truth = class_masks(target, np.arange(len(dataset.classes)))
    rows, answers = [], []
    for each in contenders:
        if not each.segmenter.contract.takes(NO_PROMPT):
            continue
        prediction = segment_classes(each.segmenter, each.encoder.embedding(sample, dataset))
        order = class_order(each.segmenter.contract.classes, dataset.classes, model=each.label)
        masks = prediction.masks[np.argsort(order)]
        counts = overlap_counts(masks, truth, target.ignore)
        asked = [(NO_PROMPT, counts, float(prediction.scores.mean()))]
        if len(order) > 1:
            ious = prediction.scores[np.argsort(order)]
            at_stake = np.flatnonzero(counts[:, :3].any(axis=1))
            asked += [(OF_CLASS + dataset.classes[k], counts[k : k + 1], float(ious[k])) for k in at_stake]
        for prompt, found, predicted_iou in asked:
            there = int((found[:, 0] + found[:, 2] > 0).sum())
            figures = class_scores(found)
            rows.append(
                Row(
                    image=sample.name,
                    split=sample.split,
                    model=each.label,
                    role=each.role,
                    prompt=prompt,
                    objects=there,
                    **{metric: figures[metric] for metric in METRICS},
                    predicted_iou=predicted_iou,
                )
            )
        answers.append(Answer(each.label, masks, class_scores(counts)["iou"]))
    worst.see(NO_PROMPT, sample, truth, point_prompts(np.zeros((0, 0, 2))), answers)
    return rows


def class_floor(sample: Sample, target: Target, classes: int) -> Row:
    """The row of :data:`~samfast.evaluation.baselines.ALL_CLASSES`."""
    figures = class_scores(class_baseline_counts(class_masks(target, np.arange(classes)), target.ignore))
    return Row(
        image=sample.name,
        split=sample.split,
        model=ALL_CLASSES,
        role="floor",
        prompt=OF_NO_MODEL,
        objects=len(np.unique(target.classes)),
        **{metric: figures[metric] for metric in METRICS},
    )
