"""Where there is too little memory, a call raises, and the process goes on."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

# One call each, of masks that are small as run lengths and need more than there is as pixels, or of very many points.
CALLS = {
    "center_points(huge)": "MemoryError",
    "farthest_points(huge, 2)": "MemoryError",
    "farthest_points(small, 2**31 - 1)": "MemoryError",
    "sample_points(small, key, 2**31 - 1)": "MemoryError",
    'negative_points(huge, key, where="ring")': "MemoryError",
    "corrective_clicks(huge, full)": "MemoryError",
    "boundary_iou(full, full)": "MemoryError",
    "surface_distances(huge, full)": "MemoryError",
    'surface_distances(huge, full, convention="deepmind")': "MemoryError",
    "full.warp(np.eye(3), side, side)": "MemoryError",
    "thin.resize(1, 3)": "MemoryError",
    "rows.resize(side, side)": "MemoryError",
    "rows.warp(np.diag([side, 1, 1]), side, side)": "MemoryError",
    "full.numpy()": "MemoryError",
    "to_labels(full)": "MemoryError",
    "Masks.from_packed(stripes, side)": "MemoryError",
    "Masks.from_polygons([[[0, 0, 1e8, 0, 1e8, 1]]], 1, 10**8)": "MemoryError",
    "thin.components()": "MemoryError",
    "thin.crop(0, 0, 1, 2**32 - 2)": "MemoryError",
    "thin.polygons()": "MemoryError",
    "Masks.from_logits(logits, frame)": "MemoryError",
    "from_labels(labels)": "MemoryError",
    "huge.area()": "done",
    "small.numpy()": "done",
}

SCRIPT = """
import resource
import numpy as np
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, from_labels, to_labels
from samfast.metrics import boundary_iou, surface_distances
from samfast.prompts import center_points, corrective_clicks, farthest_points, negative_points, sample_points
key = np.zeros(1, np.uint64)
side = 30_000
full = Masks.from_rle([{"size": [side, side], "counts": [0, side * side]}])
huge = Masks.from_rle([{"size": [side, side], "counts": [1, side * side - 2, 1]}])
thin = Masks.from_rle([{"size": [1, 2**32 - 1], "counts": [0, 2**32 - 1]}])
rows = Masks.from_numpy(np.arange(side)[:, None] % 2 == 0)
small = Masks.from_numpy(np.ones((1, 30, 30), bool))
stripes = np.zeros((1, side, -(-side // 64)), np.uint64)
stripes[:, ::2] = 2**64 - 1
stripes[..., -1] &= 2 ** (side % 64) - 1
logits = np.zeros((1, 16, 16), np.float32)
frame = PreprocessSpec(64, 8, 16, (0, 0, 0), (1, 1, 1)).frame(1, 4 * 10**7)
labels = np.repeat(np.arange(6000, dtype=np.int32)[:, None] % 2, 5000, axis=1)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
try:
    CALL
    print("done")
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux alone")
@pytest.mark.parametrize("call", CALLS)
def test_too_little_memory_is_an_error(call: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT).replace("CALL", call)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == f"{CALLS[call]}\n", done.stderr
