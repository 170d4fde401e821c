"""COCO JSON, held pixel for pixel against pycocotools, in the layouts people have."""

import json
import math

import numpy as np
import pytest
from pycocotools import mask as oracle
from pycocotools.coco import COCO

from samfast.data import load_dataset
from samfast.errors import DataError

SQUARE = [3.0, 4.0, 14.0, 4.0, 14.0, 12.0, 3.0, 12.0]
TRIANGLE = [20.5, 2.0, 33.0, 9.25, 22.0, 18.0]
HEIGHT, WIDTH = 24, 36


def decoded(segmentation):
    """``annToMask`` of pycocotools."""
    if isinstance(segmentation, list):
        runs = oracle.merge(oracle.frPyObjects(segmentation, HEIGHT, WIDTH))
    elif isinstance(segmentation["counts"], list):
        runs = oracle.frPyObjects(segmentation, HEIGHT, WIDTH)
    else:
        runs = segmentation
    return oracle.decode(runs).astype(bool)


def runs(mask, *, compressed):
    found = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": found["size"], "counts": found["counts"].decode()}
    flat = np.concatenate([[0], mask.astype(np.int8).ravel(order="F")])
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    return {"size": list(mask.shape), "counts": counts}


@pytest.fixture
def scribble():
    return np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.6


def kinds(dataset):
    return sorted((problem.kind, problem.excluded) for problem in dataset.problems)


def test_every_kind_of_segmentation_is_pycocotools_mask(coco, scribble):
    segmentations = [
        [SQUARE],
        [SQUARE, TRIANGLE],
        runs(scribble, compressed=True),
        runs(~scribble, compressed=False),
        [[-5.0, -5.0, 50.0, 3.0, 12.0, 40.0]],
    ]
    root = coco([{"segmentation": one, "category_id": 1 + 6 * (n % 2)} for n, one in enumerate(segmentations)])
    dataset = load_dataset(root)
    assert (dataset.layout, dataset.target_kind, dataset.classes) == ("COCO JSON", "instance", ("cat", "dog"))
    target = dataset.target(dataset.samples[0])
    assert target.ids == dataset.samples[0].annotation_ids == ("1", "2", "3", "4", "5")
    assert target.classes.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_array_equal(target.masks.numpy(), [decoded(one) for one in segmentations])
    assert not target.ignore.area()[0]
    assert not dataset.problems


def test_crowds_are_ignored_but_for_the_objects_in_them(coco):
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[2:20, 1:30] = True
    root = coco(
        [
            {"segmentation": [SQUARE]},
            {"segmentation": runs(crowd, compressed=False), "iscrowd": 1},
            {"segmentation": [TRIANGLE], "iscrowd": 1, "category_id": 7},
        ]
    )
    dataset = load_dataset(root)
    target = dataset.target(dataset.samples[0])
    assert target.ids == ("1",)
    everything = (crowd | decoded([TRIANGLE])) & ~decoded([SQUARE])
    np.testing.assert_array_equal(target.ignore.numpy(), [everything])
    only_cats = load_dataset(root, classes=["cat"])
    expected = crowd & ~decoded([SQUARE])
    np.testing.assert_array_equal(only_cats.target(only_cats.samples[0]).ignore.numpy(), [expected])


def test_images_without_annotation_are_empty(coco):
    dataset = load_dataset(coco([{"segmentation": [SQUARE]}], count=2))
    assert [sample.state for sample in dataset.samples] == ["labelled", "empty"]


def test_a_file_to_be_split_finds_its_images_anywhere(coco, tmp_path):
    for place in ("annotations.json", "annotations/instances_default.json", "labels/x.json"):
        root = coco(
            [{"segmentation": [SQUARE]}], count=9, root=tmp_path / place[:4], json_path=place, folder="photos/deep"
        )
        dataset = load_dataset(root)
        assert dataset.split_origin == "automatic"
        assert dataset.samples[0].name == "photos/deep/0.png"
        assert all(dataset.of(split) for split in ("train", "val", "test"))


@pytest.mark.parametrize("val", ["val", "valid"])
def test_roboflow_sets(coco, val):
    for number, split in enumerate(("train", val, "test")):
        root = coco(
            [{"segmentation": [SQUARE]}],
            json_path=f"{split}/_annotations.coco.json",
            folder=split,
            prefix=f"p{number}_",
            seed=number,
        )
    dataset = load_dataset(root)
    assert dataset.split_origin == "given"
    assert [[sample.name for sample in dataset.of(split)] for split in ("train", "val", "test")] == [
        ["train/p0_0.png"],
        [f"{val}/p1_0.png"],
        ["test/p2_0.png"],
    ]


