"""Image and mask folders in all the ways people arrange them."""

import numpy as np
import pytest

from samfast.data import load_dataset
from samfast.errors import DataError


def kinds(dataset):
    return sorted({(problem.kind, problem.excluded) for problem in dataset.problems})


def masks_of(dataset):
    return {sample.path.stem: dataset.target(sample).masks.numpy() for sample in dataset.samples}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "masks"),
        ("Image", "Mask"),
        ("IMAGES", "labels"),
        ("imgs", "annotations"),
        ("img", "Label"),
        ("JPEGImages", "SegmentationClass"),
        ("image", "ground_truth"),
    ],
)
def test_folder_names_of_any_kind_and_case(folders, make_blob, images, labels):
    root = folders({"a": make_blob(), "b": make_blob(at=(2, 3))}, images=images, labels=labels)
    dataset = load_dataset(root)
    assert dataset.layout == "image and mask folders"
    assert f"{images}/ + {labels}/" in dataset.why
    assert [sample.name for sample in dataset.samples] == [f"{images}/a.png", f"{images}/b.png"]
    assert (dataset.classes, dataset.target_kind) == (("foreground",), "class")
    for stem, at in (("a", (5, 8)), ("b", (2, 3))):
        np.testing.assert_array_equal(masks_of(dataset)[stem], [make_blob(at=at) > 0])
    assert not dataset.problems


def test_pairs_are_matched_by_stem_whatever_the_suffix(folders, make_blob, save, make_noise):
    root = folders({"a": make_blob(), "b.v2": make_blob(at=(1, 1))}, suffix=".bmp")
    save(root / "images" / "C.png", make_noise(7))
    save(root / "masks" / "c.tif", make_blob(at=(3, 3)))
    save(root / "images" / "d.png", make_noise(8))
    save(root / "masks" / "d_mask.png", make_blob(at=(4, 4)))
    found = masks_of(load_dataset(root))
    for stem, at in (("a", (5, 8)), ("b.v2", (1, 1)), ("C", (3, 3)), ("d", (4, 4))):
        np.testing.assert_array_equal(found[stem], [make_blob(at=at) > 0])


def test_subfolders_are_matched_by_path(folders, make_blob):
    root = folders({"north/1": make_blob(), "south/1": make_blob(at=(2, 2))})
    dataset = load_dataset(root)
    assert [sample.name for sample in dataset.samples] == ["images/north/1.png", "images/south/1.png"]
    np.testing.assert_array_equal(dataset.target(dataset.samples[1]).masks.numpy(), [make_blob(at=(2, 2)) > 0])


def test_sidecars_and_hidden_files_are_no_images(folders, make_blob):
    root = folders({"a": make_blob()})
    for name in ("images/notes.txt", "images/.DS_Store", "images/Thumbs.db", "masks/._a.png", "masks/a.xml"):
        (root / name).write_bytes(b"x")
    dataset = load_dataset(root)
    assert len(dataset) == 1
    assert not dataset.problems


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
@pytest.mark.parametrize("nested", ["set/role", "role/set", "set_role"])
def test_given_sets(folders, make_blob, val, nested):
    for number, split in enumerate(("train", val, "test")):
        images, labels = {
            "set/role": (f"{split}/images", f"{split}/masks"),
            "role/set": (f"images/{split}", f"masks/{split}"),
            "set_role": (f"{split}_images", f"{split}_masks"),
        }[nested]
        root = folders({f"{number}{letter}": make_blob() for letter in "ab"}, images=images, labels=labels)
    dataset = load_dataset(root)
    assert (dataset.split_origin, dataset.split_note) == ("given", "")
    assert [[sample.path.stem for sample in dataset.of(split)] for split in ("train", "val", "test")] == [
        ["0a", "0b"],
        ["1a", "1b"],
        ["2a", "2b"],
    ]


def test_sets_without_test_say_so(folders, make_blob):
    for split in ("train", "val"):
        root = folders({f"{split}{n}": make_blob() for n in range(3)}, images=f"{split}/img", labels=f"{split}/gt")
    dataset = load_dataset(root)
    assert (dataset.split_origin, dataset.split_note) == ("given", "without test")
    assert not dataset.of("test")


def test_a_test_folder_without_masks_is_told(folders, make_blob, save, make_noise):
    for split in ("train", "val"):
        root = folders({f"{split}{n}": make_blob() for n in range(3)}, images=f"{split}/img", labels=f"{split}/gt")
    save(root / "test/img/9.png", make_noise(9))
    assert kinds(load_dataset(root)) == [("folder without masks", False)]


def test_a_lone_set_is_a_pool_to_be_split(folders, make_blob):
    root = folders({str(n): make_blob(at=(n, n)) for n in range(10)}, images="train/images", labels="train/masks")
    dataset = load_dataset(root)
    assert dataset.split_origin == "automatic"
    assert all(dataset.of(split) for split in ("train", "val", "test"))


