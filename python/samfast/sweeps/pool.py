"""Several cells at a time, each in a process of its own that may fail or be killed without taking the others along."""

from __future__ import annotations

import io
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import samfast
from samfast.sweeps.worker import Answer, Setup, Task
from samfast.train.launch import not_sendable

LOG = "worker.log"


class _Elsewhere(pickle.Unpickler):
    """Reads as a worker does, which knows nothing of the program that started it."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__":
            raise pickle.UnpicklingError(f"{name} is defined in the program itself")
        return super().find_class(module, name)


def check_sendable(callbacks: Any) -> None:
    """Raise unless workers can be told of these callbacks.

    Raises:
        ConfigError: one cannot be pickled, or not be read elsewhere.
    """
    try:
        _Elsewhere(io.BytesIO(pickle.dumps(callbacks))).load()
    except Exception as error:  # pickle raises whatever an object's own code does
        raise not_sendable("in a sweep", error) from None


def run_tasks(
    tasks: Sequence[Task], setup: Setup, *, first: int, then: Callable[[int], int], log: Path
) -> Iterator[tuple[int, Answer]]:
    """Train cells in several processes; each answer with the number of its task, as it comes in.

    Where the iteration is left early, by Ctrl-C or otherwise, the processes are killed: what they finished is kept, and
    the rest resumes.

    Args:
        tasks: in order.
        setup: what they share.
        first: processes to begin with.
        then: how many there may be once the first finished cell says how much device memory one takes, in bytes.
        log: a file that takes what the processes print.
    """
    waiting = deque(enumerate(tasks))
    answers: queue.Queue[tuple[int, Answer]] = queue.Queue()
    living: list[subprocess.Popen[bytes]] = []
    threads: list[threading.Thread] = []
    packed = pickle.dumps(setup, pickle.HIGHEST_PROTOCOL)
    stopped = threading.Event()

    def serve() -> None:
        """Hand tasks to one process, and to another one where it dies, until none is left."""
        process = None
        while not stopped.is_set():
            try:
                number, task = waiting.popleft()
            except IndexError:
                break
            try:
                sent = [pickle.dumps(task)]
                if process is None:
                    process = _start(log, setup.threads)
                    living.append(process)
                    if stopped.is_set():
                        process.kill()
                    sent = [packed, *sent]
                answer = _ask(process, sent)
                if answer is None:
                    answer, process = Answer(None, f"{_end_of(process)}, see {log}"), None
            except Exception as trouble:  # whatever it is, somebody waits for an answer
                answer = Answer(None, f"{type(trouble).__name__}: {trouble}")
            answers.put((number, answer))
        if process is not None and process.stdin is not None:
            process.stdin.close()  # which ends it

    def grow(wanted: int) -> None:
        while len(threads) < min(wanted, len(tasks)):
            threads.append(threading.Thread(target=serve, daemon=True))
            threads[-1].start()

    try:
        grow(first)
        is_measured = False
        for _ in tasks:
            number, answer = answers.get()
            if answer.found is not None and not is_measured:  # one that failed may have done so before it took any
                grow(then(answer.device_bytes))
                is_measured = True
            yield number, answer
    finally:
        stopped.set()
        for process in living:
            process.kill()
        for thread in threads:
            thread.join()
        for process in living:
            process.wait()


def _start(log: Path, threads: int) -> subprocess.Popen[bytes]:
    home = str(Path(samfast.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([home, *sys.path]),  # callbacks may lie beside the program
        "OMP_NUM_THREADS": str(threads),
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", "from samfast.sweeps.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            start_new_session=True,  # Ctrl-C is the sweep's to handle
        )


def _ask(process: subprocess.Popen[bytes], sent: Sequence[bytes]) -> Answer | None:
    """What a process answers; None if it died."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for each in sent:
            process.stdin.write(each)
        process.stdin.flush()
        answer: Answer = pickle.load(process.stdout)
    except (EOFError, OSError, pickle.UnpicklingError):
        return None
    return answer


def _end_of(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    if code == -signal.SIGKILL:
        return "the process was killed, as happens where memory runs out"
    return f"the process ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"
