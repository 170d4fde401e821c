"""The run's folder while it is written: claimed, resumed, saved while it trains, never half-written.

``run.json`` says what the run is, ``config.toml`` reproduces it. ``metrics.jsonl`` holds a line an epoch,
``training_metrics.json`` all of them with what came of it, ``run.log`` what was said. ``best.safetensors`` holds the
weights that were best on the val set, ``last.safetensors`` those of the last epoch, ``checkpoints/`` those of the
``keep`` best epochs. ``resume.pt`` is there while the run is unfinished, and holds what it goes on from.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from samfast.cache.atomic import remove_stale, write_new
from samfast.errors import CacheError, OutputExistsError, RunError
from samfast.train.journal import LOG, SUMMARY, Journal, summary
from samfast.train.partial_epoch import PartialEpoch
from samfast.train.run import CONFIG, METRICS, RUN_JSON, Run, is_run
from samfast.train.weights import BEST, CHECKPOINTS, LAST, best_epochs, checkpoint_name, list_kept, to_bytes

if sys.platform != "win32":
    import fcntl

RESUME = "resume.pt"
LOCK = ".training.tmp"
"""Held by the process that trains in the folder; free, it was left behind by one that was killed."""
BUSY = "another process is training in this folder"
TEMPORARY = ".*.tmp"
"""What a process that was killed while it wrote its first file leaves behind."""

_OWN = (RUN_JSON, CONFIG, METRICS, SUMMARY, LOG, BEST, LAST, CHECKPOINTS, RESUME)
_DERIVED = ("report.*", "*.onnxbundle", "tensorboard", "wandb", "loggers.json", "cell.json")
"""What later stages and loggers put into a run's folder, and what describes other weights once the run is replaced."""


@dataclass(frozen=True)
class Progress:
    """What an interrupted run had finished.

    Attributes:
        epoch: the last finished epoch.
        partial: the next one, as far as it was trained.
        weights: of the prompt encoder and mask decoder after it.
        trainer: what the trainer goes on from after it, see :meth:`samfast.train.engine.Trainer.state`.
        metrics: a dict an epoch, epoch 0 included.
    """

    epoch: int
    partial: PartialEpoch
    weights: dict[str, Tensor]
    trainer: dict[str, Any]
    metrics: list[dict[str, Any]]


