"""A bad argument of prompts, metrics or distances is an error of samfast that names it, and the value of an option."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from samfast.distances import distance_transform
from samfast.errors import ConfigError, DataError, SamfastError
from samfast.frames import PreprocessSpec
from samfast.masks import Masks, logits_to_packed
from samfast.metrics import (
    bootstrap,
    bootstrap_difference,
    bootstrap_mean,
    boundaries,
    boundary_iou,
    boundary_width,
    mean_by_class,
    overlap_counts,
    pairwise_iou,
    scores,
    stability_scores,
    sum_by_class,
    surface_distances,
)
from samfast.prompts import (
    box_prompts,
    center_points,
    centroid_points,
    corrective_clicks,
    draw_keys,
    farthest_points,
    jitter_boxes,
    mask_logits,
    negative_points,
    point_grid,
    point_prompts,
    sample_points,
    snap_to_grid,
)

NAN, INF, HUGE = math.nan, math.inf, 2**70
PIXELS = np.random.default_rng(0).random((4, 20, 30)) < 0.5
MASKS = Masks.from_numpy(PIXELS)
PACKED = MASKS.packed()
LOGITS = np.where(PIXELS, 1, -1).astype(np.float32)
KEYS = draw_keys(0, "image", list("abcd"))
FRAME = PreprocessSpec(64, 8, 16, (0, 0, 0), (1, 1, 1)).frame(20, 30)
LOW_RES = np.zeros((1, 16, 16), np.float32)
SIZE: dict[str, Any] = {"height": 20, "width": 30}
LOCKED = np.zeros(PIXELS.shape)
LOCKED.flags.writeable = False

Call = Callable[[Any], Any]


def jitter(boxes: Any, keys: Any = KEYS, **options: Any) -> Any:
    return jitter_boxes(boxes, keys, **{**SIZE, **options})


# An argument: the error it raises, what it is called, calls that take it, and values none of them takes.
TABLE: list[tuple[type[SamfastError], str, list[Call], list[Any]]] = [
    (
        ConfigError,
        "k",
        [
            lambda bad: sample_points(MASKS, KEYS, bad),
            lambda bad: negative_points(MASKS, KEYS, bad),
            lambda bad: farthest_points(MASKS, bad),
        ],
        [-1, 1.5, None, "2", 2**29, 2**64, HUGE],
    ),
    (
        ConfigError,
        "keys",
        [
            lambda bad: sample_points(MASKS, bad),
            lambda bad: negative_points(MASKS, bad),
            lambda bad: jitter(MASKS.boxes(), bad),
            lambda bad: corrective_clicks(MASKS, MASKS, bad, rule="random"),
        ],
        [[1, 2, 3, 4], "keys", KEYS[:3], KEYS[None], KEYS.astype(np.int64), [[1], [2, 3]]],
    ),
    (ConfigError, "keys", [lambda bad: sample_points(MASKS, bad), lambda bad: jitter(MASKS.boxes(), bad)], [None]),
    (DataError, "annotation_ids[1]", [lambda bad: draw_keys(0, "image", ["a", bad])], [1, None, b"a"]),
    (
        DataError,
        "ignore",
        [
            lambda bad: sample_points(MASKS, KEYS, ignore=bad),
            lambda bad: negative_points(MASKS, KEYS, ignore=bad),
            lambda bad: center_points(MASKS, ignore=bad),
            lambda bad: corrective_clicks(MASKS, MASKS, ignore=bad),
        ],
        [PIXELS, 5, "mask"],
    ),
    (
        DataError,
        "masks",
        [
            lambda bad: sample_points(bad, KEYS),
            lambda bad: negative_points(bad, KEYS),
            center_points,
            centroid_points,
            lambda bad: farthest_points(bad, 2),
            lambda bad: mask_logits(bad, None),  # type: ignore[arg-type]
            boundaries,
        ],
        [PIXELS, None, [MASKS]],
    ),
    (
        DataError,
        "prediction",
        [lambda bad: pairwise_iou(bad, MASKS), lambda bad: corrective_clicks(bad, MASKS)],
        [PIXELS, None],
    ),
    (DataError, "prediction", [lambda bad: overlap_counts(bad, MASKS)], [None, "mask", [[[0], [0, 1]]], LOGITS[None]]),
    (DataError, "target", [lambda bad: pairwise_iou(MASKS, bad), lambda bad: corrective_clicks(MASKS, bad)], [PIXELS]),
    (
        ConfigError,
        "ring_px",
        [lambda bad: negative_points(MASKS, KEYS, where="ring", ring_px=bad)],
        [-1, NAN, INF, "3"],
    ),
    (ConfigError, "where", [lambda bad: negative_points(MASKS, KEYS, where=bad)], ["inside", None, 3, ["box"]]),
    (ConfigError, "rule", [lambda bad: corrective_clicks(MASKS, MASKS, rule=bad)], ["middle", None]),
    (
        ConfigError,
        "clicked",
        [lambda bad: corrective_clicks(MASKS, MASKS, clicked=bad)],
        ["a", [5], np.zeros((3, 1, 2))],
    ),
    (
        DataError,
        "boxes",
        [jitter],
        [
            np.zeros((4, 3)),
            np.zeros((2, 8)),
            np.arange(16.0),
            [["a"] * 4] * 4,
            None,
            np.zeros((1, 4, 4)),
            [[9, 9, 0, 0]] * 4,
        ],
    ),
    (ConfigError, "ratio", [lambda bad: jitter(MASKS.boxes(), ratio=bad)], [-1, NAN, INF, "0.1", None]),
    (ConfigError, "max_px", [lambda bad: jitter(MASKS.boxes(), max_px=bad)], [-1, NAN, INF, "20", None]),
    (
        ConfigError,
        "height",
        [
            lambda bad: jitter(MASKS.boxes(), height=bad),
            lambda bad: point_grid(2, height=bad, width=9),
            lambda bad: snap_to_grid([[0, 0]], 2, height=bad, width=9),
            lambda bad: boundary_width(bad, 9),
        ],
        [0, -1, 1.5, "a", None, 2**32, 2**63, HUGE],
    ),
    (
        ConfigError,
        "side",
        [lambda bad: point_grid(bad, **SIZE), lambda bad: snap_to_grid([[0, 0]], bad, **SIZE)],
        [0, -1, 1.5, "2", None, HUGE],
    ),
    (
        DataError,
        "points",
        [lambda bad: snap_to_grid(bad, 2, **SIZE)],
        ["a", 5, [[1, NAN]], [["1", "2"]], [[1], [1, 2]]],
    ),
    (DataError, "height", [lambda bad: jitter(MASKS.boxes(), height=bad)], [2**24 + 1]),
    (DataError, "width", [lambda bad: jitter(MASKS.boxes(), height=1, width=bad)], [2**24 + 1]),
    (
        DataError,
        "points",
        [point_prompts],
        [[[1, 2]], [1, 2], 5, None, "a", [[[1, 2, 3]]], [[[1, 2]], [[1]]], np.zeros((2, 2, 2, 2))],
    ),
    (DataError, "boxes", [box_prompts], [[1, 2], [[1, 2, 3]], 5, None, "a", [[1, 2, 3, 4], [1]], np.zeros((1, 1, 4))]),
    (ConfigError, "epsilon", [lambda bad: mask_logits(MASKS, None, epsilon=bad)], [0, 0.5, NAN, "a", None]),  # type: ignore[arg-type]
    (
        ConfigError,
        "threshold",
        [
            lambda bad: overlap_counts(LOGITS, MASKS, threshold=bad),
            lambda bad: boundary_iou(LOGITS, MASKS, threshold=bad),
            lambda bad: surface_distances(LOGITS, MASKS, threshold=bad),
            lambda bad: stability_scores(LOGITS, threshold=bad),
        ],
        [NAN, INF, "0", None, 10**400, 1e300, -3.5e38],
    ),
    (
        ConfigError,
        "threshold",
        [
            lambda bad: Masks.from_logits(LOW_RES, FRAME, threshold=bad),
            lambda bad: logits_to_packed(LOW_RES, FRAME, threshold=bad),
        ],
        [NAN, INF, "0", 1e300],
    ),
    (ConfigError, "offset", [lambda bad: stability_scores(LOGITS, offset=bad)], [-1, NAN, INF, "1", None, 1e300]),
    (
        ConfigError,
        "width",
        [
            lambda bad: overlap_counts(PACKED, PACKED, width=bad),
            lambda bad: boundary_iou(PACKED, PACKED, width=bad),
            lambda bad: surface_distances(PACKED, PACKED, width=bad),
        ],
        [0, -1, 29.5, "30", 2**63, HUGE],
    ),
    # One side tells how wide the masks are: another width is a mistake.
    (ConfigError, "width", [lambda bad: overlap_counts(MASKS, PACKED, width=bad)], [29, 31, 0, 1.5, "a"]),
    (
        ConfigError,
        "out",
        [
            lambda bad: overlap_counts(MASKS, MASKS, out=bad),
            lambda bad: pairwise_iou(MASKS, MASKS, out=bad),
            lambda bad: distance_transform(MASKS, out=bad),
        ],
        [np.zeros((4, 4), np.float32), np.zeros((3, 4), np.int64), [0], "x", LOCKED, np.zeros((4, 20, 60))[..., ::2]],
    ),
    (
        ConfigError,
        "dilation_ratio",
        [lambda bad: boundary_iou(MASKS, MASKS, dilation_ratio=bad), lambda bad: boundaries(MASKS, dilation_ratio=bad)],
        [0, -1, NAN, INF, 101, 1e300, "a", None],
    ),
    (
        ConfigError,
        "spacing",
        [lambda bad: surface_distances(MASKS, MASKS, spacing=bad), lambda bad: distance_transform(MASKS, spacing=bad)],
        [0, -1, NAN, INF, 1e-200, (1, 2, 3), (1, NAN), "a", None, [[1], [1, 2]]],
    ),
    (ConfigError, "border", [lambda bad: distance_transform(MASKS, border=bad)], ["yes", None, 2]),
    (
        ConfigError,
        "tolerance",
        [lambda bad: surface_distances(MASKS, MASKS, tolerance=bad)],
        [-1, NAN, INF, [[1]], "a", None],
    ),
    (ConfigError, "convention", [lambda bad: surface_distances(MASKS, MASKS, convention=bad)], ["scipy", None, 1]),
    (ConfigError, "empty", [lambda bad: surface_distances(MASKS, MASKS, empty=bad)], ["zero", None, 0]),
    (ConfigError, "empty", [lambda bad: scores(np.zeros((1, 4)), empty=bad)], ["nan", None, INF]),
    (
        DataError,
        "counts",
        [scores],
        [np.zeros((4, 3)), np.zeros((2, 8)), np.zeros(8), np.zeros((1, 2, 4)), [[1, 2, 3]], [["a"] * 4], None, 5],
    ),
    (DataError, "counts", [lambda bad: sum_by_class(bad, [0], 1)], [[[0.5] * 4], [["a"] * 4], None, [1, 2, 3, 4]]),
    (
        ConfigError,
        "crowd",
        [lambda bad: pairwise_iou(MASKS, MASKS, crowd=bad)],
        [[1, 0], ["a"] * 4, [0.5] * 4, [[1], [1, 2]]],
    ),
    (
        ConfigError,
        "num_classes",
        [lambda bad: mean_by_class([0.5], [0], bad), lambda bad: sum_by_class(np.ones((1, 4), int), [0], bad)],
        [-1, 1.5, None, "2", HUGE],
    ),
    (
        ConfigError,
        "classes",
        [lambda bad: mean_by_class([0.5], bad, 2)],
        [[2], [-1], [0.5], ["a"], [[0]], [[0], [0, 1]]],
    ),
    (
        DataError,
        "values",
        [bootstrap_mean, lambda bad: mean_by_class(bad, [0], 1)],
        [["a"], [None], [1j], [[1], [1, 2]]],
    ),
    (DataError, "values", [bootstrap_mean], [[INF, 1], [1, -INF]]),
    (DataError, "a", [lambda bad: bootstrap_difference(bad, [1.0, 2.0])], [[INF, 1], ["a", "b"]]),
    (DataError, "b", [lambda bad: bootstrap_difference([1.0, 2.0], bad)], [[INF, 1], ["a", "b"]]),
    (DataError, "sums", [lambda bad: bootstrap(bad, lambda sums: sums[:, 0])], [[1, 2], [[NAN]], [["a"]], [[INF]]]),
    (ConfigError, "groups", [lambda bad: bootstrap_mean([0.5, 1], bad)], [[1], [[1, 2]], [1, None], [[1], [1, 2]]]),
    (ConfigError, "confidence", [lambda bad: bootstrap_mean([0.5, 1], confidence=bad)], [0, 1, 95, NAN, "a", None]),
    (ConfigError, "draws", [lambda bad: bootstrap_mean([0.5, 1], draws=bad)], [0, 1.5, "9", None]),
    (ConfigError, "seed", [lambda bad: bootstrap_mean([0.5, 1], seed=bad)], [-1, 2**64, 0.5, "a", None]),
    (ConfigError, "method", [lambda bad: bootstrap_mean([0.5, 1], method=bad)], ["BCa", None]),
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
        assert reprlib.repr(bad) in caught.value.what


def test_what_the_table_calls_bad_is_bad_alone() -> None:
    """Good arguments of every kind pass: numbers of numpy's types, strided arrays, one row for many."""
    strided = np.repeat(KEYS, 2)[::2]
    assert np.array_equal(sample_points(MASKS, strided, np.int8(3)), sample_points(MASKS, KEYS, 3))
    assert np.array_equal(jitter(MASKS.boxes(), strided), jitter(MASKS.boxes()))
    assert np.array_equal(jitter(MASKS[0].boxes()[0], KEYS[:1]), jitter(MASKS[0].boxes(), KEYS[:1]))
    assert np.array_equal(distance_transform(MASKS, spacing=2), 2 * distance_transform(MASKS))
    assert np.array_equal(distance_transform(MASKS, border=np.True_), distance_transform(MASKS, border=True))
    counts = overlap_counts(PACKED, MASKS, width=np.uint16(30), threshold=np.float32(0))
    assert np.array_equal(counts, overlap_counts(MASKS, MASKS))
    assert scores(counts[0], empty=np.nan)["iou"].shape == (1,)
    assert np.array_equal(stability_scores(LOGITS, offset=np.float32(0.5)), np.ones(4))
