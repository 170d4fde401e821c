"""What people look at first: how much there is, how large, how much of it is foreground, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from samfast.data.parallel import parallel_map
from samfast.data.types import SPLITS, AnnotationState, Problem, Sample

if TYPE_CHECKING:
    from samfast.data.dataset import Dataset

SHOWN_NAMES = 4
SHOWN_CLASSES = 25
BLOCKS = "▁▂▃▄▅▆▇█"
BINS = 20
KIND_WORDS = {
    "instance": "each annotated object",
    "component": "each connected piece of a class",
    "class": "all of a class in the image",
}


@dataclass(frozen=True)
class ClassStatistics:
    """One class of a data set.

    Attributes:
        objects: target masks.
        images: images with at least one.
        median_area_px: of its masks.
    """

    objects: int
    images: int
    median_area_px: float


@dataclass(frozen=True)
class Statistics:
    """A data set in figures. Arrays over images leave out those without annotation.

    Attributes:
        counts: set to annotation state to number of images.
        heights: ``(I,)`` int64 in pixels, all images.
        widths: ``(I,)`` int64 in pixels, all images.
        foreground: ``(A,)`` float64, share of the pixels that are not ignored that lie in any mask, annotated images.
        ignored: number of images with ignored pixels.
        pieces: ``(A,)`` int64, connected pieces (8 neighbours) of all foreground together.
        objects: ``(A,)`` int64, target masks.
        object_areas_px: ``(O,)`` int64.
        classes: by name.
    """

    counts: Mapping[str, Mapping[str, int]]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    foreground: NDArray[np.float64]
    ignored: int
    pieces: NDArray[np.int64]
    objects: NDArray[np.int64]
    object_areas_px: NDArray[np.int64]
    classes: Mapping[str, ClassStatistics]


def measure(dataset: Dataset) -> Statistics:
    """Measure all targets of a data set, one image at a time."""

    def read(sample: Sample) -> tuple[float, bool, int, NDArray[np.int64], NDArray[np.int64]]:
        target = dataset.target(sample)
        pixels = sample.size[0] * sample.size[1]
        ignored = int(target.ignore.area()[0])
        share, pieces = 0.0, 0
        if len(target.masks):
            union = target.masks.union()
            share = int(union.area()[0]) / max(1, pixels - ignored)
            pieces = len(union.components()[0])
        return share, ignored > 0, pieces, target.masks.area(), target.classes

    annotated = [sample for sample in dataset.samples if sample.state != "missing"]
    found = list(parallel_map(read, annotated, "Measuring the annotations"))
    areas = np.concatenate([one[3] for one in found]) if found else np.zeros(0, np.int64)
    labels = np.concatenate([one[4] for one in found]) if found else np.zeros(0, np.int64)
    return Statistics(
        counts={
            split: {state: len(dataset.of(split, state=state)) for state in get_args(AnnotationState)}
            for split in SPLITS
        },
        heights=np.array([sample.size[0] for sample in dataset.samples], np.int64),
        widths=np.array([sample.size[1] for sample in dataset.samples], np.int64),
        foreground=np.array([one[0] for one in found], np.float64),
        ignored=sum(one[1] for one in found),
        pieces=np.array([one[2] for one in found], np.int64),
        objects=np.array([len(one[3]) for one in found], np.int64),
        object_areas_px=areas,
        classes={
            name: ClassStatistics(
                int((labels == number).sum()),
                sum(bool((one[4] == number).any()) for one in found),
                float(np.median(areas[labels == number])) if (labels == number).any() else float("nan"),
            )
            for number, name in enumerate(dataset.classes)
        },
    )


def describe(dataset: Dataset) -> str:
    """The text of ``samfast data ROOT``: layout, sets, statistics, and what is wrong."""
    found = dataset.statistics()
    blocks = [_heading(dataset), _sets(dataset, found), _figures(dataset, found)]
    if len(dataset.classes) > 1:
        blocks.append(_classes(found))
    blocks.append(_problems(dataset.problems))
    return "\n\n".join(blocks)


def _heading(dataset: Dataset) -> str:
    count = len(dataset.classes)
    names = ", ".join(dataset.classes[:6]) + (", ..." if count > 6 else "")
    return "\n".join(
        (
            f"{dataset.root.resolve().name}: {dataset.layout}",
            f"  because  {dataset.why}",
            f"  target   {dataset.target_kind}: one mask is {KIND_WORDS[dataset.target_kind]}",
            f"  classes  {count}: {names}",
        )
    )


def _sets(dataset: Dataset, found: Statistics) -> str:
    rows: list[list[str]] = [["", "images", "labelled", "empty", "no mask"]]
    total = [0, 0, 0]
    for split in SPLITS:
        states = list(found.counts[split].values())
        total = [a + b for a, b in zip(total, states, strict=True)]
        rows.append([split, *(str(number) for number in (sum(states), *states))])
    rows.append(["all", *(str(number) for number in (sum(total), *total))])
    origin = (
        "given by the data"
        if dataset.split_origin == "given"
        else f"made automatically, seed {dataset.options['seed']}"
    )
    groups = len({sample.group for sample in dataset.samples})
    grouped = f", {groups} groups kept together" if groups < len(dataset) else ""
    note = f" ({dataset.split_note})" if dataset.split_note else ""
    return f"Sets {origin}{note}{grouped}\n{_table(rows)}"


def _figures(dataset: Dataset, found: Statistics) -> str:
    rows = [["", "min", "25 %", "median", "75 %", "max", "mean", ""]]
    rows.append(_row("width, px", found.widths))
    rows.append(_row("height, px", found.heights))
    rows.append(_row("megapixels", found.widths * found.heights / 1e6, digits=2))
    rows.append([*_row("foreground, %", 100 * found.foreground, digits=1), _histogram(found.foreground)])
    rows.append(_row("pieces an image", found.pieces, digits=1))
    if dataset.target_kind == "instance":
        rows.append(_row("objects an image", found.objects, digits=1))
    name = "area of one object, px" if dataset.target_kind != "class" else "area of one mask, px"
    rows.append(_row(name, found.object_areas_px))
    lines = ["Figures", _table(rows)]
    if found.ignored:
        lines.append(f"  {found.ignored} images have ignored pixels")
    return "\n".join(lines)


def _row(name: str, values: NDArray[np.number], *, digits: int = 0) -> list[str]:
    if not len(values):
        return [name, *["-"] * 6]
    quartiles = np.percentile(values, (0, 25, 50, 75, 100))
    return [name, *(_number(value, digits) for value in (*quartiles, np.mean(values)))]


def _number(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}".replace(",", " ")
    return text.rstrip("0").rstrip(".") if "." in text and float(value).is_integer() else text


def _histogram(shares: NDArray[np.float64]) -> str:
    """Shares between 0 and 1 as a line of blocks."""
    counts, _ = np.histogram(shares, BINS, (0, 1))
    top = max(1, counts.max())
    bars = "".join(" " if not count else BLOCKS[int((len(BLOCKS) - 1) * count / top)] for count in counts)
    return f"0 |{bars}| 100 %"


def _classes(found: Statistics) -> str:
    order = sorted(found.classes.items(), key=lambda pair: -pair[1].objects)
    present = [(name, one) for name, one in order if one.objects]
    rows = [["", "objects", "images", "median area, px"]]
    rows += [
        [name, str(one.objects), str(one.images), _number(one.median_area_px, 0)]
        for name, one in present[:SHOWN_CLASSES]
    ]
    lines = ["Classes", _table(rows)]
    rest = present[SHOWN_CLASSES:]
    if rest:
        lines.append(f"  and {len(rest)} more with {sum(one.objects for _, one in rest)} objects")
    absent = [name for name, one in order if not one.objects]
    if absent:
        lines.append(f"  without objects: {_some(absent, 8)}")
    return "\n".join(lines)


def _problems(problems: Sequence[Problem]) -> str:
    if not problems:
        return "Nothing is wrong"
    blocks = []
    for excluded, title in ((True, "Left out"), (False, "Used, but look at")):
        chosen = [problem for problem in problems if problem.excluded == excluded]
        if not chosen:
            continue
        lines = [f"{title}: {len(chosen)}"]
        for kind in dict.fromkeys(problem.kind for problem in chosen):
            group = [problem for problem in chosen if problem.kind == kind]
            lines.append(f"  {kind} ({len(group)})")
            shown = group if excluded and len(group) <= 2 * SHOWN_NAMES else group[:SHOWN_NAMES]
            lines += [f"    {problem.name}: {problem.detail}" for problem in shown]
            if len(group) > len(shown):
                lines.append(f"    and {len(group) - len(shown)} more")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _some(names: Sequence[str], limit: int) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _table(rows: Sequence[Sequence[str]]) -> str:
    """The first and the eighth column to the left, all others to the right."""
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in (0, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)
