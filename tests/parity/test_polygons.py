"""Polygons to runs: bit for bit what pycocotools 2.0.11 makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from samfast.masks import Masks, polygons_to_numpy, polygons_to_packed


def reference(polygons: list[list[float]], height: int, width: int) -> str:
    # One at a time: pycocotools reads a list as boxes if its first polygon has four numbers.
    parts = [coco.frPyObjects([polygon], height, width)[0] for polygon in polygons]
    return (coco.merge(parts) if len(parts) > 1 else parts[0])["counts"].decode()


COORDINATES = {
    "two decimals": st.integers(-3000, 9000).map(lambda v: v / 100),
    "integers": st.integers(-30, 90),
    "half integers": st.integers(-60, 180).map(lambda v: v / 2),
    "tenths": st.integers(-300, 900).map(lambda v: v / 10),
    "raw floats": st.floats(-30, 90),
    "far away": st.floats(-20_000, 20_000),
}


@st.composite
def polygons_of(draw: st.DrawFn, coordinate: st.SearchStrategy[float]) -> list[float]:
    vertices = draw(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=14))
    if draw(st.booleans()):
        repeated = draw(st.integers(0, len(vertices) - 1))
        vertices[repeated:repeated] = [vertices[repeated]] * draw(st.integers(1, 3))
    return [float(value) for vertex in vertices for value in vertex]


@pytest.mark.parametrize("kind", COORDINATES)
def test_one_polygon(kind: str) -> None:
    @settings(max_examples=250, deadline=None)
    @given(polygons_of(COORDINATES[kind]), st.integers(1, 70), st.integers(1, 70))
    def check(polygon: list[float], height: int, width: int) -> None:
        ours = Masks.from_polygons([[polygon]], height, width).rle()[0]["counts"]
        assert ours == reference([polygon], height, width)

    check()


PIXELS = {"on the image": st.integers(0, 15), "around it": st.integers(-12, 40), "far away": st.integers(-9000, 9000)}


@pytest.mark.parametrize("kind", PIXELS)
def test_what_opencv_fills(kind: str) -> None:
    cv2 = pytest.importorskip("cv2", minversion="5")
    corners = st.lists(st.tuples(PIXELS[kind], PIXELS[kind]), min_size=3, max_size=9)

    @settings(max_examples=400, deadline=None)
    @given(st.lists(corners, min_size=1, max_size=3), st.integers(16, 40), st.integers(16, 70))
    def check(polygons: list[list[tuple[int, int]]], height: int, width: int) -> None:
        expected = np.zeros((height, width), np.uint8)
        cv2.fillPoly(expected, [np.array(polygon, np.int32) for polygon in polygons], 1)
        objects = [[np.array(polygon) + 0.0 for polygon in polygons]]
        ours = Masks.from_polygons(objects, height, width, rule="opencv")
        assert np.array_equal(ours.numpy()[0], expected)
        assert np.array_equal(polygons_to_numpy(objects, height, width, rule="opencv")[0], expected)
        assert np.array_equal(polygons_to_packed(objects, height, width, rule="opencv"), ours.packed())

    check()


def test_opencv_fills_more_than_coco() -> None:
    square = [[[10, 10, 50, 10, 50, 50, 10, 50]]]
    areas = [Masks.from_polygons(square, 60, 60, rule=rule).area()[0] for rule in ("coco", "opencv")]
    assert areas == [1600, 1681]
    hole = [[*square[0], [20, 20, 40, 20, 40, 40, 20, 40]]]
    assert Masks.from_polygons(hole, 60, 60, rule="opencv").area()[0] == 1681 - 19 * 19


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(polygons_of(st.one_of(*COORDINATES.values())), min_size=1, max_size=4), max_size=4),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_objects_are_unions(objects: list[list[list[float]]], height: int, width: int) -> None:
    ours = [rle["counts"] for rle in Masks.from_polygons(objects, height, width).rle()]
    assert ours == [reference(polygons, height, width) for polygons in objects]


def test_many_seeded() -> None:
    rng = np.random.default_rng(0)
    for size in ((37, 53), (480, 640), (1, 200), (200, 1)):
        for _ in range(1000):
            count = int(rng.integers(3, 25))
            polygon = rng.uniform(-0.3, 1.3, (count, 2)) * (size[1], size[0])
            flat = polygon.round(int(rng.integers(0, 3))).ravel().tolist()
            assert Masks.from_polygons([[flat]], *size).rle()[0]["counts"] == reference([flat], *size)


def test_a_changed_vertex_is_noticed() -> None:
    square = [10.0, 10.0, 50.0, 10.0, 50.0, 50.0, 10.0, 50.0]
    moved = [*square[:-1], 51.0]
    assert Masks.from_polygons([[moved]], 60, 60).rle()[0]["counts"] != reference([square], 60, 60)


@pytest.mark.real
@pytest.mark.parametrize(
    "file",
    [
        "coco128/annotations/instances_val2017.json",
        "facade_coco/test/_annotations.coco.json",
        "coco_json/taco/annotations.json",
        "coco_json/taco/annotations_unofficial.json",
    ],
)
def test_real_annotations(real_data: Path, file: str) -> None:
    data = json.loads((real_data / file).read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    images: dict[int, list[list[list[float]]]] = {}
    for annotation in data["annotations"]:
        polygons = annotation["segmentation"]
        if isinstance(polygons, list) and polygons and all(len(polygon) >= 6 for polygon in polygons):
            images.setdefault(annotation["image_id"], []).append(polygons)
    assert sum(map(len, images.values())) > 500
    for image, objects in images.items():
        ours = [rle["counts"] for rle in Masks.from_polygons(objects, *sizes[image]).rle()]
        assert ours == [reference(polygons, *sizes[image]) for polygons in objects], f"image {image}"
