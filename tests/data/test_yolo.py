"""YOLO segmentation exports, held pixel for pixel against pycocotools, in the layouts people have."""

import json
import zlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as oracle

from samfast.data import describe, load_dataset
from samfast.errors import DataError

HEIGHT, WIDTH = 24, 36
SQUARE = [0.1, 0.2, 0.4, 0.2, 0.4, 0.6, 0.1, 0.6]
TRIANGLE = [0.55, 0.1, 0.95, 0.4, 0.6, 0.8]
RING = [0.5, 0.05, 0.9, 0.5, 0.5, 0.95, 0.1, 0.5, 0.3, 0.5]


def row(code, points):
    return " ".join(map(str, (code, *points)))


def decoded(points, height=HEIGHT, width=WIDTH):
    """pycocotools' mask of normalised corners."""
    scaled = [value * (width, height)[number % 2] for number, value in enumerate(points)]
    return oracle.decode(oracle.merge(oracle.frPyObjects([scaled], height, width))).astype(bool)


def kinds(dataset):
    return sorted((problem.kind, problem.excluded) for problem in dataset.problems)


def details(dataset):
    return "\n".join(f"{problem.name}: {problem.detail}" for problem in dataset.problems)


@pytest.fixture
def yolo(tmp_path, save, make_noise):
    """Write images and label files from stem -> text (None for an image without one), and a YAML file."""

    def write(
        labels,
        *,
        config="names: [crack, hole]\n",
        images="images",
        texts="labels",
        yaml="data.yaml",
        size=(HEIGHT, WIDTH),
        suffix=".png",
    ):
        root = tmp_path / "yolo"
        for stem, text in labels.items():
            save(root / images / f"{stem}{suffix}", make_noise(zlib.crc32(f"{images}/{stem}".encode()), *size))
            if text is not None:
                save(root / texts / f"{stem}.txt", text if isinstance(text, bytes) else text.encode())
        if config is not None:
            save(root / yaml, config.encode())
        return root

    return write


@pytest.fixture
def good():
    """Two images of which every reader must make sense, so that what is wrong with a third one does not stop it."""
    return {f"good{number}": row(0, TRIANGLE) for number in range(2)}


def test_outlines_are_pycocotools_masks(yolo):
    root = yolo({"a": "\n".join((row(0, SQUARE), row(1, TRIANGLE), row("1.0", RING))), "b": row(0, RING) + "\r\n\r\n"})
    dataset = load_dataset(root)
    assert (dataset.layout, dataset.target_kind, dataset.classes) == (
        "YOLO segmentation",
        "instance",
        ("crack", "hole"),
    )
    target = dataset.target(dataset.samples[0])
    found = {(label, mask.tobytes()) for label, mask in zip(target.classes.tolist(), target.masks.numpy(), strict=True)}
    assert found == {(code, decoded(points).tobytes()) for code, points in ((0, SQUARE), (1, TRIANGLE), (1, RING))}
    np.testing.assert_array_equal(dataset.target(dataset.samples[1]).masks.numpy(), [decoded(RING)])
    assert not dataset.problems
    assert "4 corners" not in dataset.why


def test_ids_do_not_depend_on_the_order_of_lines(yolo):
    rows = [row(0, SQUARE), row(1, TRIANGLE), row(1, SQUARE)]
    first = load_dataset(yolo({"a": "\n".join(rows)}))
    again = load_dataset(yolo({"a": "\n".join(rows[::-1])}))
    assert len(set(first.samples[0].annotation_ids)) == 3
    assert first.annotation_hash == again.annotation_hash
    assert first.annotation_hash != load_dataset(yolo({"a": "\n".join(rows[:2])})).annotation_hash


