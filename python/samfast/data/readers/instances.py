"""One folder an image, one mask file an object: the layout of the Data Science Bowl 2018."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from samfast.data.images import ImageHeader, read_bytes
from samfast.data.labels import read_labels
from samfast.data.readers.base import (
    SPLIT_WORDS,
    Coding,
    Detection,
    Item,
    Listing,
    Raw,
    Reading,
    UnusableError,
    below,
    check_size,
    image_files,
    subfolders,
)
from samfast.data.selection import MERGED
from samfast.data.types import Problem, Split
from samfast.errors import DataError
from samfast.masks import Masks


@dataclass(frozen=True)
class _Entry:
    """The folder of one image."""

    folder: Path
    images: tuple[Path, ...]
    masks: Path | None


@dataclass(frozen=True)
class _Set:
    """A folder of such folders."""

    folder: Path
    split: Split | None
    entries: tuple[_Entry, ...]

    @property
    def has_masks(self) -> bool:
        return any(entry.masks for entry in self.entries)


class InstanceFolderReader:
    """A folder for each image, in it the image and a mask file for each object."""

    name = "instances"
    looks_for = (
        "a folder for each image with images/ (the image) and masks/ (a file for each object), as in the Data Science "
        "Bowl 2018; also inside train/, val/ and test/ or stage1_train/"
    )
    rank = 0

    def detect(self, root: Path) -> Detection | None:
        """Recognise the folder by its subfolders: most with images and masks hold one image, and not just its mask."""
        found = [_Set(root, None, _entries(root))]
        if not found[0].has_masks:
            holders = {path: _split_of(name) for name, path in subfolders(root).items()}
            found = [_Set(path, split, _entries(path)) for path, split in holders.items() if split]
        paired = [entry for one in found for entry in one.entries if entry.masks]
        if 2 * sum(len(entry.images) == 1 for entry in paired) <= len(paired) or all(map(_is_pair, paired)):
            return None
        sets = [one for one in found if one.has_masks]
        without = [one for one in found if one.entries and not one.has_masks]
        seen = ", ".join(f"{len(one.entries)} in {below(root, one.folder)}/" for one in sets)
        if len({one.split for one in sets}) == 1:  # a lone set is a pool to be split
            sets = [_Set(one.folder, None, one.entries) for one in sets]
        why = f"folders with images/ + masks/, one image each: {seen.removesuffix(' in ./')}"
        return Detection("a folder an image, a mask file an object", why, partial(_list, root, sets, without))


READER = InstanceFolderReader()


def _split_of(name: str) -> Split | None:
    return next((SPLIT_WORDS[word] for word in re.findall("[a-z]+", name.casefold()) if word in SPLIT_WORDS), None)


def _entries(folder: Path) -> tuple[_Entry, ...]:
    """The folders in ``folder`` that hold an ``images`` folder, but for those named like a set."""
    found = []
    for name, path in subfolders(folder).items():
        inner = subfolders(path)
        if "images" in inner and name not in SPLIT_WORDS:
            found.append(_Entry(path, tuple(image_files(inner["images"])), inner.get("masks")))
    return tuple(found)


def _is_pair(entry: _Entry) -> bool:
    """Whether the only mask bears the name of the image: that of all its objects, as in image and mask folders."""
    files = list(islice(image_files(entry.masks), 2)) if entry.masks else []
    return len(files) == 1 and any(files[0].stem.startswith(image.stem) for image in entry.images)


def _list(root: Path, sets: Sequence[_Set], without: Sequence[_Set]) -> Listing:
    problems = [
        Problem(below(root, one.folder), "folder without masks", f"{len(one.entries)} images; not read", False)
        for one in without
    ]
    items = []
    for one in sets:
        for entry in one.entries:
            if not entry.images:
                detail = "nothing in images/; its masks are not used"
                problems.append(Problem(below(root, entry.folder), "masks without image", detail, False))
                continue
            items.append(_item(root, one.split, entry))
    reading = Reading({0: 0})
    coding = Coding((MERGED,), lambda _: reading)
    return Listing(tuple(items), tuple(problems), "instance", lambda _: coding, coding.classes)


def _item(root: Path, split: Split | None, entry: _Entry) -> Item:
    image = entry.images[0]
    name = below(root, image)
    if len(entry.images) > 1:
        names = ", ".join(path.name for path in entry.images)
        return Item(name, image, split, partial(_refuse, f"several images share one folder of masks: {names}"))
    if entry.masks is None:
        return Item(name, image, split, None, "no masks/ beside its images/")
    files = tuple(image_files(entry.masks))
    if not files:
        why = f"{below(root, entry.masks)}/ is empty (an image of nothing has one black mask)"
        return Item(name, image, split, None, why)
    return Item(name, image, split, partial(_annotate, entry.masks, files))


def _refuse(detail: str, _image: ImageHeader) -> Raw:
    raise UnusableError("ambiguous image", detail)


def _annotate(folder: Path, files: Sequence[Path], image: ImageHeader) -> Raw:
    """All objects of one image, one decoded mask in memory at a time.

    A black mask is an object nobody drew: it is left out, and an image of nothing else is empty.
    """
    problems: list[tuple[str, str]] = []
    kept: dict[bytes, str] = {}
    masks: list[Masks] = []
    bad: list[UnusableError] = []
    for path in files:
        name = below(folder, path)
        try:
            mask = _mask(path, f"{folder.name}/{name}", image, problems)
        except UnusableError as problem:
            bad.append(problem)
            problems.append((problem.kind, problem.what))
            continue
        runs = hashlib.sha256(mask.tobytes()).digest()
        if not mask.area()[0]:
            problems.append(("empty mask", f"{folder.name}/{name} holds no object"))
        elif runs in kept:
            problems.append(("duplicate annotation", f"{folder.name}/{name} repeats {kept[runs]}"))
        else:
            kept[runs] = name
            masks.append(mask)
    if bad and not kept:
        size = bad[0].size if len({problem.size for problem in bad}) == 1 else None
        more = f"; {len(bad)} of {len(files)} masks cannot be used" if len(files) > 1 else ""
        raise UnusableError(bad[0].kind, bad[0].what + more, size=size)
    joined = Masks.concatenate(masks) if masks else Masks.empty(*image.size)
    return Raw(joined, (0,) * len(masks), tuple(kept.values()), problems=tuple(problems))


def _mask(path: Path, label: str, image: ImageHeader, problems: list[tuple[str, str]]) -> Masks:
    """One object's mask: everything that is not 0, or the upper half of the greys of an anti-aliased one.

    Raises:
        UnusableError: the file cannot be read, has another size, or holds several low values.
    """
    try:
        labels = read_labels(read_bytes(path), path)
    except DataError as error:
        raise UnusableError("unreadable mask", f"{label}: {error.what}") from None
    check_size(label, (labels.shape[0], labels.shape[1]), image, is_file=True)
    top = labels.max()
    if ((labels == 0) | (labels == top)).all():
        return Masks.from_numpy(labels > 0)
    values = np.unique(labels[labels > 0])
    half = 128 if labels.dtype.itemsize == 1 else 32768
    if top < half:
        shown = ", ".join(map(str, values[:4].tolist()))
        detail = f"{label} holds the values {shown}{', ...' if len(values) > 4 else ''}: one file is one object"
        raise UnusableError("several objects in a mask", detail)
    problems.append(("anti-aliased mask", f"{label}: {len(values)} grey levels, cut at half"))
    return Masks.from_numpy(labels >= half)
