"""One cell: trained, judged on the val set, and what came of it kept beside the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samfast.cache import EmbeddingCache
from samfast.cache.outputs import write_output
from samfast.data import Dataset
from samfast.errors import RunError
from samfast.inference.contract import NO_PROMPT
from samfast.inference.prompt_kinds import prompt_kind
from samfast.train.run import Run

CELL_JSON = "cell.json"


@dataclass(frozen=True)
class Judging:
    """How every cell is judged, whatever it was trained on.

    Attributes:
        prompts: the prompt kinds.
        selection: which mask token answers.
        seed: of the prompts.
    """

    prompts: tuple[str, ...]
    selection: Any
    seed: int

    def record(self) -> dict[str, Any]:
        """What its figures depend on, JSON-ready; of prompts that a file gives, the content too."""
        files = {kind: prompt_kind(kind).given for kind in self.prompts if kind != NO_PROMPT}
        hashes = {kind: given.sha256 for kind, given in files.items() if given is not None}
        record: dict[str, Any] = json.loads(json.dumps({**asdict(self), "files": hashes}))
        return record


@dataclass(frozen=True)
class Found:
    """What came of a cell.

    Attributes:
        val: prompt kind to the IoU on the val set, mean over images.
        epoch: whose weights were kept.
        seconds: that training took, validation included.
    """

    val: dict[str, float]
    epoch: int
    seconds: float


def train_cell(
    path: Path,
    given: dict[str, Any],
    dataset: Dataset,
    cache: EmbeddingCache,
    judging: Judging,
    *,
    checkpoint: str | Path | None,
    device: str,
) -> Found:
    """Train a cell, or go on with it, and judge it.

    Raises:
        SamfastError: training or judging says why it cannot.
    """
    from samfast.evaluation import evaluate
    from samfast.train.loop import train_decoder

    run = train_decoder(
        dataset, cache=cache, checkpoint=checkpoint, out=path, device=device, keep_finished=True, **given
    )
    report = evaluate(
        run.segmenter(device=device, encoder=False),
        dataset,
        on="val",
        cache=cache,
        baselines=False,
        device=device,
        **asdict(judging),
    )
    seconds = sum(line.get("seconds", 0.0) + line.get("val_seconds", 0.0) for line in run.metrics)
    val = {line.prompt: line.mean["iou"] for line in report.summary if line.prompt in judging.prompts}  # not by class
    found = Found(val, run.selected_epoch, round(seconds, 3))
    content = {"judging": judging.record(), "found": asdict(found)}
    write_output(path / CELL_JSON, json.dumps(content, indent=1).encode())
    return found


def finished_cell(path: Path, judging: Judging) -> Found | None:
    """What an earlier sweep found in the cell at ``path``, if it finished it and judged it the same way."""
    try:
        content = json.loads((path / CELL_JSON).read_text(encoding="utf-8"))
        same = content["judging"] == judging.record()
        return Found(**content["found"]) if same and Run(path).is_finished else None
    except (OSError, ValueError, KeyError, TypeError, RunError):
        return None