@pytest.mark.parametrize(
    ("config", "images", "texts"),
    [
        ("train: ../train/images\nval: ../valid/images\ntest: ../test/images\n", "{}/images", "{}/labels"),
        ("train: images/train\nval: images/valid\ntest: images/test\n", "images/{}", "labels/{}"),
        ("path: /content/yolo\ntrain: train\nval: valid\ntest: test\n", "{}/images", "{}/labels"),
        ("path: ../datasets/inner\ntrain: images/train\nval: images/valid\ntest: images/test\n", "inner/images/{}", ""),
        ("train: /home/me/a/train/images\nval: C:\\\\b\\\\valid\\\\images\ntest: ''\n", "{}/images", "{}/labels"),
        ("train: gone\n", "{}/images", "{}/labels"),
        ("", "images/{}", "labels/{}"),
    ],
    ids=["roboflow", "ultralytics", "parents", "below", "absolute", "gone", "unnamed"],
)
def test_sets_are_found_however_their_paths_are_written(yolo, save, config, images, texts):
    texts = texts or images.replace("images", "labels")
    for split, images_in_it in (("train", 3), ("valid", 2), ("test", 1)):
        labels = {f"{split}{number}": row(0, SQUARE) for number in range(images_in_it)}
        root = yolo(labels, images=images.format(split), texts=texts.format(split), config=config + "nc: 1\nnames: [a]")
    save((root / images.format("train")).parent / "labels.cache", b"what Ultralytics leaves behind")
    dataset = load_dataset(root)
    assert dataset.split_origin == "given"
    assert [len(dataset.of(split)) for split in ("train", "val", "test")] == [3, 2, 1]
    assert all(sample.state == "labelled" for sample in dataset.samples)
    assert kinds(dataset) == ([("broken path", False)] if "gone" in config else [])


def test_a_path_is_never_cut_down_to_that_of_all_sets(yolo):
    config = "train: images/train\nval: ../valid/images\nnames: [a]"
    root = yolo({f"{n}": row(0, SQUARE) for n in range(10)}, images="images/train", texts="labels/train", config=config)
    dataset = load_dataset(root)
    assert dataset.split_origin == "automatic"
    assert [len(dataset.of(split)) for split in ("train", "val", "test")] == [6, 2, 2]
    assert "data.yaml: val: ../valid/images is not in this folder" in details(dataset)


def test_lists_of_images(yolo, save):
    config = "path: .\ntrain: train.txt\nval: val.txt\nnames: {0: a, 1: b}\n"
    root = yolo({stem: row(1, SQUARE) for stem in "abcd"}, config=config)
    save(root / "train.txt", b"data/images/a.png\n./images/b.png\n\nimages\\c.png\n")
    save(root / "val.txt", b"images/d.png\nimages/nowhere.png\n")
    dataset = load_dataset(root, max_bad=0.5)
    assert [[sample.path.name for sample in dataset.of(split)] for split in ("train", "val")] == [
        ["a.png", "b.png", "c.png"],
        ["d.png"],
    ]
    assert kinds(dataset) == [("missing image", True)]
    assert dataset.target(dataset.samples[0]).classes.tolist() == [1]


@pytest.mark.parametrize("name", ["x" * 5000, '"a\\0b"', "..", "/", "nowhere/val"])
def test_paths_that_lead_nowhere_are_told(yolo, name):
    dataset = load_dataset(yolo({"a": row(0, SQUARE), "b": row(0, SQUARE)}, config=f"val: {name}\nnames: [a]\n"))
    assert len(dataset) == 2
    assert kinds(dataset) == [("broken path", False)]


def test_a_list_of_nonsense_is_missing_images(yolo, save):
    root = yolo({"a": row(0, SQUARE)}, config="train: train.txt\nnames: [a]")
    save(root / "train.txt", b"images/a.png\n" + b"x" * 5000 + b"\na\0b\n")
    dataset = load_dataset(root, max_bad=0.9)
    assert [sample.name for sample in dataset.samples] == ["images/a.png"]
    assert kinds(dataset) == [("missing image", True)] * 2
    save(root / "train.txt", b"images/a.png\n../\n")
    with pytest.raises(DataError, match="which names no file"):
        load_dataset(root)


