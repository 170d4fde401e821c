"""Sets: given ones are kept, made ones depend on nothing but the names, the groups and the seed."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samfast.data.splits import (
    across_sets,
    complete_given,
    fractions,
    hashed_order,
    make_groups,
    read_splits,
    split_groups,
)
from samfast.data.types import SPLITS
from samfast.errors import ConfigError, DataError

DEFAULT = {"train": 0.7, "val": 0.15, "test": 0.15}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((None, None, None), (0.7, 0.15, 0.15)),
        ((None, None, 0.3), (0.55, 0.15, 0.3)),
        ((None, 0.0, 0.0), (1.0, 0.0, 0.0)),
        ((0.8, None, None), (0.8, 0.1, 0.1)),
        ((0.6, 0.1, None), (0.6, 0.1, 0.3)),
        ((0.5, 0.25, 0.25), (0.5, 0.25, 0.25)),
    ],
)
def test_fractions_are_completed(asked, found):
    assert tuple(fractions(*asked).values()) == pytest.approx(found)


@pytest.mark.parametrize(
    "asked", [(1.2, None, None), (-0.1, None, None), (0.5, 0.2, 0.2), (0, None, None), (None, 0.6, 0.6)]
)
def test_fractions_that_cannot_be_are_refused(asked):
    with pytest.raises(ConfigError):
        fractions(*asked)


def test_sets_are_close_to_their_shares_and_independent_of_order():
    names = [f"{number}.jpg" for number in range(200)]
    sets = split_groups(names, DEFAULT, 0)
    counts = [sum(found == split for found in sets.values()) for split in SPLITS]
    assert counts == [140, 30, 30]
    shuffled = random.Random(1).sample(names, len(names))
    assert split_groups(shuffled, DEFAULT, 0) == sets
    other = split_groups(names, DEFAULT, 1)
    assert other != sets
    overlap = sum(sets[name] == other[name] == "test" for name in names)
    assert overlap < 15  # 4.5 expected by chance


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=3, max_size=20), st.integers(0, 5))
def test_groups_stay_together_and_no_set_is_empty(sizes, seed):
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    sets = split_groups(groups, DEFAULT, seed)
    assert set(sets) == set(groups)
    assert set(sets.values()) == set(SPLITS)


def test_labelled_groups_are_dealt_first_at_the_same_shares():
    names = [f"{number}.jpg" for number in range(40)]
    labelled = set(names[:6])
    assert {split_groups(names, DEFAULT, 0)[name] for name in labelled} != set(SPLITS)  # by chance, not all three
    sets = split_groups(names, DEFAULT, 0, labelled=labelled)
    assert [sum(found == split for found in sets.values()) for split in SPLITS] == [28, 6, 6]
    assert [sum(sets[name] == split for name in labelled) for split in SPLITS] == [4, 1, 1]
    assert split_groups(names[::-1], DEFAULT, 0, labelled=set(sorted(labelled)[::-1])) == sets
    assert split_groups(names, DEFAULT, 0, labelled=set(names)) == split_groups(names, DEFAULT, 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=3, max_size=20), st.integers(0, 5))
def test_no_set_is_without_labels_that_another_could_spare(rows, seed):
    groups = [f"g{number}" for number, (size, _) in enumerate(rows) for _ in range(size)]
    labelled = {f"g{number}" for number, (_, has_labels) in enumerate(rows) if has_labels}
    sets = split_groups(groups, DEFAULT, seed, labelled=labelled)
    assert set(sets.values()) == set(SPLITS)
    assert len({sets[name] for name in labelled}) == min(3, len(labelled))


def test_few_groups_and_empty_shares():
    assert split_groups(["a"], DEFAULT, 0) == {"a": "train"}
    assert set(split_groups(["a", "b"], DEFAULT, 0).values()) == {"train", "val"}
    assert set(split_groups(list("abcdefgh"), {"train": 0.8, "val": 0.2, "test": 0.0}, 0).values()) == {"train", "val"}


def test_roboflow_versions_and_identical_images_are_one_group():
    names = ["t/a_jpg.rf.11.jpg", "t/a_jpg.rf.22.jpg", "t/b_jpg.rf.33.jpg", "t/c.jpg", "t/d.jpg"]
    keys = ["1", "2", "3", "3", "5"]  # c is byte-identical to a version of b
    groups = make_groups(names, keys, "auto", {})
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 3
    back = make_groups(names[::-1], keys[::-1], "auto", {})
    assert back[::-1] == groups


def test_identity_chains_join_groups_of_versions():
    names = ["a.rf.1.jpg", "a.rf.2.jpg", "b.rf.1.jpg", "b.rf.2.jpg", "c.rf.1.jpg"]
    assert len(set(make_groups(names, ["1", "x", "x", "y", "y"], "auto", {}))) == 1


def test_groups_by_column_or_function():
    columns = {"1.jpg": {"image": "1.jpg", "place": "north"}, "2.jpg": {"image": "2.jpg", "place": ""}}
    assert make_groups(["1.jpg", "2.jpg"], ["1", "2"], "Place", columns) == ["north", "2.jpg"]
    assert make_groups(["x-1", "x-2"], ["1", "2"], lambda name: name[0], {}) == ["x", "x"]
    with pytest.raises(ConfigError, match="river") as caught:
        make_groups(["1.jpg"], ["1"], "river", columns)
    assert "place" in str(caught.value)


def test_val_is_drawn_from_train_but_test_is_never_invented():
    groups = [f"{number}" for number in range(40)]
    kept = ["train"] * 20 + ["val"] * 20
    assert complete_given(groups, kept, 0) == (kept, "without test")
    drawn, note = complete_given(groups, ["train"] * 20 + ["test"] * 20, 0)
    assert note == "val drawn from train"
    assert drawn[20:] == ["test"] * 20
    assert drawn.count("val") == 3
    assert complete_given(groups, ["test"] * 40, 0) == (["test"] * 40, "without train, without val")
    labelled = {"3", "7", "30"}
    drawn, _ = complete_given(groups, ["train"] * 20 + ["test"] * 20, 0, labelled=labelled)
    assert {drawn[3], drawn[7]} == {"train", "val"}


def test_the_same_group_in_two_sets_is_told():
    found = across_sets(["a", "b", "c"], ["g", "g", "c"], ["train", "test", "val"])
    assert [problem.detail for problem in found] == ["a in train, b in test"]


def test_hashed_order_is_a_shuffle_that_never_changes():
    names = [str(number) for number in range(30)]
    order = hashed_order(names)
    assert sorted(order) == sorted(names) != order
    assert hashed_order(names[::-1]) == order
    assert [name for name in order if int(name) < 10] == hashed_order(names[:10])


def write(root, content):
    (root / "splits.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_file_of_sets_is_read_by_name_or_stem(tmp_path):
    names = ["images/1.jpg", "images/2.jpg", "images/3.jpg", "images/4.jpg"]
    write(tmp_path, {"train": ["1.jpg"], "valid": ["2"], "test": ["images/3.jpg", "9.jpg"], "note": "by hand"})
    sets, problems = read_splits(tmp_path, names)
    assert sets == {"images/1.jpg": "train", "images/2.jpg": "val", "images/3.jpg": "test"}
    assert [(one.name, one.kind, one.excluded) for one in problems] == [
        ("9.jpg", "unknown name in splits.json", False),
        ("images/4.jpg", "not in splits.json", True),
    ]


def test_a_stem_of_two_images_is_not_guessed(tmp_path):
    write(tmp_path, {"train": ["1"]})
    sets, problems = read_splits(tmp_path, ["a/1.jpg", "b/1.jpg"])
    assert not sets
    assert "may be any of" in problems[0].detail


def test_a_whole_name_goes_before_what_others_are_short_for(tmp_path):
    names = ["1.jpg", "a/1.jpg", "1.jpg.png"]
    write(tmp_path, {"train": ["1.jpg"], "val": ["1.jpg.png"], "test": ["a/1.jpg"]})
    sets, problems = read_splits(tmp_path, names)
    assert sets == {"1.jpg": "train", "1.jpg.png": "val", "a/1.jpg": "test"}
    assert not problems


def test_the_file_may_lie_above_the_data_but_not_twice(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    write(tmp_path, {"train": ["1.jpg"], "val": ["images/2.jpg"], "test": ["inner/images/3.jpg"]})
    names = ["images/1.jpg", "images/2.jpg", "images/3.jpg"]
    assert read_splits(inner, names) is None
    sets, problems = read_splits(inner, names, root=tmp_path)
    assert sets == dict(zip(names, SPLITS, strict=True))
    assert not problems
    write(inner, {"train": ["1.jpg"]})
    with pytest.raises(DataError) as caught:
        read_splits(inner, names, root=tmp_path)
    assert str(tmp_path / "splits.json") in str(caught.value)
    assert str(inner / "splits.json") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSON"),
        ([1], "none of train"),
        ({"a": []}, "none of train"),
        ({"train": "1.jpg"}, "list of file names"),
        ({"train": ["1.jpg"], "test": ["1"]}, "in train and in test"),
    ],
)
def test_a_broken_file_of_sets_is_an_error(tmp_path, content, reason):
    write(tmp_path, content)
    with pytest.raises(DataError, match=reason):
        read_splits(tmp_path, ["1.jpg"])


def test_no_file_no_sets(tmp_path):
    assert read_splits(tmp_path, ["1.jpg"]) is None
