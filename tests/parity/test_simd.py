"""Every instruction set gives the same answers, and what cannot be used is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from samfast import _rust

SCRIPT = """
import hashlib
import numpy as np
from samfast import _rust
from samfast.distances import distance_transform
from samfast.masks import Masks, from_labels, polygons_to_numpy, to_labels
from samfast.metrics import boundary_iou, overlap_counts, surface_distances
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for height, width in ((1, 1), (3, 64), (64, 65), (200, 300), (129, 31)):
    masks = np.array([rng.random((height, width)) < density for density in (0.0, 0.02, 0.5, 1.0)])
    masks[1, : height // 2, width // 3 :] ^= True
    ours = Masks.from_numpy(masks)
    assert np.array_equal(ours.numpy(), masks)
    assert Masks.from_packed(ours.packed(), width) == ours
    polygons = [[rng.uniform(-0.2, 1.2, (9, 2)) * (width, height)] for _ in range(4)]
    for rule in ("coco", "pixel-center", "opencv"):
        digest.update(Masks.from_polygons(polygons, height, width, rule=rule).tobytes())
        digest.update(polygons_to_numpy(polygons, height, width, rule=rule).tobytes())
    matrix = [[0.7, 0.4, -3.2], [-0.3, 0.8, 5.1], [0, 0, 1]]
    for other in (ours, ours.resize(70, 130), ours.crop(0, 0, 1, 1), ours.warp(matrix, 70, 130), ours.fill_holes()):
        digest.update(other.tobytes())
    digest.update(ours.packed().tobytes())
    labels = to_labels(ours)
    digest.update(labels.tobytes() + from_labels(labels)[0].tobytes())
    logits = rng.normal(size=masks.shape).astype(np.float32)
    counts = overlap_counts(masks, logits), overlap_counts(ours, masks), overlap_counts(ours.packed(), ours)
    edges = boundary_iou(masks, logits), *surface_distances(masks, logits, convention="deepmind").values()
    for found in (*counts, *edges, *surface_distances(ours, masks).values(), distance_transform(ours)):
        digest.update(found.tobytes())
held_to = rng.random((3, 50, 50), np.float32), rng.random((3, 50, 50), np.float32)
for side in (50, 13):
    maps = rng.normal(0, 4, (5, side, side)).astype(np.float32), *held_to, rng.integers(0, 3, 5)
    digest.update(_rust.cell_sums(*maps, (0.25, 2.0)).tobytes())
    digest.update(_rust.cell_gradients(*maps, (0.25, 2.0), np.ones((5, 4), np.float32)).tobytes())
print(_rust.build_info()["simd"], digest.hexdigest())
"""


def run(level: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SAMFAST_SIMD": level}
    return subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)


def levels_of_this_cpu() -> list[str]:
    levels = ["portable", "avx2", "avx512"]
    done = subprocess.run(
        [sys.executable, "-c", "from samfast import _rust; print(_rust.build_info()['simd'])"],
        env={key: value for key, value in os.environ.items() if key != "SAMFAST_SIMD"},
        capture_output=True,
        text=True,
        check=True,
    )
    return levels[: levels.index(done.stdout.strip()) + 1]


def test_every_level_gives_the_same_bytes() -> None:
    answers = {}
    for level in levels_of_this_cpu():
        done = run(level)
        assert done.returncode == 0, done.stderr
        used, answers[level] = done.stdout.split()
        assert used == level
    assert len(set(answers.values())) == 1, answers


@pytest.mark.parametrize("level", ["AVX2", "sse9"])
def test_a_level_nobody_knows_stops_the_import(level: str) -> None:
    done = run(level)
    assert done.returncode != 0
    assert "SAMFAST_SIMD" in done.stderr
    assert "ImportError" in done.stderr


def test_build_info_names_the_level() -> None:
    assert _rust.build_info()["simd"] in ("portable", "avx2", "avx512")
