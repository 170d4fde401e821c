"""Callbacks: what is told of a run while it trains, in plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast.errors import ConfigError, RunError
from samfast.train.folder import RunFolder
from samfast.train.journal import SUMMARY

Pictures = Mapping[str, NDArray[np.uint8]]
"""Image name to ``(H, W, 3)`` uint8 RGB, see :func:`~samfast.train.pictures.validation_pictures`."""


class Callback:
    """Is told of a run while it trains; override what you want to hear of.

    >>> class Losses(Callback):
    ...     def __init__(self):
    ...         self.seen = []
    ...     def on_step(self, *, step, epoch, values):
    ...         self.seen.append(values["loss"])

    What it raises ends the run as a :class:`~samfast.errors.RunError` that names it, and has what was raised as its
    cause; what was trained before is kept, and the same call goes on after it.

    Attributes:
        pictures: how many images of the val set it wants to see after every judgement; the same ones each time.
    """

    pictures: int = 0

    def on_start(self, *, path: Path, settings: dict[str, Any], step: int) -> None:
        """Before the first step, and again when an interrupted run goes on.

        Args:
            path: the run's folder.
            settings: all of them, JSON-ready.
            step: steps done before; those after it are told, even if they were told before the interruption.
        """

    def on_step(self, *, step: int, epoch: int, values: dict[str, float]) -> None:
        """After each optimizer step that was not skipped.

        Args:
            step: number of the step, counted from 1 over all epochs.
            epoch: that it belongs to, counted from 1.
            values: ``loss``, its parts as ``loss_<part>``, and ``lr``.
        """

    def on_validation(self, *, step: int, epoch: int, values: dict[str, float], pictures: Pictures) -> None:
        """After each judgement on the val set, the untuned model's included, when it is on the disk.

        Args:
            step: steps done; 0 for the untuned model.
            epoch: that was judged; 0 for the untuned model.
            values: ``val_iou``, and ``val_iou_<kind>`` and ``val_dice_<kind>`` by prompt kind.
            pictures: as many as any callback of the run wants: image, annotation and answers side by side.
        """

    def on_end(self, *, finished: bool, summary: dict[str, Any]) -> None:
        """When training ends, however it does.

        Args:
            finished: whether the run is; otherwise it was interrupted, or an error ended it.
            summary: what ``training_metrics.json`` says; empty if no epoch was finished.
        """


class Callbacks:
    """The callbacks of a run, told together.

    Raises:
        ConfigError: one of them is no callback.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        for each in callbacks:
            if not isinstance(each, Callback):
                raise ConfigError(
                    f"{each!r} is no callback", where="callbacks", fix="pass instances of samfast.train.Callback"
                )
        self._callbacks = tuple(callbacks)

    @property
    def pictures(self) -> int:
        """How many images the one wants that wants most."""
        return max((each.pictures for each in self._callbacks), default=0)

    @contextmanager
    def watching(self, folder: RunFolder, settings: dict[str, Any], *, step: int) -> Iterator[None]:
        """Tell of the start, and of the end when the block ends, however it does.

        Raises:
            RunError: a callback failed. Where the block fails too, its error goes on, and that of the callback is
                noted in the log.
        """
        self._tell("on_start", path=folder.path, settings=settings, step=step)
        try:
            yield
        except BaseException:
            for error in self._end(folder, finished=False):
                folder.journal.note(f"error: {error}")
            raise
        for error in self._end(folder, finished=True):
            raise error

    def step(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Tell of a step."""
        self._tell("on_step", step=step, epoch=epoch, values=dict(values))

    def validation(self, *, step: int, epoch: int, line: Mapping[str, Any], pictures: Pictures) -> None:
        """Tell of a judgement, given the metrics of its epoch."""
        values = {name: value for name, value in line.items() if name.startswith("val_") and name != "val_seconds"}
        self._tell("on_validation", step=step, epoch=epoch, values=values, pictures=pictures)

    def _tell(self, event: str, **values: Any) -> None:
        for each in self._callbacks:
            _call(each, event, **values)

    def _end(self, folder: RunFolder, *, finished: bool) -> list[RunError]:
        """Tell all of the end; the errors of those that failed."""
        file = folder.path / SUMMARY
        summary = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        errors = []
        for each in self._callbacks:
            try:
                _call(each, "on_end", finished=finished, summary=summary)
            except RunError as error:
                errors.append(error)
        return errors


def _call(callback: Callback, event: str, **values: Any) -> None:
    try:
        getattr(callback, event)(**values)
    except Exception as error:
        raise RunError(
            f"the callback {type(callback).__name__} failed: {type(error).__name__}: {error}",
            where=event,
            fix="mend it or leave it out, and start again with the same arguments: what was trained is kept",
        ) from error
