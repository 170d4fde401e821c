"""Kernels beside pycocotools and numpy on the same input: ``pytest benches/test_kernels.py --benchmark-only``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from samfast.frames import PreprocessSpec
from samfast.masks import Masks
from samfast.metrics import overlap_counts
from samfast.prompts import draw_keys, sample_points

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PHOTO = (3456, 5184)


def star(height: int, width: int, vertices: int = 40) -> list[float]:
    angle = np.arange(vertices) * 2 * np.pi / vertices
    radius = np.where(np.arange(vertices) % 2, 0.45, 0.25)
    corners = np.stack([width * (0.5 + radius * np.cos(angle)), height * (0.5 + radius * np.sin(angle))], axis=1)
    return corners.round(2).ravel().tolist()


def waves(height: int, width: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    return np.sin(y / 90) + np.cos(x / 70) > 0.3


def polygons(height: int, width: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    flat = [star(height, width)]
    return lambda: Masks.from_polygons([flat], height, width), lambda: coco.frPyObjects(flat, height, width)


def encode(height: int, width: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    mask = waves(height, width)
    return lambda: Masks.from_numpy(mask), lambda: coco.encode(np.asfortranarray(mask, np.uint8))


def decode(height: int, width: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    masks = Masks.from_numpy(waves(height, width))
    rle = masks.rle()[0]
    return masks.numpy, lambda: np.ascontiguousarray(coco.decode(rle))


def overlap(height: int, width: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    a, b = waves(height, width), waves(height, width)[::-1].copy()
    ours, other = Masks.from_numpy(a), Masks.from_numpy(b)
    return lambda: overlap_counts(ours, other), lambda: [(a & b).sum(), (a & ~b).sum(), (~a & b).sum()]


def low_res(height: int, width: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    mask = waves(height, width)
    masks, frame = Masks.from_numpy(mask), PreprocessSpec(1024, 64, 256, (0, 0, 0), (1, 1, 1)).frame(height, width)
    rows = np.arange(0, height, height / 256).astype(int)
    columns = np.arange(0, width, width / 256).astype(int)
    blocks = lambda: np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int32), columns, axis=1)  # noqa: E731
    return lambda: masks.rasterize(frame), blocks


def points(height: int, width: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    mask = waves(height, width)
    masks, keys, rng = Masks.from_numpy(mask), draw_keys(0, "image", ["a"]), np.random.default_rng(0)
    return lambda: sample_points(masks, keys, 5), lambda: rng.choice(np.argwhere(mask), 5, replace=False)


CASES = {
    "polygon": (polygons, (1024, 1024)),
    "encode": (encode, PHOTO),
    "decode": (decode, PHOTO),
    "overlap": (overlap, PHOTO),
    "low-res": (low_res, PHOTO),
    "points": (points, PHOTO),
}


@pytest.mark.parametrize("who", ["samfast", "peer"])
@pytest.mark.parametrize("case", CASES)
def test_kernel(benchmark: Any, case: str, who: str) -> None:
    make, size = CASES[case]
    benchmark.group = case
    benchmark(make(*size)[who == "peer"])
