"""Run lengths: what pycocotools reads, writes, measures and merges."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco

from samfast import _rust
from samfast.masks import Masks


@st.composite
def pixels(draw: st.DrawFn) -> NDArray[np.uint8]:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)))
    if draw(st.booleans()):
        return draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (rng.random(shape) < draw(st.floats(0, 1))).astype(np.uint8)


def encoded(masks: NDArray[np.uint8]) -> list[dict]:
    return [coco.encode(np.asfortranarray(mask)) for mask in masks]


@settings(max_examples=200, deadline=None)
@given(pixels())
def test_encode_decode_measure_merge(masks: NDArray[np.uint8]) -> None:
    reference = encoded(masks)
    ours = Masks.from_numpy(masks)
    assert [rle["counts"].encode() for rle in ours.rle()] == [rle["counts"] for rle in reference]
    assert np.array_equal(ours.numpy(), masks.astype(bool))
    assert np.array_equal(ours.numpy(), coco.decode(reference).transpose(2, 0, 1).astype(bool))
    assert ours.area().tolist() == coco.area(reference).tolist()
    assert ours.union().rle()[0]["counts"].encode() == coco.merge(reference)["counts"]
    assert Masks.from_rle(reference) == ours
    both = [coco.merge([a, reference[0]], intersect=True)["counts"] for a in reference]
    assert [rle["counts"].encode() for rle in ours.intersect(ours[0]).rle()] == both


@settings(max_examples=200, deadline=None)
@given(pixels())
def test_boxes(masks: NDArray[np.uint8]) -> None:
    # pycocotools gives x, y, width, height; ours are inclusive corners.
    x, y, width, height = coco.toBbox(encoded(masks)).T
    expected = np.stack([x, y, x + width - 1, y + height - 1], axis=1)
    empty = ~masks.any(axis=(1, 2))
    expected[empty] = [0, 0, -1, -1]
    assert np.array_equal(Masks.from_numpy(masks).boxes(), expected)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=30), st.booleans())
def test_strings_of_any_runs(runs: list[int], leading_zero: bool) -> None:
    runs = [0, *runs] if leading_zero else runs
    total = max(sum(runs), 1)
    runs[-1] += total - sum(runs)
    text = coco.frPyObjects([{"size": [1, total], "counts": runs}], 1, total)[0]["counts"]
    counts, offsets = np.array(runs, np.uint32), np.array([0, len(runs)])
    assert _rust.rle_to_strings(counts, offsets) == [text]
    assert _rust.strings_to_rle([text], 1, total)[0].tolist() == runs


def test_a_full_image_run_needs_seven_bytes() -> None:
    height, width = 65535, 65537
    counts, offsets = np.array([0, 2**32 - 1], np.uint32), np.array([0, 2])
    (text,) = _rust.rle_to_strings(counts, offsets)
    assert _rust.strings_to_rle([text], height, width)[0].tolist() == counts.tolist()
    assert _rust.rle_area(counts, offsets).tolist() == [2**32 - 1]
    assert _rust.rle_bbox(counts, offsets, height, width).tolist() == [[0, 0, width - 1, height - 1]]


@pytest.mark.real
def test_real_strings(real_data: Path) -> None:
    results = json.loads(
        (real_data / "coco_json/cocoapi/results/instances_val2014_fakesegm100_results.json").read_text()
    )
    assert len(results) == 734
    for result in results:
        rle = result["segmentation"]
        masks = Masks.from_rle([rle])
        assert masks.rle()[0]["counts"] == rle["counts"]
        assert masks.area()[0] == coco.area(rle)
        assert np.array_equal(masks.numpy()[0], coco.decode(rle).astype(bool))


@pytest.mark.real
def test_real_crowds(real_data: Path) -> None:
    data = json.loads((real_data / "coco128/annotations/instances_val2017.json").read_text())
    crowds = [a["segmentation"] for a in data["annotations"] if isinstance(a["segmentation"], dict)]
    assert crowds
    for rle in crowds:
        compressed = coco.frPyObjects([rle], *rle["size"])[0]
        ours = Masks.from_rle([rle])
        assert np.array_equal(ours.numpy()[0], coco.decode(compressed).astype(bool))
        assert ours.area()[0] == coco.area(compressed)
