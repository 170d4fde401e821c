"""COCO JSON: polygons, uncompressed and compressed run lengths, crowds; one file, or one a set."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from samfast.data.images import ImageHeader
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
)
from samfast.data.types import Problem, Split
from samfast.errors import DataError
from samfast.masks import Masks

SEARCH_DEPTH = 2
"""Folders below the root in which annotation files are looked for."""
MAX_UNNAMED_FILES = 20
"""JSON files, none of them named like COCO's, above which a folder is taken for one of per-image annotations."""
COCO_NAMES = re.compile(r"(^instances)|coco", re.IGNORECASE)
OTHER_FILES = frozenset(("splits.json", "package.json", "settings.json"))
SHOWN = 5


@dataclass(frozen=True)
class _Document:
    """One parsed annotation file."""

    path: Path
    split: Split | None
    images: Sequence[Any]
    annotations: Sequence[Any]
    categories: Sequence[Any]


class CocoReader:
    """COCO JSON as published, as Roboflow exports it, and as annotation tools write it."""

    name = "coco"
    looks_for = (
        "a COCO JSON file (images, annotations, categories) beside its images or in annotations/, or one each for "
        "train, val and test (annotations/instances_train2017.json, train/_annotations.coco.json, ...)"
    )
    rank = 0

    def detect(self, root: Path) -> Detection | None:
        """Recognise the folder by the JSON files in it."""
        documents = [document for path in _candidates(root) if (document := _parse(root, path)) is not None]
        if not documents:
            return None
        sets = [document for document in documents if document.split is not None]
        ignored: list[_Document] = []
        if len(documents) == 1:  # a lone set is a pool to be split
            documents = [_Document(documents[0].path, None, *_contents(documents[0]))]
        elif len(sets) > 1 and len({document.split for document in sets}) == len(sets):
            ignored = [document for document in documents if document.split is None]
            documents = sets
        else:
            names = ", ".join(below(root, document.path) for document in documents)
            raise DataError(
                f"{len(documents)} COCO files, and no telling which holds which set: {names}",
                where=root,
                fix="keep one, or name them after train, val and test",
            )
        seen = ", ".join(below(root, document.path) for document in documents)
        counts = (
            f"{sum(len(d.images) for d in documents)} images, {sum(len(d.annotations) for d in documents)} annotations"
        )
        problems = [Problem(below(root, d.path), "unused COCO file", "it names no set", False) for d in ignored]
        return Detection("COCO JSON", f"{seen}: {counts}", partial(_list, root, documents, problems))


READER = CocoReader()


def _contents(document: _Document) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    return document.images, document.annotations, document.categories


