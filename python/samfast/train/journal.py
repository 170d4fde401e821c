"""What a run tells people and tools: ``run.log`` line by line, ``training_metrics.json`` as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samfast.errors import RunError
from samfast.progress import say
from samfast.train.weights import best_epochs

LOG = "run.log"
SUMMARY = "training_metrics.json"


class Journal:
    """``run.log``: what was said while the run trained, each line with its time (UTC), over all its interruptions.

    Args:
        path: of the file. It is appended to, and every line is written through.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, text: str) -> None:
        """Tell the person who waits, and the log.

        Raises:
            RunError: the log cannot be written.
        """
        say(text)
        self.note(text)

    def note(self, text: str) -> None:
        """Tell the log alone.

        Raises:
            RunError: the log cannot be written.
        """
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = "".join(f"{time}  {line}\n" for line in text.splitlines())
        try:
            with self._path.open("ab+") as file:
                file.seek(max(file.tell() - 1, 0))
                cut_off = file.read(1) not in (b"", b"\n")  # by a process that was killed, or a full disk
                file.write(b"\n" * cut_off + lines.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise RunError(f"the log cannot be written: {error.strerror}", where=self._path) from None


def summary(record: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], *, state: str) -> dict[str, Any]:
    """The content of ``training_metrics.json``.

    Args:
        record: what ``run.json`` says.
        metrics: a dict an epoch, epoch 0 (the untuned model) included.
        state: ``"training"`` or ``"finished"``.

    Returns:
        ``state``; ``model``, ``regime`` and ``seed``; ``planned_epochs`` or ``planned_steps``, the other 0;
        ``seconds`` of training and judging; ``untuned``, ``best`` and ``last``: the epochs of that name, ``best`` among
        the judged ones; and ``epochs``, all of them.
    """
    return {
        "state": state,
        "model": record["model"],
        "regime": record["regime"],
        "seed": record["config"]["seed"],
        "planned_epochs": record["config"]["epochs"],
        "planned_steps": record["config"]["steps"],
        "seconds": round(sum(line["seconds"] + line.get("val_seconds", 0.0) for line in metrics), 3),
        "untuned": metrics[0],
        "best": best_epochs(metrics, 1)[0],
        "last": metrics[-1],
        "epochs": list(metrics),
    }
