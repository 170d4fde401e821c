"""What the readers make of data as people have it."""

import numpy as np
import pytest
from PIL import Image
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


@pytest.mark.parametrize("folder", ["flood", "coco128", "facade_coco"])
def test_the_text_can_be_read(real_data, folder):
    text = describe(load_dataset(real_data / folder, limit=12))
    assert max(map(len, text.splitlines())) < 140
    assert folder in text.splitlines()[0]
