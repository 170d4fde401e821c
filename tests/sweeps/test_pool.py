"""The processes of a sweep: whatever becomes of a task, somebody gets an answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samfast.cache import EmbeddingCache
from samfast.data import Dataset
from samfast.errors import ConfigError
from samfast.sweeps import pool
from samfast.sweeps.cell import Found, Judging
from samfast.sweeps.worker import Answer, Setup, Task
from samfast.train import Callback


class ReadByNobody(Callback):
    """Can be written, and fails where it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


@dataclass
class Elsewhere:
    """In the place of a worker's process."""

    pid: int = 0

    def kill(self) -> None: ...

    def wait(self) -> int:
        return 0

    stdin = None


@pytest.fixture
def setup(dataset: Dataset, cache: EmbeddingCache) -> Setup:
    return Setup((dataset,), cache.path, None, Judging(("box",), "single", 0), "cpu", threads=1)


def answered(tasks: list[Task], setup: Setup, log: Path, **given: Any) -> list[tuple[int, Answer]]:
    """All answers, or a failure where they do not come."""
    found: list[tuple[int, Answer]] = []
    options = {"first": 1, "then": lambda _: 1, **given}
    waiting = threading.Thread(
        target=lambda: found.extend(pool.run_tasks(tasks, setup, log=log, **options)), daemon=True
    )
    waiting.start()
    waiting.join(timeout=120)
    assert not waiting.is_alive(), "it waits for ever"
    return sorted(found, key=lambda each: each[0])


def test_what_cannot_be_sent_fails_alone(setup: Setup, tmp_path: Path) -> None:
    """What pickle cannot write, and what the worker cannot read, which ends the worker and nothing else."""
    tasks = [
        Task(tmp_path / "written", 0, {"callbacks": [lambda: None]}),
        Task(tmp_path / "read", 0, {"callbacks": [ReadByNobody()]}),
    ]
    log = tmp_path / "worker.log"
    written, read = (answer for _, answer in answered(tasks, setup, log))
    assert "<lambda>" in str(written.error)
    assert read.error == f"the process ended with code 1, see {log}"
    assert "no number" in log.read_text()


def test_a_process_that_cannot_be_started_is_an_answer(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> subprocess.Popen[bytes]:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(pool, "_start", no_memory)
    answers = answered([Task(tmp_path, 0, {})] * 2, setup, tmp_path / "worker.log")
    assert [number for number, _ in answers] == [0, 1]
    assert all("Cannot allocate memory" in str(answer.error) for _, answer in answers)


def test_how_many_fit_is_told_by_a_cell_that_finished(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that failed at once has taken no memory, and would let everyone in."""
    told = iter([Answer(None, "no such recipe"), *[Answer(Found({"box": 0.5}, 1, 1.0), device_bytes=7)] * 2])
    monkeypatch.setattr(pool, "_start", lambda *_: Elsewhere())
    monkeypatch.setattr(pool, "_ask", lambda *_: next(told))
    asked: list[int] = []
    answered([Task(tmp_path, 0, {})] * 3, setup, tmp_path / "log", then=lambda taken: asked.append(taken) or 1)
    assert asked == [7]


def test_callbacks_that_no_worker_can_read_are_told_before_anything_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Callback):
        pass

    class Mine(Callback):
        pass

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    monkeypatch.setattr(sys.modules["__main__"], "Mine", Mine, raising=False)
    for each, says in ((Local(), "Local"), (Mine(), "Mine is defined in the program"), (ReadByNobody(), "no number")):
        with pytest.raises(ConfigError, match=says) as told:
            pool.check_sendable([each])
        assert told.value.where == "callbacks"
    pool.check_sendable([Callback(), "tensorboard"])


def test_a_module_beside_the_program_is_one_for_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's folder is on its path alone; a worker's program is another one."""
    (tmp_path / "beside_the_program.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: dict[str, Any] = {}
    monkeypatch.setattr(pool.subprocess, "Popen", lambda *_, env, **__: seen.update(env))
    pool._start(tmp_path / "log", 1)
    monkeypatch.undo()
    subprocess.run([sys.executable, "-c", "import beside_the_program"], env=seen, check=True)
