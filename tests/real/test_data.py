"""What the readers make of data as people have it."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from samfast.data import describe, load_dataset

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def flood(real_data):
    return load_dataset(real_data / "flood")


def test_flood_pairs_of_other_sizes_are_left_out(flood):
    bad = {problem.name.removeprefix("Image/"): problem for problem in flood.problems if problem.excluded}
    assert sorted(bad) == sorted(f"{n}.jpg" for n in (14, 15, 1061, 1079, 2052, 2053, 3059))
    assert {problem.kind for problem in bad.values()} == {"size mismatch"}
    assert bad["14.jpg"].detail.endswith("only Image/15.jpg has that size")
    assert len(flood) == 219
    assert [len(flood.of(split)) for split in ("train", "val", "test")] == [139, 40, 40]
    assert (flood.split_origin, flood.target_kind, flood.classes) == ("given", "class", ("foreground",))


def test_flood_masks_are_cut_at_half(flood, real_data):
    for sample in flood.samples[::20]:
        mask = np.asarray(Image.open(real_data / "flood" / "Mask" / f"{sample.path.stem}.png"))
        np.testing.assert_array_equal(flood.target(sample).masks.numpy(), [mask >= 128])
        assert flood.image(sample).shape == (*mask.shape, 3)
    notes = {problem.kind for problem in flood.problems if not problem.excluded}
    assert notes == {"anti-aliased mask"}


def test_flood_identical_photos_are_one_group(flood):
    assert len({sample.key for sample in flood.samples}) < len({sample.name for sample in flood.samples})
    by_key = {}
    for sample in flood.samples:
        assert by_key.setdefault(sample.key, sample.group) == sample.group


def test_coco128_is_pycocotools_mask_for_mask(real_data, capsys):
    dataset = load_dataset(real_data / "coco128")
    api = COCO(str(real_data / "coco128/annotations/instances_val2017.json"))
    capsys.readouterr()
    assert len(dataset) == 128
    by_name = {entry["file_name"]: entry["id"] for entry in api.dataset["images"]}
    checked = crowds = 0
    for sample in dataset.samples:
        target = dataset.target(sample)
        annotations = api.loadAnns(api.getAnnIds(by_name[sample.path.name]))
        objects = sorted((one for one in annotations if not one["iscrowd"]), key=lambda one: one["id"])
        assert target.ids == tuple(str(one["id"]) for one in objects)
        names = [api.cats[one["category_id"]]["name"] for one in objects]
        assert [dataset.classes[label] for label in target.classes] == names
        known = np.zeros(sample.size, bool)
        for mask, one in zip(target.masks.numpy(), objects, strict=True):
            expected = api.annToMask(one).astype(bool)
            np.testing.assert_array_equal(mask, expected)
            known |= expected
            checked += 1
        crowd = np.zeros(sample.size, bool)
        for one in annotations:
            if one["iscrowd"]:
                crowd |= api.annToMask(one).astype(bool)
                crowds += 1
        np.testing.assert_array_equal(target.ignore.numpy()[0], crowd & ~known)
    assert (checked, crowds) == (929, 10)


@pytest.mark.parametrize("folder", ["facade_coco", "facade_coco/test"])
def test_facades_are_a_pool_to_be_split(real_data, folder):
    dataset = load_dataset(real_data / folder)
    assert dataset.split_origin == "automatic"
    assert len(dataset) == 83
    assert sum(len(sample.annotation_ids) for sample in dataset.samples) == 2842
    assert "window" in dataset.classes
    assert len(dataset.classes) == 10
    assert [len(dataset.of(split)) for split in ("train", "val", "test")] == [59, 12, 12]


@pytest.fixture(scope="module")
def potholes(real_data):
    return load_dataset(real_data / "pothole_yolo")


def polygon_masks(path, size):
    """What pycocotools makes of a YOLO label file, and what one would get from corners moved by half a pixel."""
    height, width = size
    masks, moved = [], []
    for line in path.read_text().split("\n"):
        corners = np.array(line.split()[1:], np.float64).reshape(-1, 2) * (width, height)
        for found, points in ((masks, corners), (moved, corners - 0.5)):
            if len(points):
                runs = coco_masks.merge(coco_masks.frPyObjects([points.ravel().tolist()], height, width))
                found.append(coco_masks.decode(runs).astype(bool))
    return masks, moved


def test_potholes_are_pycocotools_mask_for_mask(potholes):
    assert (potholes.layout, potholes.target_kind, potholes.classes) == ("YOLO segmentation", "instance", ("pothole",))
    assert len(potholes) == 110
    checked = differing = 0
    for sample in potholes.samples:
        label = sample.path.parents[1] / "labels" / f"{sample.path.name.removesuffix('.jpg')}.txt"
        expected, moved = (sorted(mask.tobytes() for mask in masks) for masks in polygon_masks(label, sample.size))
        found = sorted(mask.tobytes() for mask in potholes.target(sample).masks.numpy())
        assert found == expected
        checked += len(found)
        differing += found != moved
    assert checked == 280
    assert differing == 110  # the comparison would notice half a pixel


def test_potholes_of_one_photo_stay_together(potholes):
    """The sets of the YAML file are not all there, so they are made; no photo may be in two."""
    assert [problem.kind for problem in potholes.problems] == ["broken path"]
    assert "val: valid/images" in potholes.problems[0].detail
    assert potholes.split_origin == "automatic"
    assert [len(potholes.of(split)) for split in ("train", "val", "test")] == [78, 16, 16]
    assert all(sample.group == sample.path.name.split(".rf.")[0] for sample in potholes.samples)


def test_siblings_of_a_pothole_follow_it(potholes, tmp_path):
    """Another version of an image, as Roboflow's augmentation writes them, comes into the set of the first."""
    for sample in potholes.samples[:12]:
        stem = sample.path.name.removesuffix(".jpg")
        label = sample.path.parents[1] / "labels" / f"{stem}.txt"
        for version in (stem, stem.split(".rf.")[0] + ".rf." + "0" * 32):
            for path, content in (("images", sample.path.read_bytes()), ("labels", label.read_bytes())):
                target = tmp_path / "train" / path / (version + (".jpg" if path == "images" else ".txt"))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content + (b"\0" if path == "images" and version != stem else b""))
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: ['pothole']\n")
    dataset = load_dataset(tmp_path)
    assert (len(dataset), len({sample.key for sample in dataset.samples})) == (24, 24)
    homes = {}
    for sample in dataset.samples:
        homes.setdefault(sample.path.name.split(".rf.")[0], []).append(sample.split)
    assert [len(splits) for splits in homes.values()] == [2] * 12
    assert all(len(set(splits)) == 1 for splits in homes.values())
    torn = dataset.split(group=lambda name: name)
    apart = {}
    for sample in torn.samples:
        apart.setdefault(sample.path.name.split(".rf.")[0], set()).add(sample.split)
    assert any(len(splits) > 1 for splits in apart.values())