def test_one_roboflow_set_is_a_pool_as_root_and_below_it(coco, tmp_path):
    coco(
        [{"segmentation": [SQUARE]}],
        count=8,
        root=tmp_path / "r",
        json_path="test/_annotations.coco.json",
        folder="test",
    )
    for root in (tmp_path / "r", tmp_path / "r" / "test"):
        dataset = load_dataset(root)
        assert dataset.split_origin == "automatic"
        assert all(dataset.of(split) for split in ("train", "val", "test"))


@pytest.mark.parametrize("images", ["{}2017", "images/{}", "{}/images"])
def test_published_coco_sets_with_equal_file_names(coco, images):
    for number, split in enumerate(("train", "val")):
        root = coco(
            [{"segmentation": [SQUARE if number else TRIANGLE]}],
            count=3,
            json_path=f"annotations/instances_{split}2017.json",
            folder=images.format(split),
            seed=10 * number,
        )
    (root / "annotations" / "captions_val2017.json").write_text('{"images": [], "annotations": [{"caption": "a cat"}]}')
    dataset = load_dataset(root)
    assert (dataset.split_origin, dataset.split_note) == ("given", "without test")
    for split, part in (("train", TRIANGLE), ("val", SQUARE)):
        sample = dataset.of(split)[0]
        assert sample.name == images.format(split) + "/0.png"
        np.testing.assert_array_equal(dataset.target(sample).masks.numpy(), [decoded([part])])


def test_the_same_mask_as_pycocotools_through_its_own_door(coco, scribble):
    root = coco(
        [{"segmentation": [SQUARE, TRIANGLE], "area": 1}, {"segmentation": runs(scribble, compressed=True), "area": 1}]
    )
    api = COCO(str(root / "annotations.json"))
    dataset = load_dataset(root)
    expected = [api.annToMask(annotation).astype(bool) for annotation in api.dataset["annotations"]]
    np.testing.assert_array_equal(dataset.target(dataset.samples[0]).masks.numpy(), expected)


def test_file_names_of_another_machine(coco, save, make_noise):
    root = coco([{"segmentation": [SQUARE]}], count=3)
    content = json.loads((root / "annotations.json").read_text())
    for entry, name in zip(content["images"], (r"C:\photos\0.png", "/home/me/data/1.PNG", "images/2.png"), strict=True):
        entry["file_name"] = name
    (root / "annotations.json").write_text(json.dumps(content))
    assert [sample.name for sample in load_dataset(root).samples] == ["images/0.png", "images/1.png", "images/2.png"]
    save(root / "copy" / "0.png", make_noise(5))
    dataset = load_dataset(root, max_bad=0.5)
    assert ("ambiguous image", True) in kinds(dataset)
    assert len(dataset) == 2


def test_broken_annotations_are_listed_one_by_one(coco, scribble):
    wrong_size = runs(scribble[:20], compressed=True)
    short = {"size": [HEIGHT, WIDTH], "counts": [5, 5]}
    broken = [
        ("degenerate polygon", [[1, 1, 5, 5]]),
        ("degenerate polygon", [[1, 1, 5, 5, float("nan"), 3]]),
        ("degenerate polygon", [[1, 1, 5, 5, 9, 9, 3]]),
        ("degenerate polygon", [["a", 1, 5, 5, 9, 9]]),
        ("annotation of no pixels", [[100, 100, 120, 100, 120, 120]]),
        ("annotation of no pixels", [[3, 3, 3, 3, 3, 3]]),
        ("annotation without a mask", []),
        ("annotation without a mask", None),
        ("run lengths of another size", wrong_size),
        ("malformed run lengths", short),
        ("malformed run lengths", {"size": [HEIGHT, WIDTH], "counts": "\x7f not run lengths"}),
        ("malformed run lengths", {"size": [HEIGHT, WIDTH]}),
        ("duplicate annotation", [SQUARE]),
    ]
    good = [{"segmentation": [SQUARE]}, {"segmentation": TRIANGLE}]  # a flat list is one polygon
    dataset = load_dataset(coco(good + [{"segmentation": one} for _, one in broken]))
    assert [problem.kind for problem in sorted(dataset.problems, key=order)] == [kind for kind, _ in broken]
    assert not any(problem.excluded for problem in dataset.problems)
    target = dataset.target(dataset.samples[0])
    np.testing.assert_array_equal(target.masks.numpy(), [decoded([SQUARE]), decoded([TRIANGLE])])


