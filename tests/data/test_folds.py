"""Folds: each image is validated on once, groups stay together, the test set stays out."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from samfast.data import Dataset, load_dataset
from samfast.data.folds import make_folds
from samfast.data.reopen import open_again
from samfast.errors import ConfigError, DataError

GROUPS = 11


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Groups of one to three images; two groups without any object."""
    root = tmp_path_factory.mktemp("folds")
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for group in range(GROUPS):
        for twin in range(1 + group % 3):
            mask = np.zeros((20, 24), np.uint8)
            if group < GROUPS - 2:
                mask[4:12, 3:9] = 1
            Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(
                root / "images" / f"g{group}.rf.{twin}.png"
            )
            Image.fromarray(mask).save(root / "masks" / f"g{group}.rf.{twin}.png")
    return load_dataset(root)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_image_is_validated_on_once_and_groups_stay_together(grouped: Dataset, count: int) -> None:
    folds = make_folds(grouped, count, seed=4)
    test = {sample.name for sample in grouped.of("test")}
    assert test
    seen: Counter[str] = Counter()
    for fold in folds:
        train, val = ({sample.name for sample in fold.of(split)} for split in ("train", "val"))
        assert not train & val
        assert {sample.name for sample in fold.of("test")} == test
        assert train | val | test == {sample.name for sample in grouped.samples}
        assert not {one.group for one in fold.of("train")} & {one.group for one in fold.of("val")}
        assert fold.of("val", state="labelled")
        assert fold.of("train", state="labelled")
        seen.update(val)
    assert set(seen) == {sample.name for sample in grouped.samples} - test
    assert set(seen.values()) == {1}
    sizes = [len(fold.of("val")) for fold in folds]
    assert max(sizes) - min(sizes) <= 3, "no fold is larger than another by more than a group"


def test_they_depend_on_the_seed_and_the_groups_alone(grouped: Dataset) -> None:
    def sets(seed: int) -> list[list[str]]:
        return [[sample.name for sample in fold.of("val")] for fold in make_folds(grouped, 3, seed=seed)]

    assert sets(0) == sets(0)
    assert any(sets(0) != sets(seed) for seed in range(1, 4))


def test_a_fold_is_opened_again_as_it_was(grouped: Dataset) -> None:
    fold = make_folds(grouped, 3, seed=1)[2]
    options = json.loads(json.dumps(fold.options))
    again = open_again(options["root"], options)
    assert [(one.name, one.split) for one in again.samples] == [(one.name, one.split) for one in fold.samples]
    assert again.annotation_hash == fold.annotation_hash


def test_a_data_set_is_pickled_whole(grouped: Dataset) -> None:
    again = pickle.loads(pickle.dumps(grouped))
    assert again.samples == grouped.samples
    for sample in grouped.samples:
        one, other = again.target(sample), grouped.target(sample)
        assert one.ids == other.ids
        assert (one.masks.numpy() == other.masks.numpy()).all()


@pytest.mark.parametrize("count", [1, 0, True, 2.0])
def test_numbers_of_folds_that_are_none(grouped: Dataset, count: object) -> None:
    with pytest.raises(ConfigError, match="2 or more"):
        make_folds(grouped, count)  # type: ignore[arg-type]


def test_more_folds_than_groups_with_objects(grouped: Dataset) -> None:
    with pytest.raises(DataError, match="cannot make 20 folds"):
        make_folds(grouped, 20)
