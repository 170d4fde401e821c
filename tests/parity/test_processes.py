"""Kernels in forked processes, on many threads at once, and interrupted."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from samfast.distances import distance_transform
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, logits_to_packed
from samfast.metrics import boundary_iou, overlap_counts, pairwise_iou, surface_distances
from samfast.prompts import center_points, draw_keys, farthest_points, negative_points, sample_points

FRAME = PreprocessSpec(512, 32, 128, (0, 0, 0), (1, 1, 1)).frame(500, 700)


def round_trip(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    # Large enough to be spread over threads.
    masks = rng.random((8, 500, 700)) < 0.3
    ours = Masks.from_numpy(masks)
    assert np.array_equal(ours.numpy(), masks)
    return ours.union().tobytes()


def judge(seed: int) -> bytes:
    """Distances, prompts and metrics of a batch that is spread over threads."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((8, 16, 16)).repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)
    masks = Masks.from_logits(logits, FRAME)
    others, keys, arrays = masks[::-1], draw_keys(seed, "", list("abcdefgh")), masks.numpy()
    found = [
        logits_to_packed(logits, FRAME),
        distance_transform(arrays),
        center_points(masks),
        farthest_points(masks, 3),
        sample_points(masks, keys, 4),
        negative_points(masks, keys, 4, where="ring"),
        overlap_counts(arrays, others),
        pairwise_iou(masks, others),
        boundary_iou(masks, others),
        *surface_distances(masks, others).values(),
    ]
    return b"".join(values.tobytes() for values in found)


class Judged:
    """A data set, as torch's loader takes it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> bytes:
        return judge(index)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="processes are not forked on Windows")
def test_after_a_fork() -> None:
    expected = [round_trip(seed) for seed in range(2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(round_trip, range(2)).get(timeout=60) == expected


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="processes are not forked on Windows")
def test_in_forked_workers_of_a_data_loader() -> None:
    data = pytest.importorskip("torch.utils.data")
    expected = [judge(seed) for seed in range(4)]
    loader = data.DataLoader(Judged(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=120)
    for _ in range(2):
        assert list(loader) == expected


@pytest.mark.parametrize("work", [round_trip, judge])
def test_on_many_threads(work: Callable[[int], bytes]) -> None:
    expected = [work(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == expected


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
