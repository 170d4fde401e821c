"""Masks beside their peers on the same input: ``pytest benches/test_masks.py --benchmark-only``.

Each group is one kernel on one input; outputs are compared before anything is timed. One thread: set the process's CPU
affinity to one core (``taskset -c 0``).

Floors. Pixels in or out cost a byte each to read or write: 1 MiB for a mask of 1024^2, 35 MB for the three images of
coco128 (most of what "polygons to uint8" takes is ``np.zeros`` of that, OpenCV's too), and what lies around the objects
of TACO is memory that is never touched. Polygons cost a Python float a number to read, and a place to find, sort and
write a column that an edge crosses: 27 and 100 thousand for the 40 images of coco128; reading is about a quarter of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from samfast.masks import Masks, polygons_to_numpy

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = {"coco128": "coco128/annotations/instances_val2017.json", "taco": "coco_json/taco/annotations.json"}
Objects = list[list[list[float]]]
Call = Callable[[], Any]


def star(height: int, width: int, vertices: int = 40) -> list[float]:
    angle = np.arange(vertices) * 2 * np.pi / vertices
    radius = np.where(np.arange(vertices) % 2, 0.45, 0.25)
    corners = np.stack([width * (0.5 + radius * np.cos(angle)), height * (0.5 + radius * np.sin(angle))], axis=1)
    return [float(value) for value in corners.round(2).ravel()]


@cache
def annotations(name: str) -> list[tuple[Objects, int, int]]:
    """The polygons of the 40 images that have most objects."""
    if name.startswith("star"):
        side = int(name.removeprefix("star"))
        return [([[star(side, side)]], side, side)]
    path = REAL_DATA / REAL[name]
    if not path.is_file():
        pytest.skip(f"REAL DATA ABSENT: {path} does not exist")
    data = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    objects: dict[int, Objects] = {}
    for annotation in data["annotations"]:
        polygons = annotation["segmentation"]
        if isinstance(polygons, list) and polygons and all(len(polygon) >= 6 for polygon in polygons):
            objects.setdefault(annotation["image_id"], []).append(polygons)
    most = sorted(objects, key=lambda image: -len(objects[image]))[:40]
    return [(objects[image], *sizes[image]) for image in most]


def blob(side: int = 1024) -> NDArray[np.uint8]:
    y, x = np.mgrid[:side, :side] - side / 2
    return (np.hypot(y, x) < side * (0.3 + 0.12 * np.sin(5 * np.arctan2(y, x)))).astype(np.uint8)


def polygons_to_rle(name: str) -> dict[str, Call]:
    """The peers take one list of polygons an image: all of them, as rasterising one by one costs them more."""
    images = annotations(name)
    flat = [([polygon for polygons in objects for polygon in polygons], h, w) for objects, h, w in images]
    calls: dict[str, Call] = {
        "samfast": lambda: [Masks.from_polygons(objects, h, w) for objects, h, w in images],
        "pycocotools": lambda: [coco.frPyObjects(polygons, h, w) for polygons, h, w in flat],
    }
    for peer, function in peers("frPyObjects"):
        calls[peer] = lambda function=function: [function(polygons, h, w) for polygons, h, w in flat]
    # One polygon an object, so that both make the same masks.
    for (polygons, h, w), theirs in zip(flat, calls["pycocotools"](), strict=True):
        ours = Masks.from_polygons([[polygon] for polygon in polygons], h, w).rle()
        assert [rle["counts"].encode() for rle in ours] == [rle["counts"] for rle in theirs]
    return calls


def polygons_to_masks(name: str) -> dict[str, Call]:
    images = annotations(name)[:3]

    def merged() -> list[NDArray[np.uint8]]:
        return [
            np.stack([coco.decode(coco.merge(coco.frPyObjects(polygons, h, w))) for polygons in objects])
            for objects, h, w in images
        ]

    calls: dict[str, Call] = {
        "samfast": lambda: [polygons_to_numpy(objects, h, w) for objects, h, w in images],
        "pycocotools": merged,
    }
    for ours, theirs in zip(calls["samfast"](), merged(), strict=True):
        assert np.array_equal(ours, theirs)
    return calls


def polygons_to_opencv_masks(name: str) -> dict[str, Call]:
    """OpenCV gets its vertices as the arrays it takes, samfast as the lists annotations are."""
    cv2 = pytest.importorskip("cv2", minversion="5")
    images = annotations(name)[:3]
    corners = [
        [[np.array(polygon).reshape(-1, 2).astype(np.int32) for polygon in polygons] for polygons in objects]
        for objects, _, _ in images
    ]

    def filled() -> list[NDArray[np.uint8]]:
        batches = []
        for (objects, h, w), polygons in zip(images, corners, strict=True):
            batches.append(np.zeros((len(objects), h, w), np.uint8))
            for mask, contours in zip(batches[-1], polygons, strict=True):
                cv2.fillPoly(mask, contours, 1)
        return batches

    calls: dict[str, Call] = {
        "samfast": lambda: [polygons_to_numpy(objects, h, w, rule="opencv") for objects, h, w in images],
        "opencv": filled,
    }
    for ours, theirs in zip(calls["samfast"](), filled(), strict=True):
        assert np.array_equal(ours, theirs)
    return calls


def masks_to_rle(name: str) -> dict[str, Call]:
    mask = blob(int(name))
    calls: dict[str, Call] = {
        "samfast": lambda: Masks.from_numpy(mask),
        "pycocotools": lambda: coco.encode(np.asfortranarray(mask)),
    }
    for peer, function in peers("encode"):
        calls[peer] = lambda function=function: function(np.asfortranarray(mask))
    assert Masks.from_numpy(mask).rle()[0]["counts"].encode() == calls["pycocotools"]()["counts"]
    return calls


def rle_to_masks(name: str) -> dict[str, Call]:
    if name in REAL:
        return rles_to_masks(name)
    mask = blob(int(name))
    masks, rle = Masks.from_numpy(mask), coco.encode(np.asfortranarray(mask))
    calls: dict[str, Call] = {"samfast": masks.numpy, "pycocotools": lambda: coco.decode(rle)}
    for peer, function in peers("decode"):
        calls[peer] = lambda function=function: function(rle)
    for call in calls.values():
        assert np.array_equal(np.squeeze(call()).astype(bool), mask.astype(bool))
    return calls


def rles_to_masks(name: str) -> dict[str, Call]:
    """All objects of an image in one call, which is what the peers do fastest."""
    objects, h, w = annotations(name)[0]
    masks = Masks.from_polygons(objects, h, w)
    rles = [coco.merge(coco.frPyObjects(polygons, h, w)) for polygons in objects]
    calls: dict[str, Call] = {"samfast": masks.numpy, "pycocotools": lambda: coco.decode(rles)}
    for peer, function in peers("decode"):
        calls[peer] = lambda function=function: function(rles)
    for peer, call in calls.items():
        found = call() if peer == "samfast" else np.moveaxis(call(), -1, 0)
        assert np.array_equal(found.astype(bool, copy=False), masks.numpy())
    return calls


def peers(function: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """That function of the peers that are installed."""
    for name, package, module in (
        ("hotcoco", "hotcoco", "hotcoco.mask"),
        ("faster-coco-eval", "faster_coco_eval", "faster_coco_eval.core.mask"),
    ):
        if find_spec(package):
            yield name, getattr(import_module(module), function)


KERNELS: dict[str, tuple[Callable[[str], dict[str, Call]], list[str]]] = {
    "polygons to RLE": (polygons_to_rle, ["star1024", "coco128", "taco"]),
    "polygons to uint8": (polygons_to_masks, ["star1024", "coco128", "taco"]),
    "polygons to uint8, OpenCV's pixels": (polygons_to_opencv_masks, ["coco128", "taco"]),
    "uint8 to RLE": (masks_to_rle, ["1024"]),
    "RLE to uint8": (rle_to_masks, ["1024", *REAL]),
}
CASES = [(kernel, name) for kernel, (_, names) in KERNELS.items() for name in names]
PEERS = ["samfast", "pycocotools", "hotcoco", "faster-coco-eval", "opencv"]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("kernel", "name"), CASES, ids=[f"{kernel}-{name}" for kernel, name in CASES])
def test_masks(benchmark: Any, kernel: str, name: str, peer: str) -> None:
    calls = KERNELS[kernel][0](name)
    if peer not in calls:
        pytest.skip(f"{peer} is not installed, or has no such function")
    benchmark.group = f"{kernel}, {name}"
    benchmark(calls[peer])
