"""What a sweep found: the cells, a row for each setting, best on the val set first, and the winner on the test set."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from samfast.cache.outputs import write_output
from samfast.evaluation.report import Report, count
from samfast.sweeps.cell import Found
from samfast.sweeps.grid import label, show

FORMAT = "samfast-sweep"
VERSION = 1
SWEEP_JSON = "sweep.json"


@dataclass(frozen=True)
class Trained:
    """A cell, and what came of it.

    Attributes:
        settings: the value of each axis.
        seed: of the training.
        fold: its number from 0; None without folds.
        path: of the run.
        found: None where it is not finished.
        error: why it failed; None if it did not.
    """

    settings: Mapping[str, Any]
    seed: int
    fold: int | None
    path: Path
    found: Found | None = None
    error: str | None = None

    @property
    def val_iou(self) -> float:
        """The mean over the prompt kinds; NaN where it is not finished."""
        return fmean(self.found.val.values()) if self.found is not None else math.nan


@dataclass(frozen=True)
class Row:
    """A setting: its cells, one a seed and fold.

    Attributes:
        settings: the value of each axis.
        cells: all of them.
    """

    settings: Mapping[str, Any]
    cells: tuple[Trained, ...]

    @property
    def finished(self) -> list[Trained]:
        """The cells with a result."""
        return [cell for cell in self.cells if cell.found is not None]

    @property
    def is_complete(self) -> bool:
        """Whether all of them have one: only then can a setting win."""
        return len(self.finished) == len(self.cells)

    @property
    def val_iou(self) -> float:
        """The mean over the finished cells; NaN if there are none."""
        return fmean([cell.val_iou for cell in self.finished]) if self.finished else math.nan

    @property
    def spread(self) -> float:
        """The sample standard deviation over the finished cells; NaN of fewer than two."""
        return stdev([cell.val_iou for cell in self.finished]) if len(self.finished) > 1 else math.nan


@dataclass(frozen=True)
class Sweep:
    """What :func:`samfast.sweep` found.

    Attributes:
        path: the folder, with ``runs/`` in it.
        asked: axes, seeds, folds, prompts and data, JSON-ready.
        cells: in the order of the matrix.
        test: the winner's runs judged on the test set, beside the untuned model; None where there is no winner, or no
            test set, or it could not be judged there.
        test_error: why it could not; None if it was, or was not to be.
    """

    path: Path
    asked: Mapping[str, Any]
    cells: tuple[Trained, ...]
    test: Report | None = None
    test_error: str | None = None

    def __repr__(self) -> str:
        return f"Sweep({str(self.path)!r}: {len(self.cells)} cells, {len(self.failed)} failed)"

    @property
    def rows(self) -> tuple[Row, ...]:
        """A row for each setting: the complete ones first, by their IoU on the val set; never by the test set."""
        groups: dict[str, list[Trained]] = {}
        for cell in self.cells:
            groups.setdefault(json.dumps(plain(cell.settings), sort_keys=True), []).append(cell)
        found = [Row(cells[0].settings, tuple(cells)) for cells in groups.values()]
        return tuple(sorted(found, key=lambda row: (not row.is_complete, not row.finished, -_or_zero(row.val_iou))))

    @property
    def winner(self) -> Row | None:
        """The best setting on the val set, of those whose cells all finished."""
        return next((row for row in self.rows if row.is_complete), None)

    @property
    def failed(self) -> tuple[Trained, ...]:
        """The cells that have no result, and say why."""
        return tuple(cell for cell in self.cells if cell.error is not None)

    @property
    def varied(self) -> list[str]:
        """The axes with more than one value."""
        return [name for name, values in self.asked["axes"].items() if len(values) > 1]

    def table(self) -> str:
        """Plain text: the rows, the failures, and the winner on the test set."""
        header, *rows = self._lines()
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        names = len(self.varied)
        text = [
            "  ".join(
                cell.ljust(width) if column < names else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (header, *rows)
        ]
        return "\n".join([self._sentence(), "", *text, *self._notes()])

    def to_markdown(self, path: str | Path) -> Path:
        """Write :meth:`table` as Markdown."""
        header, *rows = self._lines()
        names = len(self.varied)
        rule = ["---" if column < names else "--:" for column in range(len(header))]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, rule, *rows)]
        return _write(path, "\n".join([self._sentence(), "", *lines, *self._notes(), ""]))

    def to_csv(self, path: str | Path) -> Path:
        """Write one line a cell; figures with all their digits."""
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        names, kinds = list(self.asked["axes"]), self.asked["prompts"]
        writer.writerow([*names, "seed", "fold", "val_iou", *(f"val_iou_{kind}" for kind in kinds), *_OWN])
        for cell in self.cells:
            found = cell.found
            figures: list[Any] = [""] * (len(kinds) + 3)
            if found is not None:
                figures = [cell.val_iou, *(found.val[kind] for kind in kinds), found.epoch, found.seconds]
            fold = "" if cell.fold is None else cell.fold
            settings = [show(cell.settings[name]) for name in names]
            writer.writerow([*settings, cell.seed, fold, *figures, cell.path, cell.error or ""])
        return _write(path, buffer.getvalue())

    def to_json(self, path: str | Path) -> Path:
        """Write everything but the per-image rows of the test report."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "asked": self.asked,
            "rows": [
                {
                    "settings": row.settings,
                    "val_iou": row.val_iou,
                    "spread": row.spread,
                    "cells": len(row.cells),
                    "finished": len(row.finished),
                }
                for row in self.rows
            ],
            "winner": None if self.winner is None else self.winner.settings,
            "test": None if self.test is None else [asdict(line) for line in self.test.summary],
            "test_error": self.test_error,
            "cells": self.cells,
        }
        return _write(path, json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False))

    def _sentence(self) -> str:
        asked = self.asked
        settings = len(self.rows)
        over = f"{len(asked['seeds'])} seed{'s' * (len(asked['seeds']) > 1)}"
        over += f" on {asked['folds']} folds" if asked["folds"] else ""
        return (
            f"chosen on val: {settings} setting{'s' * (settings > 1)}, {over}; prompts {', '.join(asked['prompts'])};"
            f" IoU, mean ± standard deviation over {'seeds and folds' if asked['folds'] else 'seeds'}"
        )

    def _lines(self) -> list[list[str]]:
        kinds = self.asked["prompts"] if len(self.asked["prompts"]) > 1 else []
        lines = [[*self.varied, "val IoU", *kinds, "epoch", "s a run", "runs"]]
        for row in self.rows:
            done = [cell.found for cell in row.finished if cell.found is not None]
            figures = [_plus_minus(row.val_iou, row.spread)]
            figures += [_mean([one.val[kind] for one in done]) for kind in kinds]
            figures += [_mean([one.epoch for one in done], 0), _mean([one.seconds for one in done], 0)]
            runs = str(len(done)) if row.is_complete else f"{len(done)} of {len(row.cells)}"
            lines.append([*(show(row.settings[name]) for name in self.varied), *figures, runs])
        return lines

    def _notes(self) -> list[str]:
        notes = [f"failed: {label(cell, self.varied)}: {cell.error}" for cell in self.failed]
        winner = self.winner
        if winner is not None:
            best = max(winner.cells, key=lambda cell: cell.val_iou)
            named = ", ".join(f"{name}={show(winner.settings[name])}" for name in self.varied) or "the one setting"
            notes += [
                *([""] if notes else []),
                f"winner: {named}",
                *self._test_lines(),
                f"its best run on val: {best.path}",
            ]
        return ["", *notes] if notes else []

    def _test_lines(self) -> list[str]:
        if self.test_error is not None:
            return [f"could not be judged on test: {self.test_error}"]
        if self.test is None:
            return ["there is no test set to judge it on"]
        lines = []
        for kind in self.asked["prompts"]:
            of_kind = [line for line in self.test.summary if line.prompt == kind]
            tuned = [line.mean["iou"] for line in of_kind if line.role == "tuned"]
            spread = stdev(tuned) if len(tuned) > 1 else math.nan
            untuned = ", ".join(f"{line.mean['iou']:.4f}" for line in of_kind if line.role == "zero-shot")
            beside = f" (untuned {untuned})" if untuned else ""
            figure = _plus_minus(fmean(tuned), spread)
            lines.append(f"on test, {count(self.test.asked.images, 'image')}, {kind}: {figure}{beside}")
        return lines


_OWN = ("epoch", "seconds", "path", "error")


def plain(value: Any) -> Any:
    """JSON-ready: what is not finite is None, what JSON does not know is text."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _mean(values: Sequence[float], digits: int = 4) -> str:
    return f"{fmean(values):.{digits}f}" if values else ""


def _plus_minus(mean: float, spread: float) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.4f}" if math.isnan(spread) else f"{mean:.4f} ± {spread:.4f}"


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _write(path: str | Path, text: str) -> Path:
    path = Path(path).expanduser()
    write_output(path, text.encode("utf-8", "surrogateescape"))
    return path
