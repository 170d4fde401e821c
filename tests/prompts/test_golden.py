"""The documented streams, by values written down once: a draw never changes."""

from __future__ import annotations

import numpy as np

from samfast import _rust
from samfast.masks import Masks
from samfast.prompts import corrective_clicks, draw_keys, negative_points, sample_points

KEYS = draw_keys(7, "image", ["a", "b"], epoch=2, draw=1)
Y, X = np.mgrid[:6, :9]
MASKS = Masks.from_numpy(np.stack([(X + 2 * Y) % 5 < 2] * 2))


def test_keys() -> None:
    assert KEYS.tolist() == [0x515225A2B27F8707, 0x9CF2EDBB251A25B7]


def test_points() -> None:
    assert sample_points(MASKS, KEYS, 4).astype(int).tolist() == [
        [[8, 1], [4, 3], [6, 0], [7, 2]],
        [[4, 1], [6, 2], [3, 4], [1, 2]],
    ]


def test_negatives() -> None:
    assert negative_points(MASKS, KEYS, 3).astype(int).tolist() == [
        [[7, 1], [4, 0], [2, 3]],
        [[6, 4], [3, 2], [0, 1]],
    ]


def test_clicks() -> None:
    # Everything is wrong: a uniform pixel of the image, number draw * 54 >> 64 column by column.
    points, labels = corrective_clicks(Masks.from_numpy(~MASKS.numpy()), MASKS, KEYS, rule="random")
    number = 0x6CA39F67E309F148 * 54 >> 64
    assert points[0].tolist() == [number // 6, number % 6]
    x, y = points.astype(int).T
    assert labels.tolist() == MASKS.numpy()[[0, 1], y, x].astype(int).tolist()


def test_boxes() -> None:
    moved = _rust.jitter_boxes(np.array([[100.0, 50.0, 164.0, 82.0]] * 2), KEYS, 0.125, 20.0, 200, 200)
    assert moved.tolist() == [
        [107.12645303392262, 49.26301958532922, 164.20381361522772, 84.93950379442137],
        [92.09091364238118, 51.85362074189328, 162.95380009117935, 81.10419262545645],
    ]