def test_a_set_that_is_another_one_is_no_set(yolo):
    config = "train: images\nval: images\nnames: [a]"
    dataset = load_dataset(yolo({f"{n}": row(0, SQUARE) for n in range(10)}, config=config))
    assert (dataset.split_origin, kinds(dataset)) == ("automatic", [("set named twice", False)])
    assert len(dataset) == 10


def test_an_image_is_in_one_set(yolo, save):
    config = "train: images\nval: val.txt\nnames: [a]"
    root = yolo({f"{n}": row(0, SQUARE) for n in range(10)}, config=config)
    save(root / "val.txt", b"images/3.png\nimages/5.png\n")
    dataset = load_dataset(root)
    assert [len(dataset.of(split)) for split in ("train", "val", "test")] == [8, 2, 0]
    assert kinds(dataset) == [("image in two sets", False)]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("names: [no, 1, ' x ']", ("no", "1", "x")),
        ("names:\n  1: b\n  0: a\n  2: c", ("a", "b", "c")),
        ("names:\n- a\n- b\n- a", ("a", "b")),
        ("nc: 3", ("class_0", "class_1", "class_2")),
    ],
)
def test_names_of_classes(yolo, names, classes):
    dataset = load_dataset(yolo({"a": f"{row(0, SQUARE)}\n{row(2, TRIANGLE)}"}, config=names))
    assert dataset.classes == classes
    found = [dataset.classes[label] for label in dataset.target(dataset.samples[0]).classes]
    assert sorted(found) == sorted((classes[0], classes[2 % len(classes)]))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ("names: {0: a, 2: b}", "the class indices 0, 2"),
        ("names: [[a], b]", "neither a list of names"),
        ("names: potholes.txt", "neither a list of names"),
        ("names: []", "no class names"),
        ("nc: 99999999999", "no class names"),
        ("names: [a\nnc: 3", "not valid YAML"),
        ("names: [a]\nkpt_shape: [17, 3]", "keypoints"),
        ("names: [a]\ntrain: elsewhere", "no images: train: elsewhere"),
    ],
)
def test_what_is_wrong_with_the_yaml_is_said(yolo, config, what):
    with pytest.raises(DataError, match=what) as caught:
        load_dataset(yolo({"a": row(0, SQUARE)}, config=config, images="pictures", texts="texts"))
    assert "data.yaml" in str(caught.value)


def test_yaml_files_of_other_names(yolo, save):
    root = yolo({"a": row(0, SQUARE)}, yaml="coco8-seg.yml")
    save(root / "hyp.yaml", b"lr0: 0.01\n")
    save(root / "broken.yaml", b"a: [\n")
    assert load_dataset(root).why.startswith("coco8-seg.yml; 1 images in images")
    save(root / "other.yaml", b"names: [x]\n")
    with pytest.raises(DataError, match=r"2 YAML files with class names: coco8-seg\.yml, other\.yaml"):
        load_dataset(root)
    save(root / "data.yaml", b"names: [mine]\n")
    assert load_dataset(root).classes == ("mine",)


def test_an_empty_label_is_empty_and_no_label_is_missing(yolo, good):
    dataset = load_dataset(yolo({**good, "empty": "", "blank": " \n\n", "missing": None}))
    states = {sample.path.stem: sample.state for sample in dataset.samples}
    assert states == {
        "good0": "labelled",
        "good1": "labelled",
        "empty": "empty",
        "blank": "empty",
        "missing": "missing",
    }
    assert kinds(dataset) == [("missing mask", False)]
    assert "labels/missing.txt" in details(dataset)
    assert "put an empty file there" in details(dataset)
    with pytest.raises(DataError, match="no annotation"):
        dataset.target(next(sample for sample in dataset.samples if sample.state == "missing"))


