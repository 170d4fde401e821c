"""What ``docs/quirks.md`` says, held to the tests it names; and the tests that have no other home."""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from samfast.errors import ConfigError, DataError
from samfast.masks import Masks

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "quirks.md").read_text().splitlines()
    if re.match(r"\| [A-Z]+\d+ \|", line)
]
SQUARE = [10.0, 10.0, 40.0, 10.0, 40.0, 40.0, 10.0, 40.0]


def named_in(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_there_are_rows_and_no_id_twice() -> None:
    assert len(ROWS) >= 16
    ids = [row[0] for row in ROWS]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_named_test_exists(row: list[str]) -> None:
    assert len(row) == 5, f"{row[0]}: id, quirk, source, here, test"
    assert row[3] in ("strict", "corrected")
    path, _, name = row[4].strip("`").partition("::")
    assert name in named_in(ROOT / path), f"{row[0]} names {row[4]}"


def test_every_value_but_zero_is_foreground() -> None:
    values = np.array([[0, 2, 3, 0], [255, 1, 0, 7]], np.uint8)
    assert Masks.from_numpy(values) == Masks.from_numpy(values != 0)
    # The reference runs away.
    assert not np.array_equal(coco.decode(coco.encode(np.asfortranarray(values))), values != 0)


def test_four_numbers_are_no_polygon() -> None:
    with pytest.raises(DataError, match="look like a box"):
        Masks.from_polygons([[[1, 2, 3, 4]]], 10, 10)


def test_what_is_no_polygon_is_refused() -> None:
    for bad in ([], [1, 2], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, float("nan")], [1, 2, 3, 4, 5, float("inf")]):
        with pytest.raises(DataError, match="object 1, polygon 0"):
            Masks.from_polygons([[SQUARE], [bad]], 50, 50)
    for bad in ([1, 2, 3, 4, 5, 2e8], [1, 2, 3, 4, 5, 10**400], ["a"] * 6, [[1, 2], [3]], 5.0):
        with pytest.raises(DataError):
            Masks.from_polygons([[bad]], 50, 50)  # type: ignore[list-item]
    for objects in ([[]], [SQUARE], SQUARE, "polygon", 5, None):
        with pytest.raises(DataError):
            Masks.from_polygons(objects, 50, 50)  # type: ignore[arg-type]


def test_vertices_are_corners() -> None:
    square = [0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 0.0, 9.0]
    ours = Masks.from_polygons([[square]], 20, 20)
    assert ours.area().tolist() == [81] == [coco.area(coco.frPyObjects([square], 20, 20)[0])]


def test_a_second_polygon_cuts_no_hole() -> None:
    inner = [20.0, 20.0, 30.0, 20.0, 30.0, 30.0, 20.0, 30.0]
    assert Masks.from_polygons([[SQUARE, inner]], 50, 50) == Masks.from_polygons([[SQUARE]], 50, 50)
    bow = [10.0, 10.0, 40.0, 40.0, 40.0, 10.0, 10.0, 40.0]
    reference = coco.frPyObjects([bow], 50, 50)[0]["counts"].decode()
    assert Masks.from_polygons([[bow]], 50, 50).rle()[0]["counts"] == reference


def test_a_vertex_given_twice_changes_nothing() -> None:
    twice = [*SQUARE[:4], *SQUARE[2:4], *SQUARE[4:], *SQUARE[:2]]
    assert Masks.from_polygons([[twice]], 50, 50) == Masks.from_polygons([[SQUARE]], 50, 50)


def test_golden_polygons() -> None:
    # Integers of a fixed recurrence, so that no library's generator is part of the golden value.
    state = 12345
    objects = []
    for _ in range(400):
        numbers = []
        for _ in range(24):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            numbers.append((state >> 40) % 70_000 / 100 - 50)
        objects.append([numbers])
    digest = hashlib.sha256(Masks.from_polygons(objects, 480, 640).tobytes()).hexdigest()
    assert digest == "3df80f9eff5a65f79a51f4f1a51acce968353aa5c9dca53619702ca4feafe48a"


def test_sizes_that_differ_do_not_merge() -> None:
    a, b = Masks.from_numpy(np.ones((4, 5), bool)), Masks.from_numpy(np.ones((5, 4), bool))
    with pytest.raises(ConfigError):
        a.intersect(b)
    with pytest.raises(ConfigError):
        Masks.concatenate([a, b])


def test_sizes_beyond_32_bits_are_refused() -> None:
    for height, width in ((2**16, 2**16), (2**40, 1), (2**62, 2**62)):
        with pytest.raises(DataError):
            Masks.from_polygons([[SQUARE]], height, width)
    assert Masks.from_polygons([[SQUARE]], 2**16, 2**16 - 1).area().tolist() == [900]


def test_zero_length_runs_are_read_not_written() -> None:
    loose = {"size": [3, 2], "counts": [0, 2, 0, 1, 1, 0, 0, 1, 1]}
    masks = Masks.from_rle([loose])
    assert masks.counts.tolist() == [0, 3, 1, 1, 1]
    assert masks == Masks.from_numpy(np.array([[1, 0], [1, 1], [1, 0]], bool))


def test_small_regions_as_segment_anything_removes_them() -> None:
    pytest.importorskip("cv2")
    amg = pytest.importorskip("segment_anything.utils.amg")
    rng = np.random.default_rng(0)
    for density in (0.3, 0.5, 0.7, 0.9, 0.99):
        mask = rng.random((60, 80)) < density
        mask[10:30, 20:50] ^= True
        ours = Masks.from_numpy(mask)
        for area in (1, 4, 30, 5000):
            holes, _ = amg.remove_small_regions(mask, area, "holes")
            assert np.array_equal(ours.fill_holes(max_area=area - 1, connectivity=8, at_border=True).numpy()[0], holes)
            islands, _ = amg.remove_small_regions(mask, area, "islands")
            kept = ours.remove_small(area, keep_largest=True).numpy()[0]
            # Of several largest pieces the reference keeps the first in another order.
            assert np.array_equal(kept, islands) or kept.sum() == islands.sum()


def test_neighbours_share_no_pixel() -> None:
    left = [0.5, 0.5, 10.5, 3.5, 10.5, 20.5, 0.5, 20.5]
    right = [10.5, 3.5, 20.5, 0.5, 20.5, 20.5, 10.5, 20.5]
    both = Masks.from_polygons([[left], [right], [left, right]], 30, 30, rule="pixel-center")
    assert both.area()[0] + both.area()[1] == both.area()[2]
    assert both[0].intersect(both[1]).area().tolist() == [0]