@pytest.mark.parametrize(
    "size", [5, 5.5, True, "24 36", ["24", "36"], [24], [[24], [36]], {"height": 24}, float("inf")]
)
def test_run_lengths_whose_size_is_none_are_listed(coco, size):
    good = runs(np.eye(HEIGHT, WIDTH), compressed=False)
    dataset = load_dataset(coco([{"segmentation": [SQUARE]}, {"segmentation": {**good, "size": size}}]))
    assert kinds(dataset) == [("run lengths of another size", False)]
    assert "annotation 2" in dataset.problems[0].detail
    assert len(dataset.target(dataset.samples[0]).masks) == 1


@pytest.mark.parametrize(
    "counts",
    [5, None, True, {}, {"a": 1}, [], ["a"], [None], [[1], [2]], [-1, 865], [1.5, 862.5], [10**30], [math.nan]],
)
def test_run_lengths_that_are_none_are_listed(coco, counts):
    bad = {"size": [HEIGHT, WIDTH], "counts": counts}
    dataset = load_dataset(coco([{"segmentation": [SQUARE]}, {"segmentation": bad}]))
    assert kinds(dataset) == [("malformed run lengths", False)]
    assert len(dataset.target(dataset.samples[0]).masks) == 1


@pytest.mark.parametrize("height", [math.inf, math.nan, "24", [24], None, -1])
def test_a_size_in_the_json_that_is_none_is_not_held_against_the_image(coco, height):
    root = coco([{"segmentation": [SQUARE]}])
    content = json.loads((root / "annotations.json").read_text())
    content["images"][0]["height"] = height
    (root / "annotations.json").write_text(json.dumps(content))
    assert len(load_dataset(root)) == 1


def order(problem):
    return int(problem.detail.split(":")[0].split()[1])


def test_degenerate_parts_of_an_object_are_told(coco):
    dataset = load_dataset(coco([{"segmentation": [SQUARE, [1, 1, 2, 2]]}]))
    np.testing.assert_array_equal(dataset.target(dataset.samples[0]).masks.numpy(), [decoded([SQUARE])])
    assert kinds(dataset) == [("degenerate polygon", False)]
    assert "1 of 2 parts" in dataset.problems[0].detail


def test_an_image_whose_annotations_are_all_broken_is_not_empty(coco):
    root = coco(
        [{"segmentation": []}, {"segmentation": [[1, 1]], "image_id": 1}, {"segmentation": [SQUARE], "image_id": 2}],
        count=3,
    )
    dataset = load_dataset(root, max_bad=0.7)
    assert [sample.name for sample in dataset.samples] == ["images/2.png"]
    assert kinds(dataset) == [("no usable annotation", True)] * 2


def test_annotations_of_nothing_known_are_counted(coco):
    good = {"segmentation": [SQUARE]}
    dataset = load_dataset(coco([good, *[{**good, "image_id": 99}] * 3, {**good, "category_id": 99}]))
    assert {problem.kind: problem.detail for problem in dataset.problems} == {
        "unknown image": "3 annotations: image_id 99",
        "unknown category": "1 annotations: category_id 99",
    }


def test_sizes_that_do_not_fit_are_bad(coco, save, make_noise, encoded):
    from PIL import Image

    root = coco([{"segmentation": [SQUARE], "image_id": n} for n in range(4)], count=4)
    save(root / "images" / "1.png", make_noise(1, 20, 20))
    tags = Image.Exif()
    tags[0x0112] = 8
    save(root / "images" / "2.png", encoded(make_noise(2), "PNG", exif=tags))
    (root / "images" / "3.png").unlink()
    dataset = load_dataset(root, max_bad=0.9)
    assert [sample.name for sample in dataset.samples] == ["images/0.png"]
    found = {problem.name: problem for problem in dataset.problems}
    assert found["images/1.png"].detail == "the size in the JSON is 36 x 24, the image is 20 x 20"
    assert "EXIF" in found["images/2.png"].detail
    assert found["3.png"].kind == "missing image"


def test_ids_are_stable_and_unique(coco):
    first = [
        {"segmentation": [SQUARE], "id": 12},
        {"segmentation": [TRIANGLE], "id": 12},
        {"segmentation": [SQUARE], "category_id": 7, "id": 3},
    ]
    one = load_dataset(coco(first))
    two = load_dataset(coco(first[::-1]))
    assert one.samples[0].annotation_ids[:2] == ("3", "12")
    assert len(set(one.samples[0].annotation_ids)) == 3
    assert ("duplicate annotation id", False) in kinds(one)
    assert len(two.samples[0].annotation_ids) == 3