BAD_ROWS = {
    "box": ("0 0.5 0.5 0.2 0.2", "box without a mask"),
    "box with confidence": ("0 0.5 0.5 0.2 0.2 0.9", "box without a mask"),
    "odd": (row(0, SQUARE[:-1]), "malformed label"),
    "two corners short": ("0 0.5", "malformed label"),
    "words": ("crack " + row(0, SQUARE), "malformed label"),
    "commas": (row(0, SQUARE).replace(" ", ","), "malformed label"),
    "nan": (row(0, ["nan", *SQUARE[1:]]), "malformed label"),
    "infinite": (row(0, [*SQUARE[:-1], "inf"]), "malformed label"),
    "infinite class": (row("1e999", SQUARE), "malformed label"),
    "class above": (row(2, SQUARE), "unknown class"),
    "class below": (row(-1, SQUARE), "unknown class"),
    "half a class": (row(0.5, SQUARE), "unknown class"),
    "pixels": (row(0, [value * 30 for value in SQUARE]), "outline outside the image"),
    "beside": (row(0, [value + 1 for value in SQUARE]), "outline outside the image"),
    "beside, below": (row(0, [value - 0.5 for value in SQUARE]), "outline outside the image"),
    "line": (row(0, [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), "annotation of no pixels"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_line_that_is_no_outline_is_left_out_and_told(yolo, good, name):
    text, kind = BAD_ROWS[name]
    root = yolo({**good, "mixed": f"{row(1, RING)}\n\n{text}\n{row(0, SQUARE)}", "only": text})
    dataset = load_dataset(root, max_bad=0.5)
    bad = {problem.name: problem for problem in dataset.problems}
    assert sorted(bad) == ["images/mixed.png", "images/only.png"]
    mixed, only = bad["images/mixed.png"], bad["images/only.png"]
    assert (mixed.kind, mixed.excluded, only.kind, only.excluded) == (kind, False, "no usable annotation", True)
    assert "labels/mixed.txt:3" in mixed.detail
    assert "labels/only.txt:1" in only.detail
    target = dataset.target(next(sample for sample in dataset.samples if sample.path.stem == "mixed"))
    found = sorted(mask.tobytes() for mask in target.masks.numpy())
    assert found == sorted(decoded(points).tobytes() for points in (SQUARE, RING))
    with pytest.raises(DataError, match=r"only\.txt:1"):
        load_dataset(root, strict=True)


def test_outlines_over_the_edge_are_cut_there_as_ultralytics_does(yolo):
    over = [-0.05, 0.3, 0.5, 0.3, 1.04, 0.6, 0.3, 1.02]
    close = [value - 0.004 if value < 0.5 else value + 0.0014 for value in (0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0)]
    dataset = load_dataset(yolo({"over": row(0, over[2:]), "close": row(0, close), "in": row(0, TRIANGLE)}))
    assert kinds(dataset) == [("outline over the edge", False)] * 2
    assert "labels/over.txt:1 leaves the image by 4.00%, cut there" in details(dataset)
    found = {sample.path.stem: dataset.target(sample).masks.numpy() for sample in dataset.samples}
    np.testing.assert_array_equal(found["over"], [decoded(over[2:])])
    assert found["close"].all()
    clamped = decoded(np.clip(over[2:], 0, 1))
    assert (clamped != found["over"][0]).any()  # moving corners to the edge is another shape
    with pytest.raises(DataError, match="outline outside"):  # 1.09 wide
        load_dataset(yolo({"over": row(0, over), "close": row(0, close), "in": row(0, TRIANGLE)}))


def test_a_repeated_line_is_one_object(yolo):
    text = "\n".join((row(0, SQUARE), row(1, SQUARE), row(0, [*SQUARE[2:], *SQUARE[:2]])))
    dataset = load_dataset(yolo({"a": text}))
    assert sorted(dataset.target(dataset.samples[0]).classes.tolist()) == [0, 1]
    assert kinds(dataset) == [("duplicate annotation", False)]
    assert "labels/a.txt:3 repeats line 1" in details(dataset)


def test_a_data_set_of_boxes_is_refused_with_the_way_out(yolo):
    labels = {"a": "0 0.5 0.5 0.2 0.2", "b": "", "c": "1 0.5 0.5 0.1 0.1\n0 0.2 0.2 0.1 0.1"}
    with pytest.raises(DataError, match="the labels are boxes") as caught:
        load_dataset(yolo(labels))
    assert "export the data set as segmentation" in str(caught.value)
    labels["d"] = row(0, SQUARE)
    assert len(load_dataset(yolo(labels), max_bad=0.5)) == 2


def test_four_corners_everywhere_may_be_oriented_boxes(yolo):
    assert "oriented boxes" in load_dataset(yolo({"a": row(0, SQUARE)})).why
    assert "oriented boxes" not in load_dataset(yolo({"a": row(0, SQUARE), "b": row(0, RING)})).why


@pytest.mark.parametrize("content", [b"\xff\xfe0\x000", b"\x00\x01\x02", b"\x80abc"])
def test_a_label_that_is_no_text_is_left_out(yolo, good, content):
    dataset = load_dataset(yolo({**good, "bad": content}), max_bad=0.5)
    assert len(dataset) == 2
    assert "labels/bad.txt" in details(dataset)


def test_files_that_do_not_pair(yolo, save, good):
    root = yolo({**good, "twice": row(0, SQUARE)})
    save(root / "images/twice.jpg", (root / "images/twice.png").read_bytes())
    save(root / "labels/stray.txt", b"")
    save(root / "labels/classes.txt", b"crack\nhole\n")
    save(root / "labels.cache", b"\x93NUMPY")
    dataset = load_dataset(root, max_bad=0.5)
    assert kinds(dataset) == [("ambiguous pair", True), ("ambiguous pair", True), ("label without image", False)]
    assert len(dataset) == 2


def test_corners_are_shares_of_the_turned_image(yolo, save, make_noise):
    root = yolo({"a": row(0, RING)}, suffix=".jpg")
    turned = Image.fromarray(make_noise(5, WIDTH, HEIGHT))
    exif = turned.getexif()
    exif[0x0112] = 6
    save(root / "images/a.jpg", turned, exif=exif)
    dataset = load_dataset(root)
    assert dataset.samples[0].size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(dataset.target(dataset.samples[0]).masks.numpy(), [decoded(RING)])


def test_versions_of_one_image_stay_together(yolo):
    stems = [f"pic-{n}_jpg.rf.{version:032x}" for n in range(8) for version in range(3)]
    dataset = load_dataset(yolo({stem: row(0, SQUARE) for stem in stems}))
    assert dataset.split_origin == "automatic"
    assert len({sample.group for sample in dataset.samples}) == 8
    homes = {}
    for sample in dataset.samples:
        homes.setdefault(sample.path.name.split(".rf.")[0], set()).add(sample.split)
    assert {len(splits) for splits in homes.values()} == {1}


def test_other_readers_keep_their_folders(yolo, coco, folders, make_blob, save):
    root = yolo({"a": row(0, SQUARE)})
    coco([{"segmentation": [[3, 4, 14, 4, 14, 12]]}], root=root)
    assert load_dataset(root).layout == "COCO JSON"
    (root / "annotations.json").write_text(json.dumps({"tool": "something"}))
    assert load_dataset(root).layout == "YOLO segmentation"
    masked = folders({"a": make_blob()})
    save(masked / "data.yaml", b"names: [crack]\n")
    assert load_dataset(masked).layout == "image and mask folders"


def test_the_text_can_be_read(yolo, good):
    text = describe(load_dataset(yolo({**good, "a": BAD_ROWS["pixels"][0], "b": None}), max_bad=0.5))
    assert "YOLO segmentation" in text
    assert "these are pixels" in text


def test_yolo_is_among_what_is_looked_for(tmp_path):
    (tmp_path / "what.txt").write_text("")
    with pytest.raises(DataError, match="yolo: a YOLO segmentation export"):
        load_dataset(tmp_path)
