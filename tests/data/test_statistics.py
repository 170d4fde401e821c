"""The figures people look at first are the figures of the masks, and the text says them."""

import ast
import inspect

import numpy as np
import pytest
from scipy import ndimage

from samfast.data import describe, load_dataset, statistics


@pytest.fixture
def dataset(folders, make_blob, save):
    masks = {f"{n}": make_blob(20 + n, 40, at=(n, 2 * n)) for n in range(9)}
    masks["0"][18:, 30:] = 255
    masks["1"][:] = 0
    root = folders({**masks, "none": None})
    save(root / "masks" / "8.png", make_blob(5, 5))
    return load_dataset(root, max_bad=0.2), {stem: mask for stem, mask in masks.items() if stem != "8"}


def test_figures_are_those_of_the_masks(dataset):
    data, masks = dataset
    found = data.statistics()
    order = [sample.path.stem for sample in data.samples if sample.state != "missing"]
    shares = [(masks[stem] > 0).mean() for stem in order]
    np.testing.assert_allclose(found.foreground, shares)
    pieces = [ndimage.label(masks[stem], np.ones((3, 3)))[1] for stem in order]
    np.testing.assert_array_equal(found.pieces, pieces)
    assert sorted(pieces)[0] == 0
    assert max(pieces) == 2
    assert sorted(found.object_areas_px.tolist()) == sorted((m > 0).sum() for m in masks.values() if m.any())
    assert sum(found.counts[split]["labelled"] for split in found.counts) == 7
    assert sum(found.counts[split]["empty"] for split in found.counts) == 1
    assert sum(found.counts[split]["missing"] for split in found.counts) == 1
    assert (found.heights.min(), found.widths.max()) == (20, 40)


def test_ignored_pixels_are_not_counted(folders):
    labels = np.zeros((10, 10), np.uint8)
    labels[:, :4] = 1
    labels[:, 4] = 255
    labels[:2, 5] = 2
    found = load_dataset(folders({"a": labels})).statistics()
    np.testing.assert_allclose(found.foreground, [42 / 90])
    assert found.ignored == 1
    assert {name: (one.objects, one.images, one.median_area_px) for name, one in found.classes.items()} == {
        "1": (1, 1, 40.0),
        "2": (1, 1, 2.0),
    }


def test_the_text_says_what_there_is_and_what_is_wrong(dataset):
    text = describe(dataset[0])
    for part in (
        "data: image and mask folders",
        "images/ + masks/, paired by name; the masks hold 0 and 255",
        "class: one mask is all of a class in the image",
        "Left out: 1",
        "size mismatch (1)",
        "images/8.png: the mask is 5 x 5, the image is 40 x 28",
        "missing mask (1)",
    ):
        assert part in text, part
    assert max(map(len, text.splitlines())) < 140


def test_the_text_of_nothing_wrong(coco):
    square = [3, 4, 14, 4, 14, 12, 3, 12]
    text = describe(load_dataset(coco([{"segmentation": [square]}, {"segmentation": [square], "category_id": 7}])))
    assert text.endswith("Nothing is wrong")
    assert "objects an image" in text
    assert "median area" in text


def test_long_lists_of_problems_are_cut(folders, make_blob):
    root = folders({**{f"{n:02}": None for n in range(30)}, "x": make_blob()})
    text = describe(load_dataset(root))
    assert "missing mask (30)" in text
    assert "and 26 more" in text


def test_a_data_set_without_any_object_has_no_figures_to_show(folders, make_blob):
    text = describe(load_dataset(folders({"a": make_blob(value=0)})))
    assert next(line.split()[-6:] for line in text.splitlines() if "area of one mask" in line) == ["-"] * 6


def test_the_data_set_imports_its_statistics_and_not_the_other_way_round():
    body = ast.parse(inspect.getsource(statistics)).body  # what runs on import; types alone lie in an if below it
    modules = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    assert "samfast.data.types" in modules
    assert "samfast.data.dataset" not in modules
    assert load_dataset.__globals__["measure"] is statistics.measure