def test_a_folder_in_a_folder_is_unpacked(folders, make_blob, tmp_path):
    root = folders({"a": make_blob()}, root=tmp_path / "zip" / "Flood Area")
    dataset = load_dataset(tmp_path / "zip")
    assert dataset.root == root
    assert dataset.samples[0].name == "images/a.png"


def test_metadata_gives_the_pairs(folders, make_blob, save, make_noise):
    root = folders({"a": make_blob()}, images="Image", labels="Mask")
    save(root / "Image" / "x1.png", make_noise(1))
    save(root / "Mask" / "flood-1.png", make_blob(at=(1, 2)))
    save(root / "Image" / "unlisted.png", make_noise(2))
    rows = "\ufeffImage,Mask,Place\r\na.png,a.png,north\r\nx1.png,flood-1.png,south\r\n"
    (root / "metadata.csv").write_text(rows, encoding="utf-8")
    dataset = load_dataset(root, group="place")
    assert "metadata.csv" in dataset.why
    np.testing.assert_array_equal(masks_of(dataset)["x1"], [make_blob(at=(1, 2)) > 0])
    assert [sample.group for sample in dataset.samples] == ["north", "south"]
    assert [(p.name, p.kind, p.excluded) for p in dataset.problems] == [("Image/unlisted.png", "unlisted image", True)]


def test_a_row_of_an_absent_image_is_bad(folders, make_blob):
    root = folders({"a": make_blob(), "b": make_blob()})
    (root / "metadata.csv").write_text("image,mask\na.png,a.png\nb.png,b.png\ngone.png,b.png\nlost.png,lost.png\n")
    dataset = load_dataset(root, max_bad=0.5)
    assert [sample.name for sample in dataset.samples] == ["images/a.png", "images/b.png"]
    assert [(one.name, one.kind, one.detail, one.excluded) for one in dataset.problems] == [
        ("images/gone.png", "missing image", "no such file: gone.png", True),
        ("images/lost.png", "missing image", "no such file: lost.png", True),
    ]
    with pytest.raises(DataError, match="2 of 4"):
        load_dataset(root, max_bad=0.25)


def test_a_row_of_an_absent_mask_is_missing_as_without_a_table(folders, make_blob):
    root = folders({"a": make_blob(), "b": None, "c": None})
    without = load_dataset(root, strict=True)
    (root / "metadata.csv").write_text("image,mask\na.png,a.png\nb.png,b.png\nc.png,\n")
    dataset = load_dataset(root, strict=True)
    states = [(sample.path.stem, sample.state) for sample in dataset.samples]
    assert states == [("a", "labelled"), ("b", "missing"), ("c", "missing")]
    assert states == [(sample.path.stem, sample.state) for sample in without.samples]
    assert kinds(dataset) == kinds(without) == [("missing mask", False)]
    assert "metadata.csv names b.png" in dataset.problems[0].detail
    assert "names" not in dataset.problems[1].detail
    (root / "masks" / "b.png").symlink_to(root / "nowhere.png")  # it is there, and broken
    assert ("unreadable mask", True) in kinds(load_dataset(root, max_bad=0.5))


def test_metadata_without_masks_still_gives_columns(folders, make_blob):
    root = folders({str(n): make_blob(at=(n, n)) for n in range(4)})
    (root / "metadata.csv").write_text("Image,Flight\n" + "".join(f"{n}.jpg,{n % 2}\n" for n in range(4)))
    groups = [sample.group for sample in load_dataset(root, group="flight").samples]
    assert groups == ["0", "1", "0", "1"]


