"""The one pass over all files: keys, sizes, integrity and annotations, before any long work starts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samfast.data.images import DecodeSpec, ImageHeader, check_image, image_key, read_bytes
from samfast.data.parallel import parallel_map
from samfast.data.readers.base import Item, Raw, UnusableError
from samfast.data.store import Place, Store
from samfast.data.types import Problem
from samfast.errors import DataError
from samfast.masks import Masks

SHOWN = 8
PUT_ASIDE = Masks.empty(1, 1)
"""Stands for masks that are in the store."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """One readable image, its annotation put aside.

    Attributes:
        item: where it came from.
        key: see :func:`~samfast.data.images.image_key`.
        header: its size.
        raw: the annotation without its masks; None if it has none.
        place: of the masks.
    """

    item: Item
    key: str
    header: ImageHeader
    raw: Raw | None
    place: Place | None

    def load(self, store: Store) -> Raw:
        """The annotation with its masks."""
        assert self.raw is not None
        assert self.place is not None
        return replace(self.raw, masks=get_masks(store, self.place, self.header.size))


def put_masks(store: Store, masks: Masks) -> Place:
    """Put run lengths aside."""
    return store.put(masks.counts, masks.offsets)


def get_masks(store: Store, place: Place, size: tuple[int, int]) -> Masks:
    """The run lengths that :func:`put_masks` put aside."""
    counts, offsets = store.get(place)
    return Masks(*size, counts, offsets)


def scan(items: Sequence[Item], decode: DecodeSpec, store: Store) -> tuple[list[Scanned], list[Problem]]:
    """Read every image and its annotation once, in parallel.

    Returns:
        what can be used, in order, and the problems; those with ``excluded`` are the images that cannot.
    """
    found: list[Scanned] = []
    problems: list[Problem] = []

    refused: list[_Refused] = []

    def read(item: Item) -> Scanned | _Refused:
        return _read(item, decode, store)

    for item, result in zip(items, parallel_map(read, items, "Reading the data"), strict=True):
        if isinstance(result, _Refused):
            refused.append(result)
            continue
        found.append(result)
        if result.raw is None:
            why = f"{item.why_missing}; " if item.why_missing else ""
            problems.append(Problem(item.name, "missing mask", f"{why}kept, but never used as an empty one", False))
        else:
            problems += [Problem(item.name, kind, detail, False) for kind, detail in result.raw.problems]
    return found, problems + _with_size_hints(refused, found)


@dataclass(frozen=True)
class _Refused:
    """An image that cannot be used: why, its size, and the size of its annotation if that is why."""

    problem: Problem
    image_size: tuple[int, int] | None = None
    annotation_size: tuple[int, int] | None = None


def _read(item: Item, decode: DecodeSpec, store: Store) -> Scanned | _Refused:
    try:
        data = read_bytes(item.path)
        header = check_image(data, item.path)
    except DataError as error:
        kind = "unreadable image" if os.path.exists(item.path) else "missing image"
        return _Refused(Problem(item.name, kind, error.what, True))
    key = image_key(data, decode)
    del data  # the annotation may need the memory
    if item.annotate is None:
        return Scanned(item, key, header, None, None)
    try:
        raw = item.annotate(header)
    except UnusableError as problem:
        return _Refused(Problem(item.name, problem.kind, problem.what, True), header.size, problem.size)
    place = put_masks(store, raw.masks)
    return Scanned(item, key, header, replace(raw, masks=PUT_ASIDE), place)


def _with_size_hints(refused: Sequence[_Refused], found: Sequence[Scanned]) -> list[Problem]:
    """Name the one other image that a mask of the wrong size would fit: most likely it is that image's mask."""
    by_size: dict[tuple[int, int] | None, list[str]] = {}
    for one in found:
        by_size.setdefault(one.header.size, []).append(one.item.name)
    for bad in refused:
        by_size.setdefault(bad.image_size, []).append(bad.problem.name)
    problems = []
    for bad in refused:
        fitting = by_size.get(bad.annotation_size, []) if bad.annotation_size else []
        hint = f"; only {fitting[0]} has that size" if len(fitting) == 1 else ""
        problems.append(replace(bad.problem, detail=bad.problem.detail + hint))
    return problems


def check_share_of_bad(problems: Sequence[Problem], count: int, root: Path, *, allowed: int, why: str) -> None:
    """Stop if more than ``allowed`` of ``count`` images cannot be used, or none can.

    Args:
        problems: of all images; those with ``excluded`` count.
        count: of images read.
        root: the data set's folder.
        allowed: number of images.
        why: the option that allows so many.

    Raises:
        DataError: with the first of them and their number by kind.
    """
    bad = [problem for problem in problems if problem.excluded]
    if len(bad) <= allowed and len(bad) < count:
        return
    kinds = ", ".join(f"{number} {kind}" for kind, number in Counter(problem.kind for problem in bad).most_common())
    lines = [f"    {problem.name}: {problem.kind}: {problem.detail}" for problem in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"    ... and {len(bad) - SHOWN} more")
    what = f"{len(bad)} of {count} images cannot be used ({why}): {kinds}"
    fix = "mend or remove these files" + ("" if len(bad) == count else ", or raise max_bad to leave them out")
    raise DataError("\n".join((what, *lines)), where=root, fix=fix)


def facts_of(found: Sequence[Scanned]) -> list[Mapping[int, int]]:
    """The facts of all annotations."""
    return [one.raw.facts for one in found if one.raw is not None]
