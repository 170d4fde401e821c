"""The report's figures, as SVG that stands in a page by itself: no fonts, scripts or addresses from elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from samfast.errors import RuntimeUnavailableError
from samfast.evaluation.rows import Line, Row

try:
    import matplotlib
    from matplotlib.figure import Figure
except ImportError as error:
    raise RuntimeUnavailableError(
        f"the report's figures need a package that is not there: {error}", fix="pip install 'samfast[train]'"
    ) from error

INK = "#1f2933"
FAINT = "#7b8794"
GRID = "#e4e7eb"
BEFORE = "#9aa5b1"
AFTER = ("#1f6feb", "#d9480f", "#2b8a3e", "#9c36b5", "#0b7285", "#c2255c")
"""Colours of tuned models, in the order of the table."""

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
}
BINS = np.linspace(0.0, 1.0, 21)


def bars(lines: Sequence[Line], colours: Mapping[str, str]) -> str:
    """Mean IoU of every model by prompt, with its spread over images, beside floors and ceiling."""
    models = [line for line in lines if line.prompt]
    marks = [line for line in lines if not line.prompt]
    prompts = list(dict.fromkeys(line.prompt for line in models))
    height = 0.75 + 0.3 * len(models) + 0.28 * len(prompts) + 0.2 * len(marks)
    with matplotlib.rc_context(STYLE):
        figure = Figure((7.2, height), layout="constrained")
        axes = figure.subplots()
        position, ticks, names = 0.0, [], []
        for prompt in prompts:
            axes.text(0.0, position + 0.2, f"by {prompt}", fontsize=9, fontweight="bold", color=INK, va="bottom")
            for line in (line for line in models if line.prompt == prompt):
                position += 1.0
                mean, std = line.mean["iou"], line.std["iou"]
                axes.barh(position, mean, 0.74, color=colours[line.model])
                axes.plot(
                    [max(mean - std, 0.0), min(mean + std, 1.0)], [position, position], color=INK, lw=1, alpha=0.55
                )
                axes.text(1.015, position, f"{mean:.3f}", va="center", fontsize=8.5, color=INK)
                ticks.append(position)
                names.append(_plain_text(line.title))
            position += 1.5
        for number, line in enumerate(marks):
            style = "--" if line.role == "floor" else ":"
            mean = line.mean["iou"]
            axes.axvline(mean, color=INK, lw=1.1, ls=style, alpha=0.8, ymax=1.0)
            row = position + 0.1 + 0.75 * number
            right = mean < 0.6
            axes.text(
                mean + (0.012 if right else -0.012),
                row,
                f"{line.model} {mean:.3f}",
                ha="left" if right else "right",
                va="center",
                fontsize=8,
                color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
            )
        axes.set(
            xlim=(0, 1), ylim=(position + 0.1 + 0.75 * len(marks), -0.7), yticks=ticks, xlabel="mean IoU over images"
        )
        axes.set_yticks(ticks, names, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        return _svg(figure, "bars")


def histograms(rows: Sequence[Row], pairs: Sequence[tuple[str | None, str]], colours: Mapping[str, str]) -> str:
    """Per-image IoU of each pair of models, by prompt, before and after."""
    prompts = list(dict.fromkeys(row.prompt for row in rows if row.prompt))
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.model, row.prompt), []).append(row.iou)
    with matplotlib.rc_context(STYLE):
        figure = Figure((3.6 * max(2, len(prompts)), 2.45 * len(pairs)), layout="constrained")
        handles: dict[str, Any] = {}
        grid = figure.subplots(len(pairs), len(prompts), squeeze=False, sharey="row")
        for (base, model), row_of_axes in zip(pairs, grid, strict=True):
            for prompt, axes in zip(prompts, row_of_axes, strict=True):
                for label in (base, model):
                    if label is None or (label, prompt) not in values:
                        continue
                    mine = np.array(values[label, prompt])
                    *_, filled = axes.hist(mine, BINS, color=colours[label], alpha=0.55)
                    handles.setdefault(_plain_text(label), filled[0])
                    axes.hist(mine, BINS, color=colours[label], histtype="step", lw=1.3)
                    axes.axvline(float(mine.mean()), color=colours[label], lw=1.4, ls="--")
                axes.set(xlim=(0, 1), xlabel="IoU of an image", title=f"by {prompt}")
                axes.yaxis.get_major_locator().set_params(integer=True)
            row_of_axes[0].set_ylabel("images")
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=3)
        return _svg(figure, "histograms")


def curves(metrics: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """Training loss and validation IoU over a run's epochs; None if the run has recorded neither."""
    epochs = [float(entry.get("epoch", number + 1)) for number, entry in enumerate(metrics)]
    losses, ious = _series(metrics, "loss"), _series(metrics, "val_iou", "val_iou_")
    if not losses or not ious or not epochs:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure((7.2, 2.5), layout="constrained")
        for axes, series, title in zip(figure.subplots(1, 2), (losses, ious), ("loss", "IoU"), strict=True):
            for number, (key, values) in enumerate(series.items()):
                colour = AFTER[number % len(AFTER)]
                known = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if isfinite(value)]
                label = _plain_text(_spoken(key))
                axes.plot(*zip(*known, strict=True), color=colour, lw=1.6, marker="o", ms=2.6, label=label)
            axes.set(xlabel="epoch", title=title)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best")
        return _svg(figure, f"curves {name}")


def _series(metrics: Sequence[Mapping[str, Any]], name: str, prefix: str | None = None) -> dict[str, list[float]]:
    """The figures called ``name``, or that begin with ``prefix``, by epoch; NaN where an epoch has none."""
    names = dict.fromkeys(key for epoch in metrics for key in epoch)
    chosen = [key for key in names if key == name or (prefix is not None and key.startswith(prefix))]
    return {
        key: [float("nan") if (value := epoch.get(key)) is None else float(value) for epoch in metrics]
        for key in chosen
    }


def _spoken(key: str) -> str:
    """A key of a run's figures in words.

    >>> _spoken("val_iou_box"), _spoken("val_iou"), _spoken("loss")
    ('validation, by box', 'validation', 'training')
    """
    words = key.split("_")
    where = "validation" if "val" in words else "training"
    rest = [word for word in words if word not in ("val", "train", "loss", "iou")]
    return where + (f", by {' '.join(rest)}" if rest else "")


def _plain_text(text: str) -> str:
    """Text that matplotlib does not read as mathematics, of a length that fits."""
    text = text if len(text) <= 42 else f"{text[:20]}…{text[-20:]}"
    return text.replace("$", r"\$")


def _svg(figure: Figure, salt: str) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return _unique_ids(svg, re.sub(r"\W", "", salt))


def _unique_ids(svg: str, prefix: str) -> str:
    """Ids of several figures in one page must differ."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'((?:xlink:)?href=)"#([^"]+)"', rf'\1"#{prefix}-\2"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