class RunFolder:
    """A run's folder, as the process that trains sees it.

    Args:
        path: of the folder.
        record: what ``run.json`` says.
        config_toml: what ``config.toml`` says.

    Attributes:
        journal: its ``run.log``.
    """

    def __init__(self, path: Path, record: dict[str, Any], config_toml: str) -> None:
        self.path = path
        self.journal = Journal(path / LOG)
        self._record = record
        self._config_toml = config_toml

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep other processes from training in it while the block runs.

        Raises:
            OutputExistsError: another process is training in it.
            RunError: the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("ab")
        except OSError as error:
            raise RunError(f"the run's folder cannot be made: {error.strerror}", where=self.path) from None
        with lock:
            if not _take(lock):
                raise OutputExistsError(BUSY, where=self.path, fix="wait for it, or choose another out")
            try:
                yield
            finally:
                (self.path / LOCK).unlink(missing_ok=True)

    def begin(self) -> None:
        """Write what the run is, or take over what an interrupted one left. To be called while :meth:`held`."""
        remove_stale(self.path)
        if self._keep:
            (self.path / CHECKPOINTS).mkdir(exist_ok=True)
            remove_stale(self.path / CHECKPOINTS)
        self._write(RUN_JSON, _json({**self._record, "state": "training"}))
        self._write(CONFIG, self._config_toml.encode())

    def save_weights(self, weights: Mapping[str, Tensor], metrics: list[dict[str, Any]]) -> bool:
        """Keep the weights of an epoch as far as they are the last, the best, or among the best.

        To be called before :meth:`save_epoch`: until then an interrupted run judges the epoch again.

        Args:
            weights: that were judged, if the epoch was.
            metrics: a dict an epoch, up to this one.

        Returns:
            whether they are the best.
        """
        content = to_bytes(weights, self._record, metrics[-1])
        self._write(LAST, content)
        is_best = best_epochs(metrics, 1)[0] is metrics[-1]
        if is_best:
            self._write(BEST, content)
        if any(line is metrics[-1] for line in best_epochs(metrics, self._keep)):
            self._write(checkpoint_name(metrics[-1]), content)
        return is_best

    def save_epoch(
        self, weights: Mapping[str, Tensor], trainer: Mapping[str, Any], metrics: list[dict[str, Any]]
    ) -> None:
        """Keep what the next epoch starts from."""
        self._write(METRICS, "".join(json.dumps(line) + "\n" for line in metrics).encode())
        self._write(SUMMARY, _json(summary(self._record, metrics, state="training")))
        self.save_progress(weights, trainer, metrics, PartialEpoch())
        kept = {checkpoint_name(line) for line in best_epochs(metrics, self._keep)}
        for each in list_kept(self.path):
            if each.path.relative_to(self.path).as_posix() not in kept:
                each.path.unlink()

    def save_progress(
        self,
        weights: Mapping[str, Tensor],
        trainer: Mapping[str, Any],
        metrics: list[dict[str, Any]],
        partial: PartialEpoch,
    ) -> None:
        """Keep what the next update starts from, in the middle of an epoch."""
        state = {
            "weights": dict(weights),
            "trainer": dict(trainer),
            "metrics": json.dumps(metrics),
            "partial": asdict(partial),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._write(RESUME, buffer.getbuffer())

    def progress(self) -> Progress | None:
        """What an interrupted run had finished; None if that is nothing.

        Raises:
            RunError: ``resume.pt`` is damaged.
        """
        path = self.path / RESUME
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            metrics = json.loads(state["metrics"])
            partial = PartialEpoch(**state["partial"])
            return Progress(metrics[-1]["epoch"], partial, state["weights"], state["trainer"], metrics)
        except Exception:  # torch.load raises whatever the damaged bytes lead it to, with advice for programmers
            raise RunError(
                "the state of the interrupted run is damaged: it cannot be read",
                where=path,
                fix="start over with overwrite=True (--overwrite)",
            ) from None

    def finish(self, metrics: list[dict[str, Any]]) -> None:
        """Mark the run as finished."""
        self._write(SUMMARY, _json(summary(self._record, metrics, state="finished")))
        self._write(RUN_JSON, _json({**self._record, "state": "finished"}))
        (self.path / RESUME).unlink(missing_ok=True)

    @property
    def _keep(self) -> int:
        return int(self._record["config"]["keep"])

    def _write(self, name: str, content: bytes | memoryview) -> None:
        try:
            write_new(self.path / name, [content])
        except CacheError as error:
            raise RunError(error.what, where=error.where, fix=error.fix) from error


def claim(
    out: str | Path | None, default: Path, record: dict[str, Any], config_toml: str, *, overwrite: bool
) -> RunFolder:
    """Find the folder of a run: a new one, or that of an interrupted run with the same arguments.

    Args:
        out: the folder asked for; None for ``default``, or ``default-2`` and so on where that is taken and not to be
            overwritten.
        default: a readable name.
        record: what ``run.json`` is to say.
        config_toml: what ``config.toml`` is to say.
        overwrite: remove the run that is there first, whatever its state.

    Raises:
        OutputExistsError: the folder holds another run, a finished one, or something else.
    """
    if out is None and not overwrite:
        path = next(path for path in numbered(default) if _obstacle(path, record) is None)
        return RunFolder(path, record, config_toml)
    path = default if out is None else Path(out).expanduser()
    obstacle = _obstacle(path, record)
    if overwrite and is_run(path) and obstacle != BUSY:
        _remove_run(path)
    elif obstacle is not None:
        fix = "choose another out" + (", or replace the run with overwrite=True (--overwrite)" if is_run(path) else "")
        raise OutputExistsError(obstacle, where=path, fix=fix)
    return RunFolder(path, record, config_toml)


def numbered(default: Path) -> Iterator[Path]:
    """``default``, then ``default-2``, ``default-3`` and so on."""
    yield default
    for number in count(2):
        yield default.with_name(f"{default.name}-{number}")


def check_out(out: str | Path | None) -> None:
    """Raise if ``out`` is something that no run can ever be written into: a file, or a folder of something else.

    Raises:
        OutputExistsError: it is.
    """
    path = None if out is None else Path(out).expanduser()
    obstacle = None if path is None else _stranger(path)
    if obstacle is not None:
        raise OutputExistsError(obstacle, where=path, fix="choose another out")


def _stranger(path: Path) -> str | None:
    """What is in the way at ``path``, if it is no run and no empty folder."""
    if not path.exists() or is_run(path):
        return None
    if not path.is_dir():
        return "this is a file, and a run is a folder"
    strangers = [entry for entry in path.iterdir() if not entry.match(TEMPORARY)]
    return "this folder holds something that is no run" if strangers else None


def _obstacle(path: Path, record: dict[str, Any]) -> str | None:
    """Why a run with this record cannot be written into ``path``; None if it can."""
    if not is_run(path):
        return _stranger(path)
    if _is_busy(path):
        return BUSY
    found = Run(path)
    if found.is_finished:
        return "this folder holds a finished run"
    changed = [
        f"{name}: {_short(was)} there, {_short(now)} now" for name, was, now in differences(found.record, record)
    ]
    return f"this folder holds an interrupted run of other settings ({'; '.join(changed)})" if changed else None


def _is_busy(path: Path) -> bool:
    """Whether another process is training in the folder."""
    with suppress(FileNotFoundError), (path / LOCK).open("rb") as lock:
        return not _take(lock)
    return False


def _take(lock: IO[bytes]) -> bool:
    """Lock an open file, until it is closed; whether that went. File systems without locks let everyone through."""
    if sys.platform != "win32":
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def differences(was: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The fields in which two runs differ that must not, if one is to continue the other."""
    before, after = (_identity(json.loads(_json(record))) for record in (was, now))
    return [(name, before.get(name), after.get(name)) for name in after if before.get(name) != after.get(name)]


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    free = {"compile", "device", "devices", "nodes", "recipe"}
    settings = {name: value for name, value in record["config"].items() if name not in free}
    return {
        **settings,
        "precision": record["precision"],
        "prompts": record.get("prompts"),
        "encoder": record["encoder"]["fingerprint"],
        "decoder": record["encoder"]["decoder"],
        "classes": record["dataset"]["classes"],
        "annotations": record["dataset"]["annotation_hash"],
        "splits": record["dataset"]["splits"],
    }


def _remove_run(path: Path) -> None:
    """Remove a run from its folder, and what was derived from it; the user's own files stay."""
    for pattern in (*_OWN, *_DERIVED):
        for found in path.glob(pattern):
            shutil.rmtree(found) if found.is_dir() else found.unlink()


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"
