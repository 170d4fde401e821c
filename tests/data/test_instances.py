"""A folder an image and a mask file an object, held against Pillow."""

import zlib

import numpy as np
import pytest
from PIL import Image

from samfast.data import load_dataset
from samfast.errors import DataError


def kinds(dataset):
    return sorted((problem.kind, problem.excluded) for problem in dataset.problems)


def details(dataset):
    return "\n".join(f"{problem.name}: {problem.detail}" for problem in dataset.problems)


def found(dataset, number=0):
    target = dataset.target(dataset.samples[number])
    return dict(zip(target.ids, target.masks.numpy(), strict=True))


@pytest.fixture
def nuclei(tmp_path, save, make_noise):
    """Write ``ID/images/ID.png`` and ``ID/masks/NAME`` from id -> (name -> mask), None for no masks folder."""

    def write(images, *, folder=".", size=(24, 36)):
        root = tmp_path / "nuclei"
        for name, masks in images.items():
            seed = zlib.crc32(f"{folder}/{name}".encode())
            alpha = np.full((*size, 1), 255, np.uint8)
            save(root / folder / name / f"images/{name}.png", np.concatenate((make_noise(seed, *size), alpha), 2))
            for file, mask in (masks or {}).items():
                save(root / folder / name / "masks" / file, mask)
            if masks is not None:
                (root / folder / name / "masks").mkdir(exist_ok=True)
        return root

    return write


@pytest.fixture
def good(make_blob):
    return {f"good{n}": {"x.png": make_blob(), "y.png": make_blob(at=(1, 2))} for n in range(3)}


def test_each_file_is_an_object(nuclei, make_blob):
    masks = {"b.png": make_blob(), "a.png": make_blob(at=(10, 12)), "c.png": make_blob(at=(12, 14), value=1)}
    dataset = load_dataset(nuclei({"one": masks, "two": {"a.png": make_blob()}}))
    assert dataset.layout == "a folder an image, a mask file an object"
    assert (dataset.target_kind, dataset.classes) == ("instance", ("object",))
    assert [sample.name for sample in dataset.samples] == ["one/images/one.png", "two/images/two.png"]
    objects = found(dataset)
    assert list(objects) == ["a.png", "b.png", "c.png"]
    for name, mask in masks.items():
        np.testing.assert_array_equal(objects[name], mask > 0)
    assert (objects["a.png"] & objects["c.png"]).any()  # what overlaps is kept as it was drawn
    assert not dataset.problems
    assert dataset.image(dataset.samples[0]).shape == (24, 36, 3)


def test_sets_and_folders_around(nuclei, good, make_blob):
    root = nuclei(good, folder="stage1_train")
    nuclei({"one": None, "two": None}, folder="stage1_test")
    dataset = load_dataset(root)
    assert (dataset.split_origin, len(dataset)) == ("automatic", 3)
    assert "3 in stage1_train/" in dataset.why
    assert kinds(dataset) == [("folder without masks", False)]
    assert "stage1_test: 2 images; not read" in details(dataset)
    assert len(load_dataset(root / "stage1_train")) == 3
    nuclei({"three": {"a.png": make_blob()}}, folder="stage1_test")
    given = load_dataset(root)
    assert given.split_origin == "given"
    assert [len(given.of(split, state="labelled")) for split in ("train", "val", "test")] == [2, 1, 1]
    assert [len(given.of(split, state="missing")) for split in ("train", "val", "test")] == [0, 0, 2]


def test_a_folder_in_a_folder(nuclei, good):
    root = nuclei(good, folder="archive")
    assert load_dataset(root).root == root / "archive"


def test_missing_is_not_empty(nuclei, good, make_blob):
    black = make_blob(value=0)
    images = {**good, "none": None, "nothing": {}, "black": {"a.png": black}, "some": {"a.png": black, "b.png": ~black}}
    dataset = load_dataset(nuclei(images))
    states = {sample.path.stem: sample.state for sample in dataset.samples if not sample.path.stem.startswith("good")}
    assert states == {"none": "missing", "nothing": "missing", "black": "empty", "some": "labelled"}
    assert kinds(dataset) == [("empty mask", False)] * 2 + [("missing mask", False)] * 2
    assert "some/images/some.png: masks/a.png holds no object" in details(dataset)
    assert "nothing/masks/ is empty (an image of nothing has one black mask)" in details(dataset)
    assert "no masks/ beside its images/" in details(dataset)


def test_masks_that_cannot_be_used(nuclei, good, make_blob):
    levels = np.zeros((24, 36), np.uint8)
    levels[2:5, 3:9], levels[8:12, 3:9] = 1, 2
    colours = np.zeros((24, 36, 3), np.uint8)
    colours[2:5, 3:9] = (255, 0, 0)
    bad = {
        "size.png": make_blob(36, 24),
        "broken.png": b"\x89PNG\r\n\x1a\n",
        "zero.png": b"",
        "levels.png": levels,
        "colours.png": colours,
        "again.png": make_blob(),
    }
    root = nuclei({**good, "mixed": {"a.png": make_blob(), **bad}})
    dataset = load_dataset(root)
    assert sorted(found(dataset, 3)) == ["a.png"]
    assert kinds(dataset) == sorted(
        [("size mismatch", False), ("several objects in a mask", False), ("duplicate annotation", False)]
        + [("unreadable mask", False)] * 3
    )
    text = details(dataset)
    for name in bad:
        assert f"masks/{name}" in text
    assert "masks/size.png is 24 x 36, the image is 36 x 24" in text
    assert "masks/levels.png holds the values 1, 2: one file is one object" in text
    assert "masks/again.png repeats a.png" in text