def test_annotations_in_another_order_are_the_same_data(coco, tmp_path):
    parts = [{"segmentation": [SQUARE], "id": 30}, {"segmentation": [TRIANGLE], "id": 4, "category_id": 7}]
    one = load_dataset(coco(parts, root=tmp_path / "a"))
    two = load_dataset(coco(parts[::-1], root=tmp_path / "b"))
    assert one.samples[0].annotation_ids == two.samples[0].annotation_ids == ("4", "30")
    assert one.annotation_hash == two.annotation_hash


def test_annotations_without_id_are_named_by_what_they_are(coco, tmp_path):
    root = coco([{"segmentation": [SQUARE]}, {"segmentation": [TRIANGLE]}])
    content = json.loads((root / "annotations.json").read_text())
    for annotation in content["annotations"]:
        del annotation["id"]
    (root / "annotations.json").write_text(json.dumps(content))
    one = load_dataset(root)
    content["annotations"].reverse()
    (root / "annotations.json").write_text(json.dumps(content))
    assert load_dataset(root).annotation_hash == one.annotation_hash


def test_equal_category_names_are_one_class_and_roboflows_project_is_none(coco):
    categories = [
        {"id": 0, "name": "facade", "supercategory": "none"},
        {"id": 1, "name": "window", "supercategory": "facade"},
        {"id": 2, "name": "window ", "supercategory": "facade"},
    ]
    dataset = load_dataset(
        coco([{"segmentation": [SQUARE]}, {"segmentation": [TRIANGLE], "category_id": 2}], categories=categories)
    )
    assert dataset.classes == ("window",)
    assert len(dataset.target(dataset.samples[0]).masks) == 2
    used = load_dataset(coco([{"segmentation": [SQUARE], "category_id": 0}], categories=categories))
    assert used.classes == ("facade", "window")


def test_an_image_listed_twice_has_both_annotations(coco):
    root = coco([{"segmentation": [SQUARE]}, {"segmentation": [TRIANGLE], "image_id": 5}])
    content = json.loads((root / "annotations.json").read_text())
    content["images"].append({**content["images"][0], "id": 5})
    (root / "annotations.json").write_text(json.dumps(content))
    dataset = load_dataset(root)
    assert len(dataset.target(dataset.samples[0]).masks) == 2
    assert kinds(dataset) == [("image listed twice", False)]


def test_images_beside_the_json_that_it_does_not_list(coco, save, make_noise):
    root = coco([{"segmentation": [SQUARE]}])
    save(root / "images" / "other.png", make_noise(9))
    dataset = load_dataset(root)
    assert len(dataset) == 1
    assert dataset.problems[0].detail == "1 files are not in the JSON and not used: images/other.png"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{oops", "not valid JSON"),
        ('{"images": {}, "annotations": [], "categories": []}', "'images' is a dict"),
        ('{"images": [], "annotations": [], "categories": ["cat"]}', "category without an id"),
    ],
)
def test_a_broken_json_is_an_error_that_names_it(tmp_path, content, reason):
    (tmp_path / "_annotations.coco.json").write_text(content)
    with pytest.raises(DataError, match=reason) as caught:
        load_dataset(tmp_path)
    assert "_annotations.coco.json" in str(caught.value)


def test_several_files_that_name_no_set_are_an_error(coco):
    coco([{"segmentation": [SQUARE]}], json_path="first.json")
    root = coco([{"segmentation": [SQUARE]}], json_path="second.json")
    with pytest.raises(DataError, match=r"first\.json, second\.json"):
        load_dataset(root)


def test_json_files_of_other_kinds_are_left_alone(coco, folders, make_blob):
    root = coco([{"segmentation": [SQUARE]}])
    (root / "package.json").write_text("{}")
    (root / "results.json").write_text("[1, 2]")
    (root / "broken.json").write_text("{")
    assert len(load_dataset(root)) == 1
    plain = folders({"a": make_blob()})
    (plain / "settings.json").write_text('{"images": 1}')
    assert load_dataset(plain).layout == "image and mask folders"


def test_a_file_name_that_no_file_can_have_is_a_missing_image(coco):
    root = coco([{"segmentation": [SQUARE]}], count=2)
    content = json.loads((root / "annotations.json").read_text())
    content["images"][1]["file_name"] = "x" * 5000
    (root / "annotations.json").write_text(json.dumps(content))
    dataset = load_dataset(root, max_bad=0.5)
    assert [sample.name for sample in dataset.samples] == ["images/0.png"]
    assert ("missing image", True) in kinds(dataset)
