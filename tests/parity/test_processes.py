"""Kernels in forked processes, on many threads at once, and interrupted."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from samfast.masks import Masks


def round_trip(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    # Large enough to be spread over threads.
    masks = rng.random((8, 500, 700)) < 0.3
    ours = Masks.from_numpy(masks)
    assert np.array_equal(ours.numpy(), masks)
    return ours.union().tobytes()


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="processes are not forked on Windows")
def test_after_a_fork() -> None:
    expected = [round_trip(seed) for seed in range(2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(round_trip, range(2)).get(timeout=60) == expected


def test_on_many_threads() -> None:
    expected = [round_trip(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(round_trip, range(6))) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a child alone")
@pytest.mark.parametrize("call", ["many.components()", "to_labels(many)", "many.rle()"])
def test_an_interrupt_is_heard_within_a_second(call: str) -> None:
    script = """
        import signal
        import numpy as np
        from samfast.masks import Masks, to_labels
        signal.signal(signal.SIGINT, signal.default_int_handler)
        noise = Masks.from_numpy(np.random.default_rng(0).random((1, 400, 400)) < 0.5)
        many = noise[np.zeros(300, int)]
        print("ready", flush=True)
        try:
            while True:
                CALL
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script).replace("CALL", call)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.7)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        try:
            answer, _ = child.communicate(timeout=30)
        finally:
            child.kill()
    assert answer == "interrupted\n"
    assert time.monotonic() - sent < 3, "the interpreter's own shutdown is part of it"
