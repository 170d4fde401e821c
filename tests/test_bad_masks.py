"""A bad argument of what makes or changes masks is an error of samfast that names it, and the value of an option."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from samfast.distances import distance_transform
from samfast.errors import ConfigError, DataError, SamfastError
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, from_labels, logits_to_packed, polygons_to_numpy, polygons_to_packed, to_labels
from samfast.metrics import boundaries, overlap_counts, pairwise_iou, surface_distances
from samfast.prompts import (
    center_points,
    centroid_points,
    corrective_clicks,
    draw_keys,
    farthest_points,
    mask_logits,
    negative_points,
    sample_points,
)

NAN, INF, HUGE = math.nan, math.inf, 2**70
PIXELS = np.random.default_rng(0).random((4, 20, 30)) < 0.5
MASKS = Masks.from_numpy(PIXELS)
PACKED = MASKS.packed()
COUNTS, OFFSETS = MASKS.counts, MASKS.offsets
SQUARE = [[1, 1, 8, 1, 8, 8, 1, 8]]
FRAME = PreprocessSpec(16, 4, 4, (0, 0, 0), (1, 1, 1)).frame(20, 30)
LOW_RES = np.ones((1, 4, 4), np.float32)
LOCKED = np.zeros(PIXELS.shape, bool)
LOCKED.flags.writeable = False

Call = Callable[[Any], Any]

# An argument: the error it raises, what it is called, calls that take it, and values none of them takes.
TABLE: list[tuple[type[SamfastError], str, list[Call], list[Any]]] = [
    (DataError, "rles", [Masks.from_rle], [5, None, {"size": [2, 2], "counts": [4]}, []]),
    (DataError, "rles[0]", [lambda bad: Masks.from_rle([bad])], [5, "rle", {}, {"size": 4}, {"size": [2, 2]}]),
    (
        DataError,
        "height",
        [
            lambda bad: Masks.from_polygons([SQUARE], bad, 9),
            lambda bad: polygons_to_numpy([SQUARE], bad, 9),
            lambda bad: polygons_to_packed([SQUARE], bad, 9),
            lambda bad: Masks.from_rle([{"size": [bad, 9], "counts": [9]}]),
            lambda bad: Masks.empty(bad, 9),
        ],
        [0, -1, 2**32, 2**63, HUGE],
    ),
    (
        ConfigError,
        "height",
        [
            lambda bad: MASKS.crop(0, 0, bad, 9),
            lambda bad: MASKS.resize(bad, 9),
            lambda bad: MASKS.warp(np.eye(3), bad, 9),
        ],
        [0, -1, 1.5, "a", None, 2**32, HUGE],
    ),
    (ConfigError, "height", [lambda bad: MASKS.crop(9, 9, bad, 9)], [12, 20]),
    (ConfigError, "top", [lambda bad: MASKS.crop(bad, 0, 2, 2)], [-1, 20, 1.5, None, HUGE]),
    (ConfigError, "left", [lambda bad: MASKS.crop(0, bad, 2, 2)], [-1, 30, 1.5, None, HUGE]),
    (
        ConfigError,
        "matrix",
        [lambda bad: MASKS.warp(bad, 9, 9)],
        [
            "a",
            None,
            np.eye(2),
            np.zeros((3, 3)),
            np.diag([1, 1, 2]),
            np.full((3, 3), NAN),
            np.diag([1e-160, 1e-160, 1]),
        ],
    ),
    (ConfigError, "width", [lambda bad: Masks.from_packed(PACKED, bad)], [0, -1, 1.5, "30", None, HUGE]),
    (DataError, "words", [lambda bad: Masks.from_packed(bad, 30)], [PIXELS, "a", None, PACKED[0], PACKED[:, :, :0]]),
    (DataError, "masks", [Masks.from_numpy], [[[1.0]], "a", None, [[True], [True, False]], np.zeros((1, 0, 3), bool)]),
    (
        ConfigError,
        "rule",
        [
            lambda bad: Masks.from_polygons([SQUARE], 9, 9, rule=bad),
            lambda bad: polygons_to_numpy([SQUARE], 9, 9, rule=bad),
        ],
        ["pixel-centre", None, 1],
    ),
    (
        DataError,
        "objects",
        [lambda bad: Masks.from_polygons(bad, 9, 9), lambda bad: polygons_to_numpy(bad, 9, 9)],
        [5, None, "abc", [5], [None]],
    ),
    (
        DataError,
        "objects[0]",
        [lambda bad: Masks.from_polygons([[bad]], 9, 9), lambda bad: polygons_to_packed([[bad]], 9, 9)],
        [
            np.ones((4, 3)),
            np.ones((2, 4)),
            np.ones((1, 8)),
            list("123456"),
            [True, False] * 3,
            np.ones((3, 2), bool),
            [1j] * 6,
            [None] * 6,
            "123456",
            {},
            [[1, 2], [3]],
        ],
    ),
    (
        ConfigError,
        "connectivity",
        [
            lambda bad: MASKS.components(connectivity=bad),
            lambda bad: MASKS.polygons(connectivity=bad),
            lambda bad: MASKS.fill_holes(connectivity=bad),
            lambda bad: MASKS.remove_small(1, connectivity=bad),
        ],
        [5, 4.0, "4", None],
    ),
    (ConfigError, "holes", [lambda bad: MASKS.polygons(holes=bad)], ["keep", None, True]),
    (ConfigError, "min_area", [MASKS.remove_small], [-1, 1.5, None, HUGE]),
    (ConfigError, "max_area", [lambda bad: MASKS.fill_holes(max_area=bad)], [-1, 1.5, "a", HUGE]),
    (ConfigError, "at_border", [lambda bad: MASKS.fill_holes(at_border=bad)], [None, "yes", 1]),
    (ConfigError, "keep_largest", [lambda bad: MASKS.remove_small(1, keep_largest=bad)], [None, "yes", 1]),
    (DataError, "other", [MASKS.intersect, MASKS.subtract], [PIXELS, None]),
    (DataError, "batches", [lambda bad: Masks.concatenate([MASKS, bad])], [PIXELS, None]),
    (
        DataError,
        "frame",
        [
            MASKS.rasterize,
            lambda bad: Masks.from_logits(LOW_RES, bad),
            lambda bad: logits_to_packed(LOW_RES, bad),
            lambda bad: mask_logits(MASKS, bad),
        ],
        [None, (20, 30)],
    ),
    (
        DataError,
        "logits",
        [lambda bad: Masks.from_logits(bad, FRAME), lambda bad: logits_to_packed(bad, FRAME)],
        [None, "a", LOW_RES[0], LOW_RES.astype(np.float64), [[1], [1, 2]], LOW_RES * np.float32(NAN)],
    ),
    (ConfigError, "threshold", [lambda bad: Masks.from_logits(LOW_RES, FRAME, threshold=bad)], [NAN, INF, "0"]),
    (
        DataError,
        "labels",
        [from_labels],
        [[["a"]], "a", None, np.zeros((2, 2)), np.zeros((0, 3), int), [[2**31]], [[1], [1, 2]]],
    ),
    (
        ConfigError,
        "background",
        [lambda bad: from_labels(np.eye(2, dtype=int), background=bad), lambda bad: to_labels(MASKS, background=bad)],
        [2**31, -(2**31) - 1, 1.5, None, "a"],
    ),
    (ConfigError, "values", [lambda bad: to_labels(MASKS, bad)], [[1, 2], [1.5] * 4, [2**31] * 4, "ab", [[1], [1, 2]]]),
    (
        ConfigError,
        "out",
        [
            lambda bad: MASKS.numpy(out=bad),
            lambda bad: MASKS.packed(out=bad),
            lambda bad: MASKS.rasterize(FRAME, out=bad),
            lambda bad: MASKS.rasterize(FRAME, hard=True, out=bad),
            lambda bad: to_labels(MASKS, out=bad),
            lambda bad: polygons_to_numpy([SQUARE], 20, 30, out=bad),
            lambda bad: polygons_to_packed([SQUARE], 20, 30, out=bad),
        ],
        [LOCKED, PIXELS.astype(np.float64), PIXELS[:, ::2], [0], "x"],
    ),
]

CASES = [
    pytest.param(error_type, name, call, bad, id=f"{name}-{i}-{j}-{k}")
    for i, (error_type, name, calls, values) in enumerate(TABLE)
    for j, call in enumerate(calls)
    for k, bad in enumerate(values)
]


@pytest.mark.parametrize(("error_type", "name", "call", "bad"), CASES)
def test_a_bad_argument_is_named(error_type: type[SamfastError], name: str, call: Call, bad: Any) -> None:
    with pytest.raises(error_type) as caught:
        call(bad)
    assert caught.value.where is not None
    assert name in caught.value.where.split(", ")
    if error_type is ConfigError and isinstance(bad, (int, float)):
        assert repr(bad) in caught.value.what or reprlib.repr(bad) in caught.value.what


def test_what_the_table_calls_bad_is_bad_alone() -> None:
    points = np.array([[1, 1], [8, 1], [8, 8], [1, 8]])
    for polygon in (points, points[:, None], points.astype(np.float32), points.ravel(), points.tolist()):
        assert Masks.from_polygons([[polygon]], 9, 9) == Masks.from_polygons([SQUARE], 9, 9)
    assert MASKS.components(connectivity=np.int8(4))[0] == MASKS.components(connectivity=4)[0]
    assert MASKS.fill_holes(at_border=np.True_, max_area=2**64 - 1) == MASKS.fill_holes(at_border=True)


@pytest.mark.parametrize("size", [np.int64, np.uint8, int])
def test_masks_of_any_integers_are_json(size: type) -> None:
    masks = [
        Masks.from_polygons([SQUARE], size(20), size(30)),
        Masks.from_packed(PACKED, size(30)),
        MASKS.crop(0, 0, size(5), size(6)),
        MASKS.resize(size(5), size(6)),
        Masks(size(20), size(30), MASKS.counts, MASKS.offsets),
    ]
    for batch in masks:
        assert Masks.from_rle(json.loads(json.dumps(batch.rle()))) == batch


@pytest.mark.parametrize(
    ("height", "width", "counts", "offsets"),
    [
        (0, 30, COUNTS, OFFSETS),
        (20.0, 30, COUNTS, OFFSETS),
        (2**40, 2**40, COUNTS, OFFSETS),
        (20, 30, COUNTS.tolist(), OFFSETS),
        (20, 30, COUNTS.astype(np.int64), OFFSETS),
        (20, 30, COUNTS[None], OFFSETS),
        (20, 30, COUNTS, OFFSETS.astype(np.int32)),
        (20, 30, COUNTS, OFFSETS[:0]),
        (20, 30, COUNTS, OFFSETS + 1),
        (20, 30, COUNTS[:-1], OFFSETS),
    ],
)
def test_arrays_that_are_no_masks_are_refused_at_once(height: Any, width: Any, counts: Any, offsets: Any) -> None:
    with pytest.raises(DataError):
        Masks(height, width, counts, offsets)


@pytest.mark.parametrize(
    "masks",
    [
        Masks(21, 30, COUNTS, OFFSETS),
        Masks(20, 30, COUNTS[::-1], OFFSETS),
        Masks(20, 30, np.full(len(COUNTS), 2**32 - 1, np.uint32), OFFSETS),
        Masks(20, 30, COUNTS, np.array([0, 2**62, len(COUNTS)])),
    ],
    ids=["height", "strided", "runs", "offsets"],
)
def test_runs_that_are_no_masks_are_refused_by_all_that_reads_them(masks: Masks) -> None:
    readers: list[Callable[[], Any]] = [
        masks.area,
        masks.rle,
        masks.boxes,
        masks.numpy,
        masks.packed,
        masks.union,
        masks.components,
        masks.fill_holes,
        masks.polygons,
        masks.tobytes,
        lambda: masks.resize(4, 4),
        lambda: masks.intersect(masks),
        lambda: to_labels(masks),
        lambda: sample_points(masks, draw_keys(0, "image", ["a"] * len(masks))),
        lambda: negative_points(masks, draw_keys(0, "image", ["a"] * len(masks))),
        lambda: center_points(masks),
        lambda: centroid_points(masks),
        lambda: farthest_points(masks, 2),
        lambda: corrective_clicks(masks, masks),
        lambda: overlap_counts(masks, masks),
        lambda: pairwise_iou(masks, masks),
        lambda: boundaries(masks),
        lambda: surface_distances(masks, masks),
        lambda: distance_transform(masks),
    ]
    for reader in readers:
        with pytest.raises(DataError):
            reader()