@pytest.mark.parametrize("mask", ["size", "broken"])
def test_an_image_without_any_usable_mask_is_left_out(nuclei, good, make_blob, mask):
    bad = make_blob(30, 40) if mask == "size" else b"nothing"
    root = nuclei({**good, "bad": {"a.png": bad, "b.png": bad, "c.png": make_blob(value=0)}})
    dataset = load_dataset(root, max_bad=0.5)
    assert kinds(dataset) == [("size mismatch" if mask == "size" else "unreadable mask", True)]
    assert "2 of 3 masks cannot be used" in details(dataset)
    with pytest.raises(DataError, match=r"1 of 4 images cannot be used"):
        load_dataset(root)


def test_blurred_and_coloured_masks(nuclei, make_blob, save):
    soft = np.asarray(Image.fromarray(make_blob(48, 72, at=(9, 11))).resize((36, 24), Image.Resampling.BILINEAR))
    palette = Image.fromarray(make_blob(value=1))
    palette.putpalette([0, 0, 0, 255, 0, 0])
    alpha = np.repeat(make_blob()[..., None], 4, 2)
    alpha[..., 3] = 255
    masks = {"alpha.png": alpha, "bits.png": make_blob() > 0, "deep.png": make_blob().astype(np.uint16) * 257}
    root = nuclei({"a": {"soft.png": soft}, "b": {"palette.png": palette}, **{n[:-4]: {n: masks[n]} for n in masks}})
    dataset = load_dataset(root)
    assert kinds(dataset) == [("anti-aliased mask", False)]
    assert len(np.unique(soft)) > 2
    np.testing.assert_array_equal(found(dataset, 0)["soft.png"], soft >= 128)
    for number in (1, 2, 3, 4):
        np.testing.assert_array_equal([*found(dataset, number).values()], [make_blob() > 0])


def test_images_and_masks_that_do_not_pair(nuclei, good, save, make_noise, make_blob):
    root = nuclei({**good, "two": {"a.png": make_blob()}})
    save(root / "two/images/other.png", make_noise(77))
    (root / "hollow/images").mkdir(parents=True)
    save(root / "hollow/masks/a.png", make_blob())
    (root / "notes").mkdir()
    dataset = load_dataset(root, max_bad=0.5)
    assert kinds(dataset) == [("ambiguous image", True), ("masks without image", False)]
    assert "other.png, two.png" in details(dataset)
    assert len(dataset) == 3


def test_folders_of_many_images_are_another_layout(folders, make_blob, tmp_path):
    for split in ("train", "val"):
        root = folders({"only": make_blob()}, images=f"{split}/images", labels=f"{split}/masks")
    assert load_dataset(root).layout == "image and mask folders"
    lone = folders({"only": make_blob()}, root=tmp_path / "zip" / "data").parent
    assert load_dataset(lone).layout == "image and mask folders"
    (root / "train/masks/only.png").rename(root / "train/masks/9.png")  # sets of one image, paired by a table
    (root / "metadata.csv").write_text("Image,Mask\ntrain/images/only.png,train/masks/9.png\n")
    assert load_dataset(root, max_bad=1.0).layout == "image and mask folders"
    (lone / "data/masks/only.png").rename(lone / "data/masks/4f1c.png")
    assert load_dataset(lone).layout == "a folder an image, a mask file an object"
    for site in ("north", "south"):
        sites = folders(
            {"a": make_blob(), "b": make_blob()},
            images=f"{site}/images",
            labels=f"{site}/masks",
            root=tmp_path / "sites",
        )
    with pytest.raises(DataError, match="instances: a folder for each image") as caught:
        load_dataset(sites)
    assert "no layout recognised" in str(caught.value)


def test_one_mask_is_in_memory_at_a_time(nuclei, make_blob, monkeypatch):
    import gc
    import weakref

    from samfast.data.readers import instances

    read, alive, most = instances.read_labels, [], []

    def watched(*arguments):
        gc.collect()
        most.append(sum(one() is not None for one in alive))
        labels = np.array(read(*arguments))
        alive.append(weakref.ref(labels))
        return labels

    monkeypatch.setattr(instances, "read_labels", watched)
    monkeypatch.setattr("samfast.data.parallel.thread_count", lambda: 1)
    dataset = load_dataset(nuclei({"a": {f"{n}.png": make_blob(at=(n, n)) for n in range(9)}}))
    assert len(found(dataset)) == len(most) == 9
    assert max(most) == 0
