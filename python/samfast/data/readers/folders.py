"""Images in one folder, masks of the same name in another; Kaggle's ``metadata.csv`` of pairs."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from samfast.data.images import ImageHeader, read_bytes
from samfast.data.labels import encode_labels, meaning, read_labels
from samfast.data.readers.base import (
    SPLIT_WORDS,
    Detection,
    Item,
    Listing,
    Raw,
    UnusableError,
    below,
    check_size,
    image_files,
    subfolders,
)
from samfast.data.types import Problem, Split
from samfast.errors import DataError

Role = Literal["image", "mask"]
ROLE_WORDS: Mapping[str, Role] = {
    **dict.fromkeys(("image", "images", "img", "imgs", "jpegimages", "photos"), "image"),
    **dict.fromkeys(("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "groundtruth"), "mask"),
    **dict.fromkeys(("segmentation", "segmentations", "segmentationclass"), "mask"),
}
MASK_SUFFIX = re.compile(r"[_-](mask|label|labels|gt|seg|segmentation|annotation)$", re.IGNORECASE)
"""What is often appended to the name of an image to make the name of its mask."""


@dataclass(frozen=True)
class _Folders:
    """Where the images and the masks of one set lie."""

    images: Path
    masks: Path
    split: Split | None


class FolderReader:
    """Image and mask folders, with or without sets, in the ways people arrange them."""

    name = "folders"
    looks_for = (
        "an image folder beside a mask folder (images/ + masks/, Image/ + Mask/, imgs/ + labels/, ...), also inside "
        "train/, val/ and test/ or with these inside"
    )
    rank = 1

    def detect(self, root: Path) -> Detection | None:
        """Recognise the folder by the names of its subfolders."""
        roles: dict[tuple[Split | None, Role], Path] = {}
        _collect(root, None, None, roles)
        sets = [
            _Folders(folder, roles[split, "mask"], split)
            for (split, role), folder in roles.items()
            if role == "image" and (split, "mask") in roles
        ]
        if not sets:
            return None
        given = [folders for folders in sets if folders.split is not None]
        if len(given) > 1:
            sets = given
        else:  # a lone set is a pool to be split, and loses against folders that are no set
            pool = next((folders for folders in sets if folders.split is None), sets[0])
            sets = [_Folders(pool.images, pool.masks, None)]
        without = [
            folder for (split, role), folder in roles.items() if role == "image" and (split, "mask") not in roles
        ]
        seen = " and ".join(f"{below(root, folders.images)}/ + {below(root, folders.masks)}/" for folders in sets)
        table = next((path for path in sorted(root.iterdir()) if path.name.casefold() == "metadata.csv"), None)
        pairs = _Table.read(table) if table else None
        paired = pairs is not None and pairs.has_masks
        why = f"{seen}, paired by {table.name if paired and table else 'name'}"
        return Detection("image and mask folders", why, partial(_list, root, sets, pairs, without))


READER = FolderReader()


def _words(name: str) -> tuple[Split | None, Role | None] | None:
    """The set and the role in a folder's name, such as ``train_images``; None if it says anything else."""
    split: Split | None = None
    role: Role | None = None
    for word in re.findall("[a-z]+", name.replace("ground_truth", "groundtruth")):
        if word in SPLIT_WORDS:
            split = SPLIT_WORDS[word]
        elif word in ROLE_WORDS:
            role = ROLE_WORDS[word]
        else:
            return None
    return (split, role) if split or role else None


def _collect(
    folder: Path, split: Split | None, role: Role | None, found: dict[tuple[Split | None, Role], Path]
) -> bool:
    """Note the folders below ``folder`` that play a role; whether there are any."""
    any_found = False
    for name, path in subfolders(folder).items():
        words = _words(name)
        if words is None or (split and words[0]) or (role and words[1]):
            continue
        inner_split, inner_role = words[0] or split, words[1] or role
        deeper = _collect(path, inner_split, inner_role, found)
        if not deeper and inner_role and any(image_files(path)):
            found.setdefault((inner_split, inner_role), path)
            deeper = True
        any_found |= deeper
    return any_found


