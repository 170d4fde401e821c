"""What every data set does, whatever its format: options, sets, targets, errors."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from samfast.data import DecodeSpec, decode_image, image_key, load_dataset
from samfast.data.store import Store
from samfast.errors import ConfigError, DataError

SQUARE = [3.0, 4.0, 14.0, 4.0, 14.0, 12.0, 3.0, 12.0]
TRIANGLE = [20.5, 2.0, 33.0, 9.25, 22.0, 18.0]


@pytest.fixture
def many(folders, make_blob):
    return folders({f"{n:02}": make_blob(at=(n % 10, n % 20)) for n in range(40)})


def test_samples_carry_key_size_and_image(folders, make_blob):
    root = folders({"a": make_blob(20, 50)})
    dataset = load_dataset(str(root))
    sample = dataset.samples[0]
    assert sample.key == image_key((root / "images/a.png").read_bytes(), DecodeSpec())
    assert sample.size == (20, 50)
    np.testing.assert_array_equal(dataset.image(sample), decode_image(sample.path))


@pytest.mark.parametrize("content", [[], ["readme.txt", "photo.jpg"]])
def test_no_layout_says_what_was_looked_for_and_found(tmp_path, content):
    for name in content:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    text = str(caught.value)
    assert "images/ + masks/" in text
    assert "COCO JSON" in text
    assert ("photo.jpg, readme.txt" in text) if content else ("empty" in text)


def test_paths_that_are_no_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(tmp_path / "potholse")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="not a folder"):
        load_dataset(tmp_path / "a.json")


def test_made_sets_are_seventy_fifteen_fifteen_and_stable(many):
    dataset = load_dataset(many)
    assert [len(dataset.of(split)) for split in ("train", "val", "test")] == [28, 6, 6]
    again = {sample.name: sample.split for sample in load_dataset(many).samples}
    assert again == {sample.name: sample.split for sample in dataset.samples}
    other = {sample.name: sample.split for sample in load_dataset(many, seed=1).samples}
    assert other != again


def test_made_sets_share_out_the_labelled_images(folders, make_blob):
    root = folders({f"{n:02}": make_blob(at=(n % 10, n % 20)) if n < 6 else None for n in range(40)})
    for dataset in (load_dataset(root), load_dataset(root, seed=1).split(), load_dataset(root).split(seed=5)):
        assert [len(dataset.of(split)) for split in ("train", "val", "test")] == [28, 6, 6]
        assert [len(dataset.of(split, state="labelled")) for split in ("train", "val", "test")] == [4, 1, 1]


def test_split_makes_new_sets(many):
    dataset = load_dataset(many)
    half = dataset.split(train=0.5, val=0.25)
    assert [len(half.of(split)) for split in ("train", "val", "test")] == [20, 10, 10]
    assert half.annotation_hash == dataset.annotation_hash
    assert half.options["split"] == {"train": 0.5, "val": 0.25, "test": 0.25}
    same = dataset.split()
    assert [sample.split for sample in same.samples] == [sample.split for sample in dataset.samples]
    assert dataset.split(seed=3).of("test") != dataset.of("test")
    grouped = dataset.split(group=lambda name: name[-5])
    assert len({sample.group for sample in grouped.samples}) == 10
    for group in {sample.group for sample in grouped.samples}:
        assert len({sample.split for sample in grouped.samples if sample.group == group}) == 1
    assert not dataset.split(test=0.0).of("test")
    with pytest.raises(ConfigError):
        dataset.split(train=0.9, val=0.2)


def test_split_replaces_given_sets(folders, make_blob):
    for split in ("train", "val"):
        root = folders({f"{split}{n}": make_blob() for n in range(10)}, images=f"{split}/img", labels=f"{split}/gt")
    dataset = load_dataset(root).split(test=0.2)
    assert dataset.split_origin == "automatic"
    assert len(dataset.of("test")) == 4


def test_a_file_of_sets_beside_the_data(many):
    (many / "splits.json").write_text('{"train": ["00.png", "01"], "val": ["02"], "test": ["03", "nothing"]}')
    dataset = load_dataset(many)
    assert dataset.split_origin == "given"
    assert [[sample.path.stem for sample in dataset.of(split)] for split in ("train", "val", "test")] == [
        ["00", "01"],
        ["02"],
        ["03"],
    ]
    kinds = [problem.kind for problem in dataset.problems]
    assert kinds.count("not in splits.json") == 36
    assert kinds.count("unknown name in splits.json") == 1


@pytest.mark.parametrize("place", [".", "inner"])
def test_a_file_of_sets_of_a_folder_in_a_folder(folders, make_blob, tmp_path, place):
    outer = tmp_path / "outer"
    masks = {f"{n}": make_blob(at=(n, n)) for n in range(6)}
    folders(masks, images="Image", labels="Mask", root=outer / "inner")
    sets = '{"train": ["0", "1.png", "Image/2.png"], "val": ["3"], "test": ["4", "5"]}'
    (outer / place / "splits.json").write_text(sets)
    dataset = load_dataset(outer)
    assert (dataset.split_origin, dataset.root) == ("given", outer / "inner")
    assert [len(dataset.of(split)) for split in ("train", "val", "test")] == [3, 1, 2]
    assert not dataset.problems
    (outer / ("inner" if place == "." else ".") / "splits.json").write_text(sets)
    with pytest.raises(DataError, match="two lists of sets"):
        load_dataset(outer)


def test_identical_images_in_given_sets_are_told(folders, make_blob):
    for split in ("train", "test"):
        root = folders({f"{split}{n}": make_blob() for n in range(4)}, images=f"{split}/img", labels=f"{split}/gt")
    (root / "test/img/copy.png").write_bytes((root / "train/img/train0.png").read_bytes())
    (root / "test/gt/copy.png").write_bytes((root / "train/gt/train0.png").read_bytes())
    dataset = load_dataset(root)
    told = [problem for problem in dataset.problems if problem.kind == "same group in two sets"]
    assert len(told) == 1
    assert "test/img/copy.png in test" in told[0].detail
    assert not [one for one in dataset.split().problems if one.kind == "same group in two sets"]


def test_roboflow_versions_stay_in_one_made_set(folders, make_blob):
    root = folders({f"{n // 4}_jpg.rf.{n}": make_blob() for n in range(40)})
    dataset = load_dataset(root)
    assert len({sample.group for sample in dataset.samples}) == 10
    for group in {sample.group for sample in dataset.samples}:
        assert len({sample.split for sample in dataset.samples if sample.group == group}) == 1
    assert all(dataset.of(split) for split in ("train", "val", "test"))


def test_limit_is_a_fixed_choice_and_keeps_given_sets(many, folders, make_blob):
    few = load_dataset(many, limit=7)
    assert len(few) == 7
    assert {s.name for s in few.samples} <= {s.name for s in load_dataset(many, limit=12).samples}
    assert [s.name for s in few.samples] != [s.name for s in load_dataset(many).samples][:7]
    assert len(load_dataset(many, limit=1000)) == 40
    (many / "splits.json").write_text(
        str({"train": [f"{n:02}" for n in range(30)], "val": ["30", "31"], "test": ["32", "33"]}).replace("'", '"')
    )
    given = load_dataset(many, limit=8)
    assert [len(given.of(split)) for split in ("train", "val", "test")] == [6, 1, 1]
    with pytest.raises(ConfigError):
        load_dataset(many, limit=0)


@pytest.mark.parametrize("strict", [False, True])
def test_too_many_bad_files_stop_before_the_work(many, save, make_blob, strict):
    for name in ("00", "01") if not strict else ("00",):
        save(many / "masks" / f"{name}.png", make_blob(9, 9))
    dataset = load_dataset(many)  # 5 % is allowed
    assert len(dataset) == (39 if strict else 38)
    with pytest.raises(DataError) as caught:
        load_dataset(many, strict=strict, max_bad=0.05 if strict else 0.04)
    text = str(caught.value)
    assert ("1 of 40" if strict else "2 of 40") in text
    assert "size mismatch" in text
    assert "images/00.png" in text
    with pytest.raises(ConfigError):
        load_dataset(many, max_bad=5)


def test_nothing_usable_is_always_an_error(folders, make_blob, save):
    root = folders({"a": make_blob()})
    save(root / "masks" / "a.png", make_blob(9, 9))
    with pytest.raises(DataError, match="1 of 1"):
        load_dataset(root, max_bad=1.0)


@pytest.fixture
def pets(coco):
    return coco(
        [
            {"segmentation": [SQUARE]},
            {"segmentation": [TRIANGLE], "category_id": 7},
            {"segmentation": [[1, 14, 8, 14, 8, 22, 1, 22]], "category_id": 7},
            {"segmentation": [SQUARE], "category_id": 7, "image_id": 1},
            {"segmentation": [SQUARE], "image_id": 2},
        ],
        count=3,
    )


def test_classes_are_chosen_by_name(pets):
    dogs = load_dataset(pets, classes=["dog"])
    assert dogs.classes == ("dog",)
    assert [sample.state for sample in dogs.samples] == ["labelled", "labelled", "empty"]
    assert dogs.samples[0].annotation_ids == ("2", "3")
    assert load_dataset(pets, classes="dog").annotation_hash == dogs.annotation_hash
    with pytest.raises(DataError, match="horse") as caught:
        load_dataset(pets, classes=["horse"])
    assert "cat, dog" in str(caught.value)
    with pytest.raises(ConfigError):
        load_dataset(pets, classes=[])


@pytest.mark.parametrize(
    ("options", "names", "labels"),
    [
        ({"merge": "all"}, ("object",), [0, 0, 0]),
        ({"merge": True}, ("object",), [0, 0, 0]),
        ({"merge": {"pet": ["cat", "dog"]}}, ("pet",), [0, 0, 0]),
        ({"merge": {"animal": ["dog"]}}, ("cat", "animal"), [0, 1, 1]),
        ({"merge": {"cat": ["dog"]}}, ("cat",), [0, 0, 0]),
        ({"merge": {"animal": "dog"}, "classes": ["animal"]}, ("animal",), [0, 0]),
        ({"merge": "all", "classes": ["dog"]}, ("object",), [0, 0]),
    ],
)
def test_classes_are_merged(pets, options, names, labels):
    dataset = load_dataset(pets, **options)
    assert dataset.classes == names
    assert dataset.target(dataset.samples[0]).classes.tolist() == labels


def test_merges_that_cannot_be(pets):
    with pytest.raises(DataError, match="horse"):
        load_dataset(pets, merge={"pet": ["horse"]})
    with pytest.raises(ConfigError, match="'dog' is merged"):
        load_dataset(pets, merge={"a": ["dog"], "b": ["dog"]})
    with pytest.raises(ConfigError, match="merge="):
        load_dataset(pets, merge="some")


def test_target_kinds_of_objects(pets):
    whole = load_dataset(pets, target="class")
    target = whole.target(whole.samples[0])
    assert target.ids == ("class:cat", "class:dog")
    instances = load_dataset(pets)
    objects = instances.target(instances.samples[0]).masks.numpy()
    np.testing.assert_array_equal(target.masks.numpy()[1], objects[1] | objects[2])
    pieces = load_dataset(pets, target="component", merge="all")
    assert len(pieces.target(pieces.samples[0]).masks) == ndimage.label(objects.any(0), np.ones((3, 3)))[1]


def test_components_are_scipys_and_their_ids_name_their_first_pixel(folders):
    noise = (np.random.default_rng(3).random((40, 60)) > 0.8).astype(np.uint8) * 255
    dataset = load_dataset(folders({"a": noise}), target="component")
    target = dataset.target(dataset.samples[0])
    labels, count = ndimage.label(noise, np.ones((3, 3)))
    assert len(target.masks) == count > 30
    assert target.ids == dataset.samples[0].annotation_ids
    assert len(set(target.ids)) == count
    for mask, name in zip(target.masks.numpy(), target.ids, strict=True):
        x, y = map(int, name.removeprefix("component:foreground@").split(","))
        np.testing.assert_array_equal(mask, labels == labels[y, x])
        columns, rows = np.nonzero(mask.T)
        assert (columns[0], rows[0]) == (x, y)


def test_target_kinds_that_cannot_be(many):
    with pytest.raises(ConfigError, match="component"):
        load_dataset(many, target="instance")
    with pytest.raises(ConfigError, match="target="):
        load_dataset(many, target="objects")


def test_the_annotation_hash_follows_the_labels_only(many, save, make_blob, make_noise):
    before = load_dataset(many)
    assert load_dataset(many, seed=5).annotation_hash == before.annotation_hash
    assert load_dataset(many, target="component").annotation_hash != before.annotation_hash
    os.utime(many / "masks" / "03.png")
    assert load_dataset(many).annotation_hash == before.annotation_hash
    mask = make_blob(at=(3, 3))
    mask[0, 0] = 255
    save(many / "masks" / "03.png", mask)
    after = load_dataset(many)
    assert after.annotation_hash != before.annotation_hash
    assert [sample.key for sample in after.samples] == [sample.key for sample in before.samples]


def test_the_annotation_hash_does_not_know_where_the_folder_lies(many, tmp_path):
    before = load_dataset(many).annotation_hash
    many.rename(tmp_path / "elsewhere")
    assert load_dataset(tmp_path / "elsewhere").annotation_hash == before


def test_targets_from_many_threads_are_the_targets(many):
    dataset = load_dataset(many)
    expected = [dataset.target(sample).masks.numpy() for sample in dataset.samples]
    start = threading.Barrier(8)

    def read(seed):
        start.wait()
        order = np.random.default_rng(seed).permutation(len(dataset))
        return all(
            np.array_equal(dataset.target(dataset.samples[i]).masks.numpy(), expected[i]) for i in order.tolist()
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


def test_a_forked_process_reads_its_own_targets(many):
    dataset = load_dataset(many)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        good = all(dataset.target(sample).masks.area()[0] > 0 for sample in dataset.samples)
        os.write(write, b"1" if good else b"0")
        os._exit(0)
    assert all(dataset.target(sample).masks.area()[0] > 0 for sample in dataset.samples)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"


def test_masks_are_put_aside_without_names(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store()
    odd = np.arange(7, dtype=np.uint8)
    places = [store.put(odd, np.arange(n, dtype=np.int64)) for n in range(20)]
    for n, place in enumerate(places):
        first, second = store.get(place)
        np.testing.assert_array_equal(first, odd)
        np.testing.assert_array_equal(second, np.arange(n))
        assert second.flags.aligned
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_that_says_which(monkeypatch):
    store = Store()

    class Full:
        def seek(self, _offset):
            return 0

        def write(self, _data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_file", Full())
    with pytest.raises(DataError, match="No space left") as caught:
        store.put(np.arange(3))
    assert "TMPDIR" in str(caught.value)


def test_a_sample_of_another_data_set_is_refused(many, pets):
    one, other = load_dataset(many), load_dataset(pets)
    with pytest.raises(DataError, match="no sample"):
        one.target(other.samples[0])
    with pytest.raises(ConfigError, match="no set"):
        one.of("validation")


def test_an_interrupt_ends_the_reading(many, monkeypatch):
    from samfast.data import scan

    seen = []

    def interrupt(item, *_):
        seen.append(item)
        if item.name == "images/00.png":
            raise KeyboardInterrupt
        time.sleep(0.2)

    monkeypatch.setattr(scan, "_read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_dataset(many)
    assert len(seen) < 40


def test_options_say_how_the_data_was_opened(pets):
    import json

    dataset = load_dataset(pets, classes="dog", merge={"hound": ["dog"]}, limit=3, group=lambda name: name)
    again = json.loads(json.dumps(dict(dataset.options)))
    assert again["classes"] == ["dog"]
    assert again["merge"] == {"hound": ["dog"]}
    assert (again["limit"], again["target"], again["seed"]) == (3, "instance", 0)
    assert again["group"].startswith("function ")


def test_options_that_cannot_work_are_found_before_the_files_are_read(pets, many, monkeypatch):
    from samfast.data import dataset

    def refuse(*_):
        raise AssertionError("the files were read")

    monkeypatch.setattr(dataset, "scan", refuse)
    with pytest.raises(DataError, match="horse"):
        load_dataset(pets, classes=["horse"])
    with pytest.raises(ConfigError, match="group="):
        load_dataset(many, group="river")


def test_a_data_set_without_images_is_an_error(tmp_path, many):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(DataError, match="no images"):
        load_dataset(tmp_path / "empty")
    (many / "splits.json").write_text('{"train": ["other.png"]}')
    with pytest.raises(DataError, match="in no set"):
        load_dataset(many)
