"""Placements: what the options promise, and that the draw depends on its own numbers alone."""

from __future__ import annotations

import numpy as np
import pytest

from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.views import Geometry, Placement

SPEC = PreprocessSpec(96, 12, 48, (120.0, 110.0, 100.0), (50.0, 60.0, 70.0))


def placements(geometry: Geometry, count: int = 400, height: int = 60, width: int = 100) -> list[Placement]:
    return [geometry.draw(np.random.default_rng(seed), height, width) for seed in range(count)]


def test_no_option_is_the_identity() -> None:
    for placement in placements(Geometry(), 20):
        np.testing.assert_array_equal(placement.matrix, np.eye(3))
        assert placement.size == (60, 100)


def test_flips_and_turns_are_exact_and_as_likely_as_they_say() -> None:
    found = [p.matrix[0].tolist() for p in placements(Geometry(flip_horizontal=0.3))]
    assert {tuple(row) for row in found} == {(1, 0, 0), (-1, 0, 100)}
    assert 0.2 < np.mean([row[0] == -1 for row in found]) < 0.4
    turned = placements(Geometry(quarter_turns=True))
    assert {p.size for p in turned} == {(60, 100), (100, 60)}
    kinds = [tuple(p.matrix[:2].ravel()) for p in turned]
    expected = {(1, 0, 0, 0, 1, 0), (0, -1, 60, 1, 0, 0), (-1, 0, 100, 0, -1, 60), (0, 1, 0, -1, 0, 100)}
    assert set(kinds) == expected
    assert all(0.15 < kinds.count(kind) / 400 < 0.35 for kind in expected)


def test_turns_keep_the_centre_and_lengths() -> None:
    angles = []
    for placement in placements(Geometry(rotate_deg=30)):
        np.testing.assert_allclose(placement.matrix @ [50, 30, 1], [50, 30, 1], atol=1e-9)
        np.testing.assert_allclose(placement.matrix[:2, :2] @ placement.matrix[:2, :2].T, np.eye(2), atol=1e-12)
        angles.append(np.degrees(np.arctan2(placement.matrix[1, 0], placement.matrix[0, 0])))
    assert -30 <= min(angles) < -27
    assert 27 < max(angles) <= 30


def test_zooming_in_shows_nothing_off_the_image_and_zooming_out_all_of_it() -> None:
    corners = np.array([[0, 0, 1], [100, 60, 1]]).T
    for placement in placements(Geometry(zoom=(1.0, 3.0))):
        (x0, x1), (y0, y1), _ = placement.matrix @ corners
        assert max(x0, y0) <= 1e-9
        assert min(x1 - 100, y1 - 60) >= -1e-9
    for placement in placements(Geometry(zoom=(0.5, 1.0))):
        (x0, x1), (y0, y1), _ = placement.matrix @ corners
        assert min(x0, y0) >= -1e-9
        assert max(x1 - 100, y1 - 60) <= 1e-9
    zooms = np.array([p.matrix[0, 0] for p in placements(Geometry(zoom=(0.5, 2.0)))])
    assert zooms.min() < 0.53
    assert zooms.max() > 1.9
    assert 0.4 < (zooms < 1).mean() < 0.6  # log-uniform


def test_shear_leaves_rows_rows() -> None:
    shears = [p.matrix[0, 1] for p in placements(Geometry(shear_deg=20))]
    assert all(p.matrix[1].tolist() == [0, 1, 0] for p in placements(Geometry(shear_deg=20), 20))
    assert 0.3 < max(shears) <= np.tan(np.deg2rad(20))


def test_an_option_does_not_move_what_another_draws() -> None:
    alone, both = Geometry(rotate_deg=10), Geometry(rotate_deg=10, flip_horizontal=0.5, zoom=(1, 1))
    for one, other in zip(placements(alone, 30), placements(both, 30), strict=True):
        flip = np.array([[-1.0, 0, 100], [0, 1, 0], [0, 0, 1]])
        expected = [one.matrix, flip @ one.matrix]
        assert any(np.allclose(other.matrix, matrix, atol=1e-9) for matrix in expected)


def test_the_model_frame_gives_the_placement_back() -> None:
    for placement in placements(Geometry(0.5, 0.5, True, 40, (0.5, 2), 10), 50, 37, 91):
        matrix = placement.to_model(SPEC)
        back = Placement.from_model(matrix, placement.size, SPEC)
        assert back.size == placement.size
        np.testing.assert_allclose(back.matrix, placement.matrix, rtol=1e-12, atol=1e-12)
        resized = SPEC.resized(*placement.size)
        corner = np.linalg.inv(placement.matrix) @ [placement.width, placement.height, 1]
        np.testing.assert_allclose((matrix @ corner)[:2], resized[::-1], atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"flip_horizontal": 1.5},
        {"rotate_deg": -1},
        {"rotate_deg": float("nan")},
        {"zoom": (2, 1)},
        {"zoom": (0, 1)},
        {"zoom": (1, float("inf"))},
        {"shear_deg": 90},
    ],
)
def test_what_cannot_be_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Geometry(**options)
