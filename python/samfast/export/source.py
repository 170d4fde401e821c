"""What can be exported: a run, a model by name, or a loaded model, opened alike."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from samfast.errors import ConfigError
from samfast.inference.contract import OutputContract
from samfast.models.architecture import MODEL_NAMES
from samfast.models.checkpoints import load_model
from samfast.models.sam import MASK_TOKENS, Sam
from samfast.train.run import Run


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        sam: on the CPU, float32.
        contract: the mask tokens its training has taught.
        out: where it goes by default, without a suffix.
        classes: what was annotated in its training data.
        run: what the fine-tune was; None for a base model.
        images: of the fine-tune, by set.
        metrics: of the fine-tune, a dict an epoch.
        report: of an evaluation of the fine-tune on its test set, as ``report.json`` has it; None if there is none.
    """

    sam: Sam
    contract: OutputContract
    out: Path
    classes: tuple[str, ...] = ()
    run: dict[str, Any] | None = None
    images: dict[str, int] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] | None = None

    def require_official(self) -> None:
        """Raise :class:`ConfigError` unless the weights are of the official models' shape."""
        if self.contract.classes:
            raise ConfigError(
                f"{self.out.name} has a mask token for each of its {len(self.contract.classes)} classes, and this"
                f" format holds the official models' {MASK_TOKENS} tokens, which answer prompts",
                where="format",
                fix="export it as ONNX (export_onnx) or as a decoder alone (export_decoder), which hold any number",
            )

    def place(self, out: str | Path | None, suffix: str) -> Path:
        """``out``, or the default place with a suffix."""
        return self.out.with_name(self.out.name + suffix) if out is None else Path(out).expanduser()


def open_source(model: Run | Sam | str | Path, checkpoint: str | Path | None) -> Source:
    """Load what is to be exported.

    Args:
        model: a run or its folder; the name of a model; or a loaded model.
        checkpoint: of the base model; for a run, the one it was started with by default.

    Raises:
        ConfigError: there is no such model, or it is decoder-only.
        RunError: there is no such run, or it has no weights.
        CheckpointError: the base model's checkpoint is missing, damaged, or not the one the run was trained on.
    """
    if isinstance(model, Sam):
        if model.image_encoder is None:
            raise ConfigError(
                f"this {model.name} is decoder-only, and what is exported holds the encoder as well",
                where="model",
                fix="pass the run, or the name of the model and its checkpoint",
            )
        return Source(_on_cpu(model), OutputContract(), Path(model.name))
    if isinstance(model, str) and model in MODEL_NAMES:
        return Source(load_model(model, checkpoint=checkpoint), OutputContract(), Path(model))
    run = model if isinstance(model, Run) else _open_run(model)
    dataset, checkpoint_file = run.dataset_info, run.record["encoder"]["checkpoint"]
    return Source(
        sam=run.sam(checkpoint=checkpoint),
        contract=run.contract,
        out=run.path.with_name(run.name),
        classes=tuple(dataset["classes"]),
        run={
            "name": run.name,
            "epoch": run.selected_epoch,
            "config": run.record["config"],
            "checkpoint": None if checkpoint_file is None else Path(checkpoint_file).name,
            "annotation_hash": dataset["annotation_hash"],
            "target_kind": dataset["target_kind"],
            "split_origin": dataset["split_origin"],
        },
        images={split: len(names) for split, names in dataset["splits"].items()},
        metrics=run.metrics,
        report=_read_report(run),
    )


def _read_report(run: Run) -> dict[str, Any] | None:
    """The report in the run's folder, if it judges these weights on the test set."""
    try:
        report: dict[str, Any] = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
        judges = any(
            each["kept_epoch"] == run.selected_epoch and each["config"] == run.record["config"]
            for each in report["models"]
        )
        return report if judges and report["asked"]["on"] == "test" else None
    except (OSError, ValueError, KeyError):
        return None


def _open_run(path: str | Path) -> Run:
    if not Path(path).expanduser().exists():
        raise ConfigError(
            f"{str(path)!r} is neither a model nor a run",
            where="model",
            fix=f"pass a run's folder, or one of {', '.join(MODEL_NAMES)}",
        )
    return Run(Path(path).expanduser())


def _on_cpu(sam: Sam) -> Sam:
    """``sam`` itself where it can be traced as it is, a copy otherwise: the caller's model stays where it is."""
    is_ready = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in sam.parameters())
    return sam if is_ready else copy.deepcopy(sam).to("cpu", torch.float32)
