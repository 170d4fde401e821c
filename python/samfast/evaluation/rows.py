"""Figures: one row an image, model and prompt; one line of the table a model and prompt; how lines come from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

METRICS = ("iou", "dice", "precision", "recall")
METRIC_TITLES = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}

Role = Literal["zero-shot", "tuned", "other", "floor", "ceiling"]
"""``zero-shot`` is a base model, ``tuned`` a run, ``other`` a bundle or segmenter; floors and ceiling ask no model."""

OF_NO_MODEL = ""
"""The prompt of floors and ceilings."""


@dataclass(frozen=True)
class Row:
    """One image, judged.

    Attributes:
        image: the sample's name.
        split: the set it was judged in.
        model: the label of the model, floor or ceiling.
        role: what that is.
        prompt: the prompt kind; :data:`OF_NO_MODEL` for floors and ceilings.
        objects: objects the means are over.
        iou: mean over the image's objects, original resolution, ignored pixels left out; so are the next three.
        dice: mean F1 of the pixels.
        precision: mean; 0 for a prediction that holds nothing.
        recall: mean.
        predicted_iou: mean of the model's own estimate; NaN where no model was asked.
    """

    image: str
    split: str
    model: str
    role: Role
    prompt: str
    objects: int
    iou: float
    dice: float
    precision: float
    recall: float
    predicted_iou: float = float("nan")


@dataclass(frozen=True)
class Gain:
    """A tuned line against its zero-shot line: same images, same prompts.

    Attributes:
        base: label of the zero-shot model.
        absolute: metric to the difference of the means.
        relative: metric to that difference over the zero-shot mean; NaN where that is 0.
        better_images: images whose IoU rose.
    """

    base: str
    absolute: Mapping[str, float]
    relative: Mapping[str, float]
    better_images: int


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        model: label.
        role: what it is.
        prompt: the prompt kind.
        images: images it is over.
        objects: objects on them.
        mean: metric to its mean over images.
        std: metric to its population standard deviation over images.
        gain: against zero-shot; None for what is not tuned.
    """

    model: str
    role: Role
    prompt: str
    images: int
    objects: int
    mean: Mapping[str, float]
    std: Mapping[str, float]
    gain: Gain | None = None

    @property
    def title(self) -> str:
        """The label, with what the model is."""
        return f"{self.model} ({self.role})" if self.role in ("zero-shot", "tuned") else self.model


def summarise(rows: Sequence[Row], bases: Mapping[str, str]) -> tuple[Line, ...]:
    """The lines of ``rows``, in the order in which their models and prompts appear.

    Args:
        rows: of all models, prompts and images.
        bases: label of a tuned model to the label of its zero-shot model.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.model, row.prompt), []).append(row)
    means = {key: {metric: _values(mine, metric).mean() for metric in METRICS} for key, mine in groups.items()}
    lines = []
    for (model, prompt), mine in groups.items():
        base = bases.get(model)
        before = groups.get((base, prompt)) if base is not None else None
        gain = None
        if base is not None and before is not None:
            gain = _gain(base, means[base, prompt], means[model, prompt], before, mine)
        lines.append(
            Line(
                model=model,
                role=mine[0].role,
                prompt=prompt,
                images=len(mine),
                objects=sum(row.objects for row in mine),
                mean={metric: float(means[model, prompt][metric]) for metric in METRICS},
                std={metric: float(_values(mine, metric).std()) for metric in METRICS},
                gain=gain,
            )
        )
    return tuple(lines)


def _values(rows: Sequence[Row], metric: str) -> np.ndarray:
    return np.array([getattr(row, metric) for row in rows], np.float64)


def _gain(
    base: str, before: Mapping[str, float], after: Mapping[str, float], rows_before: list[Row], rows_after: list[Row]
) -> Gain:
    absolute = {metric: float(after[metric] - before[metric]) for metric in METRICS}
    relative = {
        metric: absolute[metric] / float(before[metric]) if before[metric] > 0 else float("nan") for metric in METRICS
    }
    iou_before = {row.image: row.iou for row in rows_before}
    better = sum(row.iou > iou_before[row.image] for row in rows_after)
    return Gain(base, absolute, relative, better)


def table_text(lines: Sequence[Line]) -> str:
    """The lines as a plain-text table.

    >>> row = Row("a.png", "test", "tiny", "zero-shot", "box", 1, 0.5, 0.66, 0.9, 0.52)
    >>> print(table_text(summarise([row], {})))
    model             prompt  IoU            Dice           precision      recall         IoU gained
    tiny (zero-shot)  box     0.500 ± 0.000  0.660 ± 0.000  0.900 ± 0.000  0.520 ± 0.000
    """
    head = ["model", "prompt", *(METRIC_TITLES[metric] for metric in METRICS), "IoU gained"]
    body = [
        [
            line.title,
            line.prompt or "–",
            *(f"{line.mean[metric]:.3f} ± {line.std[metric]:.3f}" for metric in METRICS),
            gain_text(line),
        ]
        for line in lines
    ]
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *body]
    )


def gain_text(line: Line) -> str:
    """The gain of a tuned line in words and figures; nothing for other lines."""
    if line.gain is None:
        return ""
    relative = line.gain.relative["iou"]
    percent = "" if np.isnan(relative) else f" ({100 * relative:+.1f} %)"
    return f"{line.gain.absolute['iou']:+.3f}{percent}, better on {line.gain.better_images} of {line.images}"
