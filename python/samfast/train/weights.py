"""The weights a run keeps: the best epoch's, the last one's, and those of the ``keep`` best judged epochs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from samfast.errors import CheckpointError, ConfigError, RunError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "samfast-weights"
BEST = "best.safetensors"
LAST = "last.safetensors"
CHECKPOINTS = "checkpoints"
"""The folder of the best judged epochs."""

AGAIN = "start it again with the same arguments: it continues where it stopped"


@dataclass(frozen=True)
class Kept:
    """One of the best judged epochs.

    Attributes:
        epoch: its number.
        val_iou: of its weights.
        path: of its weights.
    """

    epoch: int
    val_iou: float
    path: Path


def checkpoint_name(line: Mapping[str, Any]) -> str:
    """The file of a judged epoch, below the run's folder.

    >>> checkpoint_name({"epoch": 7, "val_iou": 0.81234})
    'checkpoints/epoch-0007-iou-0.8123.safetensors'
    """
    return f"{CHECKPOINTS}/epoch-{line['epoch']:04}-iou-{line['val_iou']:.4f}.safetensors"


def best_epochs(metrics: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The ``count`` best of the judged epochs, the best one first; of equals the earlier one.

    >>> best_epochs([{"epoch": 0, "val_iou": 0.5}, {"epoch": 1}, {"epoch": 2, "val_iou": 0.5}], 1)
    [{'epoch': 0, 'val_iou': 0.5}]
    """
    judged = [line for line in metrics if "val_iou" in line]
    return sorted(judged, key=lambda line: (-line["val_iou"], line["epoch"]))[:count]


def to_bytes(weights: Mapping[str, Tensor], record: Mapping[str, Any], line: Mapping[str, Any]) -> bytes:
    """A safetensors file of weights, with what they belong to in its metadata.

    Args:
        weights: of the prompt encoder and mask decoder.
        record: what ``run.json`` says.
        line: the metrics of their epoch.
    """
    import torch
    from safetensors.torch import save

    tensors = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in weights.items()}
    about = {
        "format": FORMAT,
        "model": record["model"],
        "encoder": record["encoder"]["fingerprint"],
        "decoder": record["encoder"]["decoder"],
        "contract": json.dumps(record["contract"]),
        "epoch": str(line["epoch"]),
    }
    figures = {name: repr(value) for name, value in line.items() if name.startswith("val_iou")}
    return save(tensors, metadata={**about, **figures})


def find_weights(folder: Path, which: str | int) -> Path:
    """The file of some weights of a run; it need not be there.

    Args:
        folder: the run's.
        which: ``"best"``, ``"last"``, or the number of a kept epoch.

    Raises:
        ConfigError: there are no such weights.
    """
    if which in ("best", "last"):
        return folder / (BEST if which == "best" else LAST)
    kept = {each.epoch: each.path for each in list_kept(folder)}
    if which not in kept:
        epochs = ", ".join(str(epoch) for epoch in sorted(kept)) or "none: train with keep=3 to keep the three best"
        raise ConfigError(
            f"which={which!r} are no weights of this run",
            where=folder,
            fix=f"choose 'best', 'last', or a kept epoch ({epochs})",
        )
    return kept[int(which)]


def list_kept(folder: Path) -> tuple[Kept, ...]:
    """The kept epochs of a run, the best one first."""
    found = []
    for path in (folder / CHECKPOINTS).glob("epoch-*-iou-*.safetensors"):
        epoch, _, iou = path.stem.removeprefix("epoch-").partition("-iou-")
        found.append(Kept(int(epoch), float(iou), path))
    return tuple(sorted(found, key=lambda each: (-each.val_iou, each.epoch)))


def read_weights(path: Path, record: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights of a run, and what their file says of itself.

    Args:
        path: of the file.
        record: what the run's ``run.json`` says.

    Raises:
        RunError: they are missing or damaged.
        CheckpointError: they belong to another base model than the run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = dict(file.metadata() or {})
    except FileNotFoundError:
        raise RunError("this run has no weights yet", where=path, fix=AGAIN) from None
    except (SafetensorError, OSError) as error:
        raise RunError(f"the run's weights are damaged: {error}", where=path, fix="train again") from None
    base = {"model": record["model"], "encoder": record["encoder"]["fingerprint"]}
    base["decoder"] = record["encoder"]["decoder"]
    if differing := [name for name, value in base.items() if about.get(name) != value]:
        raise CheckpointError(
            f"these weights were tuned from another base model than this run's: {', '.join(differing)} differ",
            where=path,
            fix="put the run's own file back, or open the run that they came from",
        )
    return tensors, about