def test_nuclei_are_their_mask_files(real_data):
    dataset = load_dataset(real_data / "nuclei")
    assert (dataset.target_kind, dataset.classes, len(dataset)) == ("instance", ("object",), 48)
    assert not dataset.problems
    checked = touching = 0
    for sample in dataset.samples:
        folder = sample.path.parents[1] / "masks"
        target = dataset.target(sample)
        names = [path.name for path in folder.iterdir()]
        assert sorted(target.ids) == sorted(names)
        masks = target.masks.numpy()
        for name, mask in zip(target.ids, masks, strict=True):
            np.testing.assert_array_equal(mask, np.asarray(Image.open(folder / name).convert("L")) > 0)
        assert dataset.image(sample).shape == (*masks.shape[1:], 3)
        checked += len(masks)
        _, pieces = target.masks.union().components()
        touching += len(pieces) < len(masks)
    assert checked == 2287
    assert touching > 10  # read as pieces of one mask, neighbours would have become one


@pytest.mark.parametrize("folder", ["flood", "coco128", "facade_coco", "pothole_yolo", "nuclei"])
def test_the_text_can_be_read(real_data, folder):
    text = describe(load_dataset(real_data / folder, limit=12))
    assert max(map(len, text.splitlines())) < 140
    assert folder in text.splitlines()[0]