def _candidates(root: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(root):
        depth = len(Path(parent).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if name[0] != "." and depth < SEARCH_DEPTH)
        here = [Path(parent, name) for name in files if name.casefold().endswith(".json") and name not in OTHER_FILES]
        found += sorted(path for path in here if path.name[0] != ".")
    named = [path for path in found if COCO_NAMES.search(path.name)]
    return named or (found if len(found) <= MAX_UNNAMED_FILES else [])


def _split_of(root: Path, path: Path) -> Split | None:
    """The set in the name of the file, or of a folder it lies in below the root."""
    for part in reversed(path.relative_to(root).parts):
        for word in re.findall("[a-z]+", part.casefold().removesuffix(".json")):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def _parse(root: Path, path: Path) -> _Document | None:
    """The COCO file at ``path``; None if it is other JSON, such as captions.

    Raises:
        DataError: it is named like a COCO file and cannot be read as one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        if COCO_NAMES.search(path.name) or path.parent.name == "annotations":
            raise DataError(f"not valid JSON: {error}", where=path, fix="download or export it again") from None
        return None
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        return None
    images, annotations, categories = (content.get(key, []) for key in ("images", "annotations", "categories"))
    for key, value in (("images", images), ("annotations", annotations), ("categories", categories)):
        if not isinstance(value, list):
            raise DataError(f"{key!r} is a {type(value).__name__}, not a list", where=f"{path}: {key}")
    drawn = any(isinstance(annotation, dict) and "segmentation" in annotation for annotation in annotations)
    if annotations and not drawn:
        return None
    return _Document(path, _split_of(root, path), images, annotations, categories)


class _Finder:
    """From the file names of a JSON to files on disk, however the folders have been moved around."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_name: dict[str, list[Path]] | None = None

    def find(self, file_name: str, document: _Document) -> list[Path]:
        """The files it may mean, the best first; more than one if there is no telling them apart."""
        relative = PurePosixPath(file_name.replace("\\", "/"))
        for base in (document.path.parent, self.root):
            if os.path.isfile(base / relative):
                return [base / relative]
        if self.by_name is None:
            self.by_name = {}
            for path in image_files(self.root):
                self.by_name.setdefault(path.name.casefold(), []).append(path)
        found = self.by_name.get(relative.name.casefold(), [])
        if len(found) < 2:
            return found
        scores = [self._score(path, relative, document) for path in found]
        return [path for path, score in zip(found, scores, strict=True) if score == max(scores)]

    def _score(self, path: Path, relative: PurePosixPath, document: _Document) -> tuple[int, bool, bool]:
        common = 0
        for mine, theirs in zip(reversed(path.parts), reversed(relative.parts), strict=False):
            if mine.casefold() != theirs.casefold():
                break
            common += 1
        in_set = document.split is not None and _split_of(self.root, path.parent) == document.split
        return common, in_set, path.name == relative.name


def _list(root: Path, documents: Sequence[_Document], problems: list[Problem]) -> Listing:
    classes: dict[str, int] = {}
    finder = _Finder(root)
    items: list[Item] = []
    listed: set[Path] = set()
    for document in documents:
        categories = _categories(document, classes)
        items += _items(root, document, categories, finder, problems)
        listed |= {item.path for item in items}
    unlisted = [
        below(root, path) for folder in _image_folders(listed) for path in image_files(folder) if path not in listed
    ]
    if unlisted:
        shown = ", ".join(sorted(set(unlisted))[:SHOWN])
        detail = f"{len(set(unlisted))} files are not in the JSON and not used: {shown}"
        problems.append(Problem(below(root, documents[0].path), "unlisted images", detail, False))
    names = tuple(classes)
    reading = Reading({index: index for index in range(len(names))})
    return Listing(tuple(items), tuple(problems), "instance", lambda _: Coding(names, lambda _: reading), names)


def _image_folders(paths: Iterable[Path]) -> list[Path]:
    """The folders of ``paths``, without those that lie in another of them."""
    folders = {path.parent for path in paths}
    return sorted(folder for folder in folders if folders.isdisjoint(folder.parents))


def _categories(document: _Document, classes: dict[str, int]) -> dict[str, int]:
    """Category id to class index; names that are new are added to ``classes``. Equal names are one class.

    Roboflow's first category is the name of the project, the parent of all others, and annotates nothing: it is left
    out.
    """
    used = {str(a.get("category_id")) for a in document.annotations if isinstance(a, dict)}
    parents = {str(c.get("supercategory")) for c in document.categories if isinstance(c, dict)}
    found: dict[str, int] = {}
    for category in document.categories:
        if not isinstance(category, dict) or "id" not in category:
            raise DataError(f"a category without an id: {category!r:.80}", where=f"{document.path}: categories")
        key, name = str(category["id"]), str(category.get("name", f"category {category['id']}")).strip()
        if key not in used and category.get("supercategory") == "none" and name in parents:
            continue
        found[key] = classes.setdefault(name, len(classes))
    return found


def _items(
    root: Path, document: _Document, categories: Mapping[str, int], finder: _Finder, problems: list[Problem]
) -> list[Item]:
    file = below(root, document.path)
    entries: dict[str, Mapping[str, Any]] = {}
    for entry in document.images:
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            problems.append(Problem(file, "malformed image entry", f"no id or file_name: {entry!r:.80}", False))
        elif str(entry["id"]) in entries:
            problems.append(Problem(entry["file_name"], "duplicate image id", f"id {entry['id']} again", False))
        else:
            entries[str(entry["id"])] = entry
    drawn: dict[str, list[Mapping[str, Any]]] = {key: [] for key in entries}
    strays = Counter[tuple[str, str]]()
    for annotation in document.annotations:
        if not isinstance(annotation, dict):
            strays["malformed annotation", f"{annotation!r:.40}"] += 1
        elif str(annotation.get("image_id")) not in entries:
            strays["unknown image", f"image_id {annotation.get('image_id')}"] += 1
        elif str(annotation.get("category_id")) not in categories:
            strays["unknown category", f"category_id {annotation.get('category_id')}"] += 1
        else:
            drawn[str(annotation["image_id"])].append(annotation)
    problems += [Problem(file, kind, f"{count} annotations: {what}", False) for (kind, what), count in strays.items()]

    by_path: dict[Path, tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = {}
    items: list[Item] = []
    for key, entry in entries.items():
        found = finder.find(entry["file_name"], document)
        if len(found) > 1:
            names = ", ".join(below(root, path) for path in found[:SHOWN])
            refuse = partial(_refuse, f"{entry['file_name']} may be any of {names}")
            items.append(Item(f"{entry['file_name']}#{key}", found[0], document.split, refuse))
            continue
        path = found[0] if found else document.path.parent / entry["file_name"].replace("\\", "/")
        if path in by_path:
            problems.append(Problem(below(root, path), "image listed twice", "its annotations are put together", False))
            by_path[path][1].extend(drawn[key])
        else:
            by_path[path] = (entry, drawn[key])
    for path, (entry, own) in by_path.items():
        annotate = partial(_annotate, entry, own, categories)
        items.append(Item(below(root, path), path, document.split, annotate))
    return items


def _refuse(detail: str, _image: ImageHeader) -> Raw:
    raise UnusableError("ambiguous image", detail)


def _annotate(
    entry: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    categories: Mapping[str, int],
    image: ImageHeader,
) -> Raw:
    declared = entry.get("height"), entry.get("width")
    if all(isinstance(side, int | float) and 0 < side < math.inf for side in declared):
        check_size("the size in the JSON", (int(declared[0] or 0), int(declared[1] or 0)), image, is_file=False)
    height, width = image.size
    problems: list[tuple[str, str]] = []
    kept: dict[tuple[int, bytes], tuple[str, bool]] = {}
    masks: list[Masks] = []
    taken: set[str] = set()
    for annotation in annotations:
        label = f"annotation {annotation.get('id', 'without id')}"
        try:
            mask = _mask(annotation.get("segmentation"), height, width, label, problems)
        except UnusableError as problem:
            problems.append((problem.kind, problem.what))
            continue
        runs = mask.tobytes()
        code = categories[str(annotation["category_id"])]
        if (code, runs) in kept:
            problems.append(("duplicate annotation", f"{label} repeats annotation {kept[code, runs][0]}"))
            continue
        name = str(annotation["id"]) if "id" in annotation else hashlib.sha256(runs).hexdigest()[:12]
        if name in taken:
            problems.append(("duplicate annotation id", f"{label} is there more than once"))
            name = f"{name}-{hashlib.sha256(runs).hexdigest()[:12]}"
        taken.add(name)
        kept[code, runs] = (name, bool(annotation.get("iscrowd", 0)))
        masks.append(mask)
    if annotations and not kept:
        counts = ", ".join(f"{count} {kind}" for kind, count in Counter(kind for kind, _ in problems).items())
        raise UnusableError("no usable annotation", f"none of {len(annotations)} can be used: {counts}")
    return Raw(
        Masks.concatenate(masks) if masks else Masks.empty(height, width),
        tuple(code for code, _ in kept),
        tuple(name for name, _ in kept.values()),
        tuple(crowd for _, crowd in kept.values()),
        problems=tuple(problems),
    )


def _mask(segmentation: Any, height: int, width: int, label: str, problems: list[tuple[str, str]]) -> Masks:
    """One annotation's mask; parts of it that cannot be used are noted in ``problems``.

    Raises:
        UnusableError: nothing of it can be used.
    """
    if isinstance(segmentation, dict):
        mask = _run_lengths(segmentation, height, width, label)
    elif isinstance(segmentation, list) and segmentation:
        parts = [segmentation] if isinstance(segmentation[0], int | float) else segmentation
        polygons = [part for part in parts if _is_polygon(part)]
        if not polygons:
            raise UnusableError("degenerate polygon", f"{label}: fewer than 3 points, or no finite numbers")
        if len(polygons) < len(parts):
            problems.append(
                ("degenerate polygon", f"{label}: {len(parts) - len(polygons)} of {len(parts)} parts dropped")
            )
        try:
            mask = Masks.from_polygons([polygons], height, width)
        except DataError as error:
            raise UnusableError("degenerate polygon", f"{label}: {error.what}") from None
    else:
        raise UnusableError("annotation without a mask", f"{label}: no segmentation, only a box")
    if not mask.area()[0]:
        raise UnusableError("annotation of no pixels", f"{label} covers no pixel of the image")
    return mask


def _is_polygon(part: Any) -> bool:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        return False
    return all(isinstance(value, int | float) and math.isfinite(value) for value in part)


def _run_lengths(segmentation: Mapping[str, Any], height: int, width: int, label: str) -> Masks:
    size = segmentation.get("size")
    if size is not None and size != [height, width]:
        raise UnusableError("run lengths of another size", f"{label}: size {size}, the image is [{height}, {width}]")
    try:
        return Masks.from_rle([{"size": [height, width], "counts": segmentation["counts"]}])
    except (DataError, ValueError, TypeError, KeyError, OverflowError) as error:
        what = error.what if isinstance(error, DataError) else str(error)
        raise UnusableError("malformed run lengths", f"{label}: {what}") from None
