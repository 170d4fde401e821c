"""Progress bars with rate and time left, and lines for people; silent bars where the output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_is_silent = False


def silence() -> None:
    """Say nothing and show no bar from here on: another process speaks for this one."""
    global _is_silent  # noqa: PLW0603 - a process speaks, or it does not
    _is_silent = True


class Bar(Protocol):
    """A running progress bar."""

    def advance(self, amount: float = 1.0, **fields: Any) -> None:
        """Count ``amount`` more units done; ``fields`` are shown beside the bar, such as ``loss=0.31``."""
        ...


class _SilentBar:
    def advance(self, amount: float = 1.0, **fields: Any) -> None:
        pass


class _RichBar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: float = 1.0, **fields: Any) -> None:
        extra = "  ".join(f"{name} {value:.4g}" for name, value in fields.items())
        if extra:
            self._progress.update(self._task, advance=amount, extra=extra)
        else:
            self._progress.update(self._task, advance=amount)


@contextmanager
def bar(description: str, total: float | None, *, unit: str = "images") -> Iterator[Bar]:
    """A progress bar over ``total`` units on standard error, shown only if that is a terminal."""
    if _is_silent or not sys.stderr.isatty():
        yield _SilentBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            rate = task.finished_speed or task.speed
            return Text("" if not rate else f"{rate:.3g} {unit}/s", style="cyan")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[extra]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        yield _RichBar(progress, progress.add_task(description, total=total, extra=""))


def track(items: Iterable[T], description: str, *, total: float | None = None, unit: str = "images") -> Iterator[T]:
    """Iterate over ``items`` behind a progress bar."""
    length = len(items) if total is None and isinstance(items, Sized) else total
    with bar(description, length, unit=unit) as running:
        for item in items:
            yield item
            running.advance()


def say(text: str = "") -> None:
    """Print a line for the person who waits, to standard error."""
    if _is_silent:
        return
    print(text, file=sys.stderr, flush=True)


class Stopwatch:
    """Seconds since it was made.

    >>> Stopwatch().seconds < 1.0
    True
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Elapsed wall-clock seconds."""
        return time.perf_counter() - self._start
