"""The report: rows, summary and everything that was asked, as a table, CSV, JSON and one self-contained page."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import samfast
from samfast.cache.outputs import write_output
from samfast.data.types import Problem
from samfast.evaluation.cases import Case
from samfast.evaluation.rows import Line, Row, table_text
from samfast.inference.contract import NO_PROMPT

FORMAT = "samfast-report"
VERSION = 1

TARGET_KINDS = {
    "instance": "instance: one annotated object",
    "component": "component: one connected piece of a class mask",
    "class": "class: all of a class in the image, in however many pieces",
}
WITHOUT_PROMPTS = "none: no prompt; all of each class, mean over the classes that an image holds or that were answered"
SELECTIONS = {
    "single": "single: mask token 0 answers every prompt",
    "best-predicted": "best-predicted: a lone point is answered by the multimask token of the highest predicted IoU",
}


@dataclass(frozen=True)
class Asked:
    """What was asked of every model.

    Attributes:
        data: the data set's folder.
        on: the set judged on.
        caveat: what keeps the runs' figures from being those of unseen data of the kind they were trained on, or "".
        split_origin: ``"given"`` by the data, or ``"automatic"``.
        target_kind: what one mask stands for.
        classes: of the data set.
        prompts: prompt kinds.
        selection: which mask token answers.
        seed: of the prompts.
        images: images with an object to ask for.
        objects: objects asked for.
        empty_images: annotated images that hold no object.
        missing_images: images without annotation.
        hidden_objects: objects that lie wholly in ignored regions.
    """

    data: str
    on: str
    caveat: str
    split_origin: str
    target_kind: str
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    selection: str
    seed: int
    images: int = 0
    objects: int = 0
    empty_images: int = 0
    missing_images: int = 0
    hidden_objects: int = 0

    def sentence(self) -> str:
        """All of it in one line."""
        caveat = f", {self.caveat}" if self.caveat else ""
        return (
            f"judged on {self.on}{caveat}: {count(self.images, 'image')}, {count(self.objects, 'object')};"
            f" split {'given by the data' if self.split_origin == 'given' else 'made automatically'};"
            f" target {self.target_kind}; selection {self.selection}; prompt seed {self.seed}"
        )


@dataclass(frozen=True)
class Judged:
    """One model that was judged.

    Attributes:
        label: as the table shows it.
        role: see :data:`~samfast.evaluation.rows.Role`.
        base: label of its zero-shot model.
        trained_parameters: parameters its training moved; None where that is not known.
        parameters: all of its parameters, image encoder included; None where that is not known.
        embeddings: where they came from.
        metrics: a run's figures, one dict an epoch.
        config: a run's settings.
        kept_epoch: the epoch whose weights a run kept; 0 is the untuned model.
        path: the run or bundle.
    """

    label: str
    role: str
    base: str | None
    trained_parameters: int | None
    parameters: int | None
    embeddings: str
    metrics: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, Any] | None = None
    kept_epoch: int | None = None
    path: str | None = None

    def epoch_text(self) -> str:
        """Which weights a run kept, or nothing."""
        if self.kept_epoch is None:
            return ""
        last = max((entry.get("epoch", 0) for entry in self.metrics), default=0)
        if self.kept_epoch == 0:
            return f"no epoch of {last} was better on the val set than the untuned model, which was kept"
        return f"weights of epoch {self.kept_epoch} of {last}, the best on the val set"

    def trained_text(self) -> str:
        """The trained parameters in number and percent, or nothing.

        >>> Judged("a", "tuned", None, 4_058_340, 93_735_472, "").trained_text()
        '4,058,340 of 93,735,472 parameters trained (4.33 %)'
        """
        if self.trained_parameters is None or not self.parameters:
            return ""
        percent = 100 * self.trained_parameters / self.parameters
        return f"{self.trained_parameters:,} of {self.parameters:,} parameters trained ({percent:.2f} %)"


@dataclass(frozen=True)
class Report:
    """What :func:`~samfast.evaluation.evaluate` found.

    Attributes:
        rows: one an image, model and prompt.
        summary: the lines of the table.
        asked: what was asked.
        judged: the models.
        problems: what is wrong with the data.
        cases: the worst images, drawn.
        environment: versions and machine.
    """

    rows: tuple[Row, ...]
    summary: tuple[Line, ...]
    asked: Asked
    judged: tuple[Judged, ...]
    problems: tuple[Problem, ...]
    cases: tuple[Case, ...]
    environment: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Report({self.asked.sentence()})"

    def line(self, model: str, prompt: str) -> Line:
        """The table's line of a model and prompt.

        Raises:
            KeyError: there is none.
        """
        for line in self.summary:
            if (line.model, line.prompt) == (model, prompt):
                return line
        raise KeyError((model, prompt))

    def table(self) -> str:
        """Plain text: what was asked, mean ± std over images of every model and prompt, trained parameters."""
        texts = [(each.label, text) for each in self.judged for text in (each.trained_text(), each.epoch_text())]
        trained = [f"{label}: {text}" for label, text in texts if text]
        lines = [
            self.asked.sentence(),
            "mean ± standard deviation over images, at original resolution",
            "",
            table_text(self.summary),
        ]
        excluded = sum(problem.excluded for problem in self.problems)
        classes = [WITHOUT_PROMPTS] if NO_PROMPT in self.asked.prompts else []
        notes = classes + trained + ([f"{count(excluded, 'file')} of the data set left out"] if excluded else [])
        return "\n".join([*lines, *([""] if notes else []), *notes])

    def to_csv(self, path: str | Path) -> Path:
        """Write one line an image, model and prompt; figures with all their digits."""
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        names = [field.name for field in fields(Row)]
        writer.writerow(names)
        for row in self.rows:
            values = (getattr(row, name) for name in names)
            writer.writerow(["" if isinstance(value, float) and math.isnan(value) else value for value in values])
        return _write(path, buffer.getvalue())

    def to_json(self, path: str | Path) -> Path:
        """Write everything but the pictures; what is not a number is null."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "asked": asdict(self.asked),
            "summary": [asdict(line) for line in self.summary],
            "models": [asdict(each) for each in self.judged],
            "rows": [asdict(row) for row in self.rows],
            "problems": [asdict(problem) for problem in self.problems],
            "environment": dict(self.environment),
        }
        return _write(path, json.dumps(_plain(content), indent=1, allow_nan=False, ensure_ascii=False))

    def to_html(self, path: str | Path) -> Path:
        """Write one page that holds everything: no other file, no network.

        Raises:
            RuntimeUnavailableError: jinja2 or matplotlib is not installed.
        """
        from samfast.evaluation.page import render

        return _write(path, render(self))


def environment() -> dict[str, str]:
    """Versions and machine, for the report's foot."""
    import os
    import sys

    found = {
        "samfast": samfast.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "system": platform.platform(),
        "CPU cores": str(os.cpu_count()),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["PyTorch"] = str(torch.__version__)
        if torch.cuda.is_available():
            found["GPU"] = torch.cuda.get_device_name()
    onnxruntime = sys.modules.get("onnxruntime")
    if onnxruntime is not None:
        found["ONNX Runtime"] = str(onnxruntime.__version__)
    return found


def count(number: int, unit: str) -> str:
    """A number with its unit.

    >>> count(1, "image"), count(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _write(path: str | Path, text: str) -> Path:
    path = Path(path).expanduser()
    write_output(path, text.encode("utf-8", "surrogateescape"))
    return path


def _plain(value: Any) -> Any:
    """JSON-ready: tuples as lists, NumPy numbers as Python's, NaN and infinities as None, anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
