"""The same batches on one CPU and on two: ``pytest benches/test_threads.py --benchmark-only``.

How many threads a process starts is decided by its first large batch, so every row is a process of its own, kept to its
CPUs before it starts; a row is the time from asking it to its answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

SETUP = """
import sys
import numpy as np
from samfast.distances import distance_transform
from samfast.frames import PreprocessSpec
from samfast.masks import Masks
from samfast.metrics import boundary_iou, overlap_counts, pairwise_iou, surface_distances
from samfast.prompts import center_points

rng = np.random.default_rng(0)
y, x = np.mgrid[:1024, :1024]
places = rng.uniform([300, 300, 100], [724, 724, 300], (8, 3))
arrays = np.stack([np.hypot(y - v, x - u) < r * (1 + 0.2 * np.sin(7 * np.arctan2(y - v, x - u))) for v, u, r in places])
arrays = arrays.repeat(4, axis=0)
masks, out = Masks.from_numpy(arrays), np.empty(arrays.shape)
boxes = rng.uniform([0, 0, 4, 4], [900, 900, 90, 90], (1500, 4))
rectangles = [[[u, v, u + w, v, u + w, v + h, u, v + h]] for u, v, w, h in boxes]
small = Masks.from_polygons(rectangles, 1024, 1024)
frame = PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1)).frame(3000, 4000)
logits = rng.standard_normal((16, 16, 16)).astype(np.float32).repeat(16, axis=1).repeat(16, axis=2)
ready = sys.stdin.readline()
"""
CASES = {
    "32 distance transforms": "distance_transform(arrays, out=out)",
    "32 poles of inaccessibility": "center_points(masks)",
    "16 low-res logits to 12 MP": "Masks.from_logits(logits, frame)",
    "32 overlap counts, uint8": "overlap_counts(arrays, arrays)",
    "1500 x 1500 pairwise IoU": "pairwise_iou(small, small)",
    "32 boundary IoUs": "boundary_iou(masks, masks)",
    "31 HD95s": "surface_distances(masks[1:], masks[:-1])",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads(benchmark: Any, case: str, threads: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    if len(cpus) < threads:
        pytest.skip(f"this process may use {len(cpus)} CPU")
    loop = f"{SETUP}\nwhile ready:\n    {CASES[case]}\n    print(flush=True)\n    ready = sys.stdin.readline()\n"
    start = f"import os\nos.sched_setaffinity(0, {cpus})\n{loop}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", start], **pipes) as process:  # type: ignore[call-overload]

        def ask() -> None:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "\n", "the process has ended"

        ask()
        benchmark.group = f"threads: {case}"
        benchmark(ask)
        process.stdin.close()
