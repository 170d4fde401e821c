"""Train, val and test: which image goes where, and which images must stay together."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any

from samfast.data.readers.base import SPLIT_WORDS, below
from samfast.data.types import SPLITS, Problem, Split
from samfast.errors import ConfigError, DataError

Group = str | Callable[[str], str]
FILE = "splits.json"
DEFAULT_FRACTIONS: Mapping[Split, float] = {"train": 0.7, "val": 0.15, "test": 0.15}
ACROSS_SETS = "same group in two sets"


def fractions(train: float | None, val: float | None, test: float | None) -> dict[Split, float]:
    """Complete and check the shares of the three sets.

    What is left out takes its default, as far as the others leave room; ``train`` takes the rest.

    Raises:
        ConfigError: a share below 0, a sum other than 1, or nothing to train on.

    >>> fractions(None, None, 0.2)
    {'train': 0.65, 'val': 0.15, 'test': 0.2}
    """
    asked: dict[Split, float | None] = {"train": train, "val": val, "test": test}
    for name, share in asked.items():
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"{name}={share} is no fraction between 0 and 1", where=f"split({name}=)")
    if train is None:
        shares = {name: DEFAULT_FRACTIONS[name] if asked[name] is None else asked[name] or 0.0 for name in SPLITS[1:]}
        found = {"train": round(1.0 - sum(shares.values()), 9), **shares}
    else:
        rest = 1.0 - train - sum(asked[name] or 0.0 for name in SPLITS[1:])
        open_sets = [name for name in SPLITS[1:] if asked[name] is None]
        found = {"train": train}
        for name in SPLITS[1:]:
            share = asked[name]
            found[name] = round(rest / len(open_sets), 9) if share is None else share
    if found["train"] <= 0 or min(found.values()) < 0 or abs(sum(found.values()) - 1) > 1e-6:
        raise ConfigError(f"the shares {found} do not add up to 1 with something left to train on", where="split()")
    return {name: found[name] for name in SPLITS}


def make_groups(
    names: Sequence[str],
    keys: Sequence[str],
    group: Group,
    columns: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """The group of each image.

    Args:
        names: of the images.
        keys: hashes of their bytes.
        group: ``"auto"`` keeps Roboflow's versions of one image (``NAME.rf.HASH``) together; else a column of
            ``metadata.csv``, or a function from an image's name to its group. Byte-identical images are always one
            group.
        columns: of ``metadata.csv``, by image name.

    Raises:
        ConfigError: a column that is not there.
    """
    labels = [_label(name, group, columns) for name in names]
    parent = {label: label for label in labels}

    def root(label: str) -> str:
        while parent[label] != label:
            label = parent[label]
        return label

    first: dict[str, str] = {}
    for label, key in zip(labels, keys, strict=True):
        mine, other = root(label), root(first.setdefault(key, label))
        low, high = sorted((mine, other))  # the smaller name wins, so that order does not matter
        parent[high] = low
    return [root(label) for label in labels]


def _label(name: str, group: Group, columns: Mapping[str, Mapping[str, str]]) -> str:
    if callable(group):
        return str(group(name))
    if group == "auto":
        path = PurePosixPath(name)
        stem, mark, _ = path.name.rpartition(".rf.")
        return stem if mark else name
    row = columns.get(name, {})
    if group.casefold() not in row:
        known = sorted({column for found in columns.values() for column in found} - {"image", "mask"})
        shown = f"the columns of metadata.csv: {', '.join(known)}" if known else "a metadata.csv with such a column"
        raise ConfigError(
            f"group={group!r}, but {name} has no such column", where="group", fix=f"use 'auto' or {shown}"
        )
    return row[group.casefold()] or name


def split_groups(
    groups: Sequence[str], shares: Mapping[Split, float], seed: int, *, labelled: Set[str] = frozenset()
) -> dict[str, Split]:
    """Deal groups out to sets, close to ``shares`` of the images.

    Groups with a labelled image are dealt first, close to the same shares of theirs, so that no set is without any
    that another could spare; the others fill up what is left. The order of dealing is that of the groups' sizes, then
    of the hashes of (seed, group): it depends on nothing else. With at least as many groups as sets, no set stays
    empty; with fewer, the last sets do.

    Args:
        groups: the group of each image.
        shares: of the sets.
        seed: of the draw.
        labelled: the groups with a labelled image.
    """
    sizes = Counter(groups)
    found: dict[str, Split] = {}
    for pool in (sizes.keys() & labelled, sizes.keys()):
        order = sorted(pool, key=lambda name: (name not in labelled, -sizes[name], _hash(seed, name)))
        _deal(order, sizes, shares, found)
    return found


def _deal(
    order: Sequence[str], sizes: Mapping[str, int], shares: Mapping[Split, float], found: dict[str, Split]
) -> None:
    """Add the groups of ``order`` to ``found``; those already there keep their set and take their room in it."""
    count = sum(sizes[name] for name in order)
    sets = [name for name in SPLITS if shares[name] > 0][: len(order)]
    room: dict[Split, float] = {name: max(1.0, round(shares[name] * count)) for name in sets}
    room["train"] = count - sum(room[name] for name in sets if name != "train")
    for name in order:
        if name in found:
            room[found[name]] -= sizes[name]
    for name in order:
        if name not in found:
            found[name] = max(sets, key=lambda split: (room[split], -SPLITS.index(split)))
            room[found[name]] -= sizes[name]
    for empty in [split for split in sets if split not in found.values()]:
        members = max(([name for name in order if found[name] == split] for split in sets), key=len)
        if len(members) > 1:
            found[members[-1]] = empty


def _hash(*parts: object) -> bytes:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).digest()


def hashed_order(names: Sequence[str]) -> list[str]:
    """``names`` in an order that looks random and is always the same."""
    return sorted(names, key=lambda name: (_hash(name), name))


def complete_given(
    groups: Sequence[str], splits: Sequence[Split], seed: int, *, labelled: Set[str] = frozenset()
) -> tuple[list[Split], str]:
    """Complete given sets: val is drawn from train where there is none; a test set is never invented.

    Args:
        groups: the group of each image.
        splits: the set of each image.
        seed: of the draw.
        labelled: the groups to draw from first, see :func:`split_groups`.

    Returns:
        the sets, and what to tell about them, such as ``"without test"``; empty if all three were given.
    """
    found = list(splits)
    notes = []
    if "train" in splits and "val" not in splits:
        members = [name for name, split in zip(groups, splits, strict=True) if split == "train"]
        share = DEFAULT_FRACTIONS["val"]
        shares: dict[Split, float] = {"train": 1 - share, "val": share, "test": 0.0}
        drawn = split_groups(members, shares, seed, labelled=labelled)
        found = [drawn[name] if split == "train" else split for name, split in zip(groups, splits, strict=True)]
        notes.append("val drawn from train")
    notes += [f"without {name}" for name in SPLITS if name not in found]
    return found, ", ".join(notes)


def across_sets(names: Sequence[str], groups: Sequence[str], splits: Sequence[Split]) -> list[Problem]:
    """Images of one group in more than one set: the sets know each other."""
    found: dict[str, dict[Split, str]] = {}
    for name, group, split in zip(names, groups, splits, strict=True):
        found.setdefault(group, {}).setdefault(split, name)
    return [
        Problem(
            next(iter(sets.values())),
            ACROSS_SETS,
            ", ".join(f"{name} in {split}" for split, name in sets.items()),
            False,
        )
        for sets in found.values()
        if len(sets) > 1
    ]


def read_splits(
    folder: Path, names: Sequence[str], *, root: Path | None = None
) -> tuple[dict[str, Split], list[Problem]] | None:
    """The sets of a ``splits.json`` beside the data: ``{"train": [file names], "val": ..., "test": ...}``.

    Args:
        folder: in which the data lies.
        names: of its images; an entry may be such a name or, where it is none, the last part of one, with or without
            its suffix.
        root: the folder that was opened, if the data lies in a folder of it: the file may lie there too, and its
            entries may begin with that folder.

    Returns:
        image name to set, and what does not fit; None if there is no such file.

    Raises:
        DataError: the file is no such list, puts one image into two sets, or is there twice.
    """
    paths = [base / FILE for base in dict.fromkeys((root or folder, folder)) if (base / FILE).is_file()]
    if not paths:
        return None
    if len(paths) > 1:
        raise DataError(f"two lists of sets: {paths[0]} and {paths[1]}", where=root, fix="remove one of them")
    path = paths[0]
    listed = _parse(path)
    exact = {below(path.parent, folder / name): name for name in names} | {name: name for name in names}
    by_alias: dict[str, list[str]] = {}
    for name in names:
        last = PurePosixPath(name)
        for alias in {last.name, last.stem}:
            by_alias.setdefault(alias, []).append(name)
    found: dict[str, Split] = {}
    problems = []
    for split, entries in listed.items():
        for entry in entries:
            matches = [exact[entry]] if entry in exact else by_alias.get(entry, [])
            if len(matches) != 1:
                detail = f"{split}: {'no such image' if not matches else f'may be any of {chr(44).join(matches[:3])}'}"
                problems.append(Problem(entry, f"unknown name in {FILE}", detail, False))
            elif found.setdefault(matches[0], split) != split:
                raise DataError(f"{entry!r} is in {found[matches[0]]} and in {split}", where=path)
    problems += [Problem(name, f"not in {FILE}", "in no set", True) for name in names if name not in found]
    return found, problems


def _parse(path: Path) -> dict[Split, list[str]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"not valid JSON: {error}", where=path) from None
    listed: dict[Split, list[str]] = {}
    for key, entries in content.items() if isinstance(content, dict) else ():
        if key.casefold() not in SPLIT_WORDS:
            continue
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise DataError(f"{key!r} is not a list of file names", where=path)
        listed.setdefault(SPLIT_WORDS[key.casefold()], []).extend(entries)
    if not listed:
        fix = 'write {"train": ["1.jpg", ...], "val": [...], "test": [...]}'
        raise DataError("it names none of train, val and test", where=path, fix=fix)
    return listed
