"""Several cells at a time, each in a process of its own that may fail or be killed without taking the others along."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import samfast
from samfast.sweeps.worker import Answer, Setup, Task

LOG = "worker.log"


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
        then: how many there may be once the first answer says how much device memory a cell takes, in bytes.
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
        while waiting and not stopped.is_set():
            with suppress(IndexError):
                number, task = waiting.popleft()
                if process is None:
                    process = _start(log, setup.threads)
                    living.append(process)
                    if stopped.is_set():
                        process.kill()
                    sent = [packed, pickle.dumps(task)]
                else:
                    sent = [pickle.dumps(task)]
                answer = _ask(process, sent)
                if answer is None:
                    answer, process = Answer(None, f"{_end_of(process)}, see {log}"), None
                answers.put((number, answer))
        if process is not None and process.stdin is not None:
            process.stdin.close()  # which ends it

    def grow(wanted: int) -> None:
        while len(threads) < min(wanted, len(tasks)):
            threads.append(threading.Thread(target=serve, daemon=True))
            threads[-1].start()

    try:
        grow(first)
        for count in range(len(tasks)):
            number, answer = answers.get()
            if count == 0:
                grow(then(answer.device_bytes))
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
    found = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([home, found] if found else [home]),
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
