"""What a data format has to provide: one object that recognises a folder and lists what lies in it.

A format is one module of this folder with an object named ``READER``; nothing else has to know it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Protocol

from samfast.data.images import ImageHeader
from samfast.data.types import Problem, Split, TargetKind
from samfast.errors import DataError
from samfast.masks import Masks

IGNORE = -1
"""The class of pixels that take part in nothing."""

SPLIT_WORDS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""How people call the three sets, in folder and file names."""


class UnusableError(DataError):
    """An image and its annotation do not make a sample.

    Attributes:
        kind: the label the problem is counted under.
        size: (height, width) of a mask file, where that is what is wrong.
    """

    def __init__(self, kind: str, detail: str, *, size: tuple[int, int] | None = None) -> None:
        self.kind = kind
        self.size = size
        super().__init__(detail)


def check_size(what: str, size: tuple[int, int], image: ImageHeader, *, is_file: bool) -> None:
    """Hold the (height, width) an annotation was drawn at against its image's.

    Args:
        what: the annotation, as the message calls it.
        size: its (height, width).
        image: its image.
        is_file: whether it is a file of its own, which may have been taken for another.

    Raises:
        UnusableError: they differ.
    """
    if size == image.size:
        return
    hint = " (that of the pixels before the EXIF rotation is applied)" if size == image.stored_size else ""
    found, expected = (f"{width} x {height}" for height, width in (size, image.size))
    raise UnusableError(
        "size mismatch", f"{what} is {found}{hint}, the image is {expected}", size=size if is_file else None
    )


@dataclass(frozen=True, slots=True)
class Raw:
    """The annotations of one image as its file holds them, before anyone knows what the whole data set means.

    Attributes:
        masks: ``N`` masks, original frame.
        codes: ``N`` codes of the format: a grey value, a category.
        ids: ``N`` annotation ids, unique in the image; None where the format has no objects.
        crowd: ``N`` flags: the pixels are ignored rather than an object.
        facts: whatever the format wants to know of all files before it decides what codes mean; kept in memory.
        problems: (kind, detail) of each annotation that was left out or repaired.
    """

    masks: Masks
    codes: tuple[int, ...]
    ids: tuple[str, ...] | None = None
    crowd: tuple[bool, ...] = ()
    facts: Mapping[int, int] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One image and where its annotation comes from.

    Attributes:
        name: path below the root, forward slashes.
        path: the image file.
        split: the set its place in the folder gives it; None where the folder has no sets.
        annotate: reads the annotation of an image of the given size; None if it has none at all. Raises
            :class:`~samfast.errors.DataError` if the annotation cannot belong to the image.
        why_missing: why it has none, where that is known.
    """

    name: str
    path: Path
    split: Split | None
    annotate: Callable[[ImageHeader], Raw] | None
    why_missing: str = ""


@dataclass(frozen=True)
class Reading:
    """What the codes of one file mean.

    Attributes:
        classes: code to class index, or :data:`IGNORE`; codes that are not named are background.
        problem: (kind, detail) worth telling.
        excluded: whether that problem makes the file unusable.
    """

    classes: Mapping[int, int]
    problem: tuple[str, str] | None = None
    excluded: bool = False


@dataclass(frozen=True)
class Coding:
    """What the codes of a data set mean: its class names, and a reading of each file's facts."""

    classes: tuple[str, ...]
    read: Callable[[Mapping[int, int]], Reading]
    why: str = ""


@dataclass(frozen=True)
class Listing:
    """All images a format finds.

    Attributes:
        items: the images to be read.
        problems: what is wrong already now, such as an image that is named but not there.
        kind: what one annotation stands for, unless the user asks for something else.
        coding: from the facts of all readable files to the meaning of their codes.
        classes: the class names, where they are known before any file is read.
        columns: per image name, the columns of a table beside the data; for ``group=``.
    """

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    kind: TargetKind
    coding: Callable[[Sequence[Mapping[int, int]]], Coding]
    classes: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Detection:
    """A format that recognises a folder.

    Attributes:
        layout: what it takes the folder for, in a few words.
        why: what it saw that made it so.
        listing: reads the lists (not the images) and says what is there.
    """

    layout: str
    why: str
    listing: Callable[[], Listing]


class Reader(Protocol):
    """A data format."""

    name: str
    looks_for: str
    rank: int
    """Formats are asked in this order: those that know objects before those that know pixels."""

    def detect(self, root: Path) -> Detection | None:
        """Recognise the folder, or say None; :class:`~samfast.errors.DataError` if it is ours but broken."""
        ...


@cache
def readers() -> tuple[Reader, ...]:
    """Every format: the ``READER`` of each module in this folder, by rank."""
    found = []
    for module in iter_modules([str(Path(__file__).parent)]):
        reader = getattr(import_module(f"samfast.data.readers.{module.name}"), "READER", None)
        if reader is not None:
            found.append(reader)
    return tuple(sorted(found, key=lambda reader: (reader.rank, reader.name)))


SIDECARS = frozenset(
    (
        *(".cache", ".csv", ".db", ".doc", ".docx", ".gz", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl"),
        *(".log", ".md", ".npy", ".npz", ".parquet", ".pdf", ".pickle", ".pkl", ".pt", ".py", ".rtf", ".sh", ".tar"),
        *(".tfrecord", ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zip"),
    )
)
"""Suffixes of files that lie beside images and are none; any other file is taken for an image until it proves not."""


def image_files(folder: Path) -> Iterator[Path]:
    """Files below ``folder``, in name order, that may be images: not hidden, not a :data:`SIDECARS`.

    Symbolic links are followed, each real folder once.
    """
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(files):
            if name[0] != "." and os.path.splitext(name)[1].casefold() not in SIDECARS and name != "Thumbs.db":
                yield Path(parent, name)


def subfolders(folder: Path) -> dict[str, Path]:
    """Visible folders directly in ``folder``, by name in lower case, in name order."""
    try:
        found = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())
    except OSError:
        return {}
    return {path.name.casefold(): path for path in found}


def below(root: Path, path: Path) -> str:
    """``path`` below ``root`` with forward slashes: the name of a sample."""
    return Path(os.path.relpath(path, root)).as_posix()