@dataclass(frozen=True)
class _Table:
    """The rows of a ``metadata.csv``, column names in lower case."""

    path: Path
    rows: tuple[Mapping[str, str], ...]
    has_masks: bool

    @classmethod
    def read(cls, path: Path) -> _Table | None:
        """The table, or None if it has no ``Image`` column and so says nothing about images."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read as UTF-8 text: {error}", where=path) from None
        header = text.partition("\n")[0]
        lines = csv.DictReader(text.splitlines(), delimiter=";" if ";" in header and "," not in header else ",")
        names = [name.strip().casefold() for name in lines.fieldnames or ()]
        lines.fieldnames = names
        if "image" not in names:
            return None
        rows = [{key: (value or "").strip() for key, value in row.items() if key is not None} for row in lines]
        return cls(path, tuple(row for row in rows if row["image"]), "mask" in names)


def _list(root: Path, sets: Sequence[_Folders], table: _Table | None, without: Sequence[Path]) -> Listing:
    problems = [
        Problem(below(root, folder), "folder without masks", "no mask folder goes with it; not read", False)
        for folder in without
    ]
    items: list[Item] = []
    columns: Mapping[str, Mapping[str, str]] = {}
    if table is not None and table.has_masks:
        items, columns = _pairs_of_table(root, sets, table, problems)
    else:
        for folders in sets:
            items += _pairs_by_stem(root, folders, problems)
        if table is not None:
            columns = _columns(items, table)
    return Listing(tuple(items), tuple(problems), "class", meaning, columns=columns)


def _annotate(mask: Path, image: ImageHeader) -> Raw:
    try:
        labels = read_labels(read_bytes(mask), mask)
        check_size("the mask", (labels.shape[0], labels.shape[1]), image, is_file=True)
        return encode_labels(labels)
    except UnusableError:
        raise
    except DataError as error:
        raise UnusableError("unreadable mask", error.what) from None


def _refuse(kind: str, detail: str, _image: ImageHeader) -> Raw:
    raise UnusableError(kind, detail)


def _stem(folder: Path, path: Path) -> str:
    return PurePosixPath(below(folder, path)).with_suffix("").as_posix()


def _by_stem(folder: Path, paths: Iterator[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(_stem(folder, path), []).append(path)
    return found


def _pairs_by_stem(root: Path, folders: _Folders, problems: list[Problem]) -> list[Item]:
    images = _by_stem(folders.images, image_files(folders.images))
    masks = _by_stem(folders.masks, image_files(folders.masks))
    loose: dict[str, list[str]] = {}
    for stem in masks:
        for variant in {stem.casefold(), MASK_SUFFIX.sub("", stem).casefold()}:
            loose.setdefault(variant, []).append(stem)
    items = []
    unused = set(masks)
    for stem, paths in images.items():
        stems = [stem] if stem in masks else loose.get(stem.casefold(), [])
        found = [path for match in stems for path in masks[match]]
        unused.difference_update(stems)
        for path in paths:
            annotate = None
            if found and len(found) * len(paths) > 1:
                names = ", ".join(below(root, other) for other in (*paths, *found))
                annotate = partial(_refuse, "ambiguous pair", f"these share a name: {names}")
            elif found:
                annotate = partial(_annotate, found[0])
            items.append(Item(below(root, path), path, folders.split, annotate))
    for stem in sorted(unused):
        problems += [Problem(below(root, path), "mask without image", "not used", False) for path in masks[stem]]
    return items


def _pairs_of_table(
    root: Path, sets: Sequence[_Folders], table: _Table, problems: list[Problem]
) -> tuple[list[Item], Mapping[str, Mapping[str, str]]]:
    items: dict[str, Item] = {}
    columns = {}
    unlisted = {below(root, path) for folders in sets for path in image_files(folders.images)}
    for row in table.rows:
        split, path = _locate(root, row["image"], [(folders.split, folders.images) for folders in sets])
        name = below(root, path)
        annotate, why_missing = None, ""
        if row["mask"]:
            _, mask = _locate(root, row["mask"], [(folders.split, folders.masks) for folders in sets])
            if os.path.lexists(mask):
                annotate = partial(_annotate, mask)
            else:
                why_missing = f"{table.path.name} names {row['mask']}, which is not there"
        if name in items:
            annotate = partial(_refuse, "ambiguous pair", f"{table.path.name} names this image more than once")
        items[name] = Item(name, path, split, annotate, why_missing)
        columns[name] = row
        unlisted.discard(name)
    for name in sorted(unlisted):
        problems.append(Problem(name, "unlisted image", f"not in {table.path.name}", True))
    return list(items.values()), columns


def _locate(root: Path, cell: str, places: Sequence[tuple[Split | None, Path]]) -> tuple[Split | None, Path]:
    """The set and the file a table's cell names: below one of the folders, below the root, or by its bare name."""
    relative = cell.replace("\\", "/")
    for split, folder in places:
        for path in (folder / relative, root / relative, folder / PurePosixPath(relative).name):
            if os.path.isfile(path) and folder in path.parents:
                return split, path
    split, folder = places[0]
    return split, folder / relative


def _columns(items: Sequence[Item], table: _Table) -> dict[str, Mapping[str, str]]:
    rows = {PurePosixPath(row["image"].replace("\\", "/")).name: row for row in table.rows}
    stems = {PurePosixPath(name).stem: row for name, row in rows.items()}
    found = {item.name: rows.get(item.path.name) or stems.get(item.path.stem) for item in items}
    return {name: row for name, row in found.items() if row is not None}