def test_metadata_of_something_else_is_left_alone(folders, make_blob):
    root = folders({"a": make_blob()})
    (root / "metadata.csv").write_text("a;b\n1;2\n")
    assert len(load_dataset(root)) == 1
    (root / "metadata.csv").write_bytes(b"Image,Mask\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="UTF-8"):
        load_dataset(root)


def test_states_missing_and_empty_are_kept_apart(folders, make_blob):
    root = folders({"full": make_blob(), "black": make_blob(value=0), "none": None})
    dataset = load_dataset(root)
    states = {sample.path.stem: sample.state for sample in dataset.samples}
    assert states == {"full": "labelled", "black": "empty", "none": "missing"}
    assert [(p.name, p.kind, p.excluded) for p in dataset.problems] == [("images/none.png", "missing mask", False)]
    by_stem = {sample.path.stem: sample for sample in dataset.samples}
    assert len(dataset.target(by_stem["black"]).masks) == 0
    with pytest.raises(DataError, match="no annotation"):
        dataset.target(by_stem["none"])


def test_bad_pairs_are_excluded_and_listed(folders, make_blob, make_noise, save, encoded):
    root = folders({f"ok{n}": make_blob() for n in range(3)})
    save(root / "images" / "turned.jpg", encoded(make_noise(1, 20, 50), "JPEG", exif=exif(6)))
    save(root / "masks" / "turned.png", make_blob(20, 50))
    save(root / "images" / "small.png", make_noise(2))
    save(root / "masks" / "small.png", make_blob(12, 18))
    save(root / "images" / "cut.jpg", encoded(make_noise(3, 64, 64), "JPEG")[:2500])
    save(root / "masks" / "cut.png", make_blob(64, 64))
    save(root / "images" / "text.png", b"not an image")
    save(root / "masks" / "text.png", make_blob())
    save(root / "images" / "zero.png", b"")
    save(root / "masks" / "zero.png", make_blob())
    save(root / "images" / "cutmask.png", make_noise(4))
    save(root / "masks" / "cutmask.png", encoded(make_noise(5)[..., 0])[:-200])
    save(root / "images" / "colour.png", make_noise(6))
    save(root / "masks" / "colour.png", make_noise(7))
    (root / "images" / "gone.png").symlink_to(root / "nowhere.png")
    save(root / "masks" / "gone.png", make_blob())
    dataset = load_dataset(root, max_bad=0.8)
    assert [sample.path.stem for sample in dataset.samples] == ["ok0", "ok1", "ok2"]
    found = {problem.name.split("/")[1].split(".")[0]: problem for problem in dataset.problems}
    assert {name: problem.kind for name, problem in found.items()} == {
        "turned": "size mismatch",
        "small": "size mismatch",
        "cut": "unreadable image",
        "text": "unreadable image",
        "zero": "unreadable image",
        "cutmask": "unreadable mask",
        "colour": "unreadable mask",
        "gone": "missing image",
    }
    assert all(problem.excluded for problem in dataset.problems)
    assert "EXIF" in found["turned"].detail
    assert "50 x 20" in found["turned"].detail
    assert "EXIF" not in found["small"].detail
    assert "truncated" in found["cut"].detail
    assert "0 bytes" in found["zero"].detail
    assert "colour mask" in found["colour"].detail


def test_swapped_masks_are_recognised(folders, make_blob, save):
    root = folders({"a": make_blob(20, 30), "b": make_blob(30, 40), "c": make_blob(), "d": make_blob()})
    save(root / "masks" / "a.png", make_blob(30, 40))
    save(root / "masks" / "b.png", make_blob(20, 30))
    details = [problem.detail for problem in load_dataset(root, max_bad=0.5).problems]
    assert details[0].endswith("only images/b.png has that size")
    assert details[1].endswith("only images/a.png has that size")


def test_names_that_could_go_together_in_two_ways_are_not_guessed(folders, make_blob, save, make_noise):
    root = folders({"a": make_blob(), "ok": make_blob()})
    save(root / "images" / "a.jpg", make_noise(3))
    dataset = load_dataset(root, max_bad=0.9)
    assert [sample.path.stem for sample in dataset.samples] == ["ok"]
    assert kinds(dataset) == [("ambiguous pair", True)]


def test_masks_without_image_are_told(folders, make_blob, save):
    root = folders({"a": make_blob()})
    save(root / "masks" / "z.png", make_blob())
    assert [(p.name, p.kind) for p in load_dataset(root).problems] == [("masks/z.png", "mask without image")]


def test_anti_aliased_masks_are_cut_at_half_and_noted(folders, make_blob):
    smooth = np.linspace(0, 255, 24 * 36).astype(np.uint8).reshape(24, 36)
    dataset = load_dataset(folders({"a": smooth, "b": make_blob()}))
    np.testing.assert_array_equal(masks_of(dataset)["a"], [smooth >= 128])
    np.testing.assert_array_equal(masks_of(dataset)["b"], [make_blob() > 0])
    assert [(p.name, p.kind, p.excluded) for p in dataset.problems] == [("images/a.png", "anti-aliased mask", False)]


def test_class_indices_with_an_ignored_border(folders, make_blob):
    labels = make_blob(value=2)
    labels[12:16, 20:30] = 1
    labels[0, :] = 255
    dataset = load_dataset(folders({"a": labels, "b": make_blob(value=1)}))
    assert dataset.classes == ("1", "2")
    target = dataset.target(dataset.samples[0])
    assert target.ids == ("class:1", "class:2")
    assert target.classes.tolist() == [0, 1]
    np.testing.assert_array_equal(target.masks.numpy(), [labels == 1, labels == 2])
    np.testing.assert_array_equal(target.ignore.numpy(), [labels == 255])


def exif(orientation):
    from PIL import Image

    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags
