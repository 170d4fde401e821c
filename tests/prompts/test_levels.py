"""Every instruction set finds the same distances, places and masks; Ctrl-C and threads reach running kernels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from samfast.distances import distance_transform
from samfast.masks import Masks
from samfast.prompts import center_points

LEVELS = """
import hashlib
import numpy as np
from samfast import _rust
from samfast.distances import distance_transform
from samfast.frames import PreprocessSpec
from samfast.masks import Masks
from samfast.prompts import center_points, draw_keys, farthest_points, negative_points

rng = np.random.default_rng(0)
field = rng.standard_normal((4, 24, 30)).repeat(13, axis=1).repeat(17, axis=2)
arrays = np.concatenate([field > 0, field[:1] > -2, rng.random((1, *field.shape[1:])) < 0.9])
masks = Masks.from_numpy(arrays)
logits = rng.standard_normal((2, 32, 32)).astype(np.float32)
frame = PreprocessSpec(128, 8, 32, (0, 0, 0), (1, 1, 1)).frame(300, 401)
found = [
    distance_transform(arrays),
    distance_transform(arrays, spacing=(0.3, 0.7), border=True),
    center_points(masks),
    farthest_points(masks, 3),
    negative_points(masks, draw_keys(0, "", list("abcdef")), 5, where="ring"),
    Masks.from_logits(logits, frame).counts,
]
print(_rust.build_info()["simd"])
print(hashlib.sha256(b"".join(values.tobytes() for values in found)).hexdigest())
"""

ENDLESS = """
import signal
import numpy as np
from samfast.distances import distance_transform
mask = np.ones((2000, 2000), bool)
mask[0, 0] = False
masks = np.stack([mask] * 30)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by whatever a shell has put in the background
print("begun", flush=True)
while True:
    distance_transform(masks)
"""


def test_every_instruction_set_finds_the_same() -> None:
    found = {}
    for level in ("portable", "avx2", "avx512"):
        environment = {**os.environ, "SAMFAST_SIMD": level}
        done = subprocess.run(
            [sys.executable, "-c", LEVELS], capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode == 0:
            name, found[level] = done.stdout.split()
            assert name == level
        else:
            assert "no further than" in done.stderr
    assert "portable" in found
    assert len(set(found.values())) == 1


def test_ctrl_c_stops_a_running_kernel() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert b"KeyboardInterrupt" in errors


def test_many_threads_at_once() -> None:
    rng = np.random.default_rng(0)
    arrays = rng.random((8, 5, 300, 300)) < 0.97
    expected = [(distance_transform(masks), center_points(Masks.from_numpy(masks))) for masks in arrays]
    started = threading.Barrier(8)

    def work(index: int) -> bool:
        started.wait()
        masks = arrays[index]
        same = np.array_equal(distance_transform(masks), expected[index][0])
        return same and np.array_equal(center_points(Masks.from_numpy(masks)), expected[index][1])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
