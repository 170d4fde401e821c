"""Kernels in forked processes, on many threads at once, and interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from samfast.distances import distance_transform
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, from_labels, logits_to_packed, to_labels
from samfast.metrics import boundary_iou, overlap_counts, pairwise_iou, surface_distances
from samfast.prompts import center_points, draw_keys, farthest_points, negative_points, sample_points

FRAME = PreprocessSpec(512, 32, 128, (0, 0, 0), (1, 1, 1)).frame(500, 700)


def round_trip(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    # Large enough to be spread over threads.
    masks = rng.random((8, 500, 700)) < 0.3
    ours = Masks.from_numpy(masks)
    assert np.array_equal(ours.numpy(), masks)
    assert Masks.from_packed(ours.packed(), 700) == ours
    pieces, parents = ours[:2].components()
    written = (to_labels(ours), ours.rasterize(FRAME), parents)
    return b"".join([ours.union().tobytes(), pieces.tobytes(), *(array.tobytes() for array in written)])


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
        return judge(index) + round_trip(index)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="processes are not forked on Windows")
def test_after_a_fork() -> None:
    expected = [round_trip(seed) for seed in range(2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(round_trip, range(2)).get(timeout=60) == expected


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="processes are not forked on Windows")
def test_in_forked_workers_of_a_data_loader() -> None:
    data = pytest.importorskip("torch.utils.data")
    expected = [judge(seed) + round_trip(seed) for seed in range(4)]
    loader = data.DataLoader(Judged(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=120)
    for _ in range(2):
        assert list(loader) == expected


@pytest.mark.parametrize("work", [round_trip, judge])
def test_on_many_threads(work: Callable[[int], bytes]) -> None:
    expected = [work(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == expected


def noise(height: int, width: int) -> NDArray[np.bool_]:
    return np.tile(np.random.default_rng(0).random((height, 500)) < 0.5, (1, -(-width // 500)))[:, :width]


def many(size: int) -> Masks:
    return Masks.from_numpy(noise(400, 400))[np.zeros(50 * size, int)]


def huge(size: int) -> Masks:
    return Masks.from_numpy(noise(1500 * size, 5000))


def striped(size: int) -> Masks:
    """Masks that do not fill up when they are united."""
    return Masks.from_numpy(np.arange(400)[:, None] % 4 + np.zeros((400, 400)) < 1)[np.zeros(100 * size, int)]


# Of a size, so that a test may ask for as much work as takes long where it runs.
WORK: dict[str, Callable[[int], Callable[[], object]]] = {
    "pieces": lambda size: many(size).components,
    "strings": lambda size: many(size).rle,
    "labels of many": lambda size: partial(to_labels, many(size)),
    "union": lambda size: striped(size).union,
    "encoding one": lambda size: partial(Masks.from_numpy, noise(1500 * size, 5000)),
    "decoding one": lambda size: huge(size).numpy,
    "labels of one": lambda size: partial(to_labels, huge(size)),
    "another size of one": lambda size: partial(Masks.from_numpy(noise(20, 30)).resize, 1, 20_000_000 * size),
    "one under a map": lambda size: partial(
        Masks.from_numpy(noise(500, 500)).warp, [[10, 1, 0], [0, 5 * size, 0], [0, 0, 1]], 2500 * size, 5000
    ),
    "points of one": lambda size: partial(
        sample_points, Masks.from_numpy(noise(1000, 1000)), np.zeros(1, np.uint64), 300_000 * size
    ),
    "points far apart": lambda size: partial(farthest_points, Masks.from_numpy(noise(500, 500)), 500 * size),
    "pieces of one": lambda size: huge(size).components,
    "what two hold": lambda size: partial(huge(size).intersect, huge(size)),
    "what one holds": lambda size: partial(huge(size).subtract, huge(size)),
    "a window of one": lambda size: partial(huge(size).crop, 1, 1, 1500 * size - 1, 4999),
    "outlines of one": lambda size: partial(Masks.from_numpy(noise(500 * size, 1000)).polygons),
    "strings of one": lambda size: huge(size).rle,
    "reading one": lambda size: partial(Masks.from_rle, huge(size).rle()),
    "masks of labels": lambda size: partial(from_labels, noise(700 * size, 5000).view(np.uint8)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="no other system is known to refuse a thread such a stack")
def test_where_the_system_gives_no_thread() -> None:
    script = """
        import numpy as np
        from samfast.masks import Masks
        masks = np.tile(np.random.default_rng(0).random((1, 500, 500)) < 0.5, (16, 1, 1))
        assert np.array_equal(Masks.from_numpy(masks).numpy(), masks)
        print("done")
    """
    # No system has room for a stack of a petabyte.
    environment = {**os.environ, "RUST_MIN_STACK": str(1 << 50)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no alarm to interrupt a call with")
@pytest.mark.parametrize("name", WORK)
def test_an_interrupt_is_heard_within_a_call(name: str) -> None:
    for size in (1, 2, 4, 8, 16, 32):
        call = WORK[name](size)
        started = time.perf_counter()
        call()
        whole = time.perf_counter() - started
        if whole > 0.4:
            break
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            call()
        stopped = time.perf_counter() - started
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # Python itself would raise as well, but when the call is over.
    assert stopped < min(1, 0.75 * whole), f"{stopped:.2f} s of {whole:.2f} s"
