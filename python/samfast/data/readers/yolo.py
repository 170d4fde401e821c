"""YOLO segmentation exports: a ``data.yaml``, images, and a text file of outlines for each image."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from samfast.data.images import ImageHeader, read_bytes
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
    image_files,
)
from samfast.data.types import SPLITS, Problem, Split
from samfast.errors import DataError
from samfast.masks import Masks
from samfast.progress import track

TOLERANCE = 0.01
"""By how much the centre and the sides of an outline's box may leave [0, 1]: what Ultralytics tolerates."""
BOX_NUMBERS = (4, 5)
"""Numbers behind the class of a box, without and with a confidence: Ultralytics takes more for an outline."""
MAX_CONFIG_BYTES = 1 << 20
MAX_CLASSES = 100_000
SHOWN = 5
NOT_LABELS = frozenset(("classes.txt", "labels.txt", "train.txt", "val.txt", "test.txt"))
"""Lists that tools leave among the labels."""


@dataclass(frozen=True)
class _Config:
    """What is used of a ``data.yaml``; all scalars are text."""

    path: Path
    names: tuple[str, ...]
    base: str
    sets: Mapping[Split, tuple[str, ...]]


@dataclass(frozen=True)
class _Set:
    """The images of one set, and what was named to find them."""

    split: Split | None
    where: str
    images: tuple[Path, ...]


class YoloReader:
    """YOLO outlines as Ultralytics reads them and Roboflow, CVAT and others export them."""

    name = "yolo"
    looks_for = (
        "a YOLO segmentation export: data.yaml with the class names, images/ and labels/ with a .txt of outlines for "
        "each image, in train/, valid/ and test/ or with these inside"
    )
    rank = 0

    def detect(self, root: Path) -> Detection | None:
        """Recognise the folder by a YAML file of class names and label files."""
        config = _find_config(root)
        if config is None:
            return None
        problems: list[Problem] = []
        sets = _sets(root, config, problems)
        images = [path for one in sets for path in one.images]
        if not images:
            named = ", ".join(f"{split}: {', '.join(entries)}" for split, entries in config.sets.items())
            raise DataError(
                f"no images: {named or 'it names no set'}; nor in images/ or train/images/ beside it",
                where=config.path,
                fix="put the data.yaml into the folder that holds the images and labels",
            )
        if not any(os.path.isfile(_label_path(root, path)) for path in images):
            return None
        seen = ", ".join(f"{len(one.images)} images in {one.where}" for one in sets)
        why = f"{below(root, config.path)}; {seen}"
        return Detection("YOLO segmentation", why, partial(_list, root, config, sets, problems))


READER = YoloReader()


def _find_config(root: Path) -> _Config | None:
    """The YAML file that names classes; ``data.yaml`` before others."""
    try:
        paths = sorted(path for path in root.iterdir() if path.suffix.casefold() in (".yaml", ".yml"))
    except OSError:
        return None
    found = [config for path in paths if path.name[0] != "." and (config := _parse_config(path)) is not None]
    first = [config for config in found if config.path.stem.casefold() == "data"] or found
    if len(first) > 1:
        names = ", ".join(config.path.name for config in first)
        raise DataError(f"{len(first)} YAML files with class names: {names}", where=root, fix="keep one data.yaml")
    return first[0] if first else None


def _parse_config(path: Path) -> _Config | None:
    """The classes and sets of a YAML file; None if it is about something else.

    Scalars stay text: a class may be called ``no`` or ``1``.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
            return None
        content: Any = yaml.load(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        if path.stem.casefold() == "data":
            raise DataError(f"not valid YAML: {error}", where=path, fix="export it again") from None
        return None
    if not isinstance(content, dict) or not content.keys() & {"names", "nc"}:
        return None
    if "kpt_shape" in content:
        raise DataError("keypoints (kpt_shape), not outlines", where=path, fix="export the data set as segmentation")
    sets: dict[Split, tuple[str, ...]] = {}
    for key, value in content.items():
        if key in SPLIT_WORDS:
            entries = value if isinstance(value, list) else [value]
            sets[SPLIT_WORDS[key]] = tuple(entry for entry in entries if isinstance(entry, str) and entry)
    base = content.get("path")
    return _Config(path, _names(path, content), base if isinstance(base, str) else "", sets)


def _names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names by class index; without any, those Ultralytics makes of ``nc``.

    Raises:
        DataError: they are no list and no mapping from 0, 1, 2, ...
    """
    names = content.get("names")
    where = f"{path}: names"
    if not names:
        count = content.get("nc")
        if not (isinstance(count, str) and re.fullmatch("[0-9]{1,6}", count) and 0 < int(count) <= MAX_CLASSES):
            raise DataError("no class names, and nc is no number of classes", where=where, fix="names: [first, ...]")
        return tuple(f"class_{index}" for index in range(int(count)))
    if isinstance(names, dict):
        wanted = [str(index) for index in range(len(names))]
        if sorted(names) != sorted(wanted):
            shown = ", ".join(list(names)[:SHOWN])
            raise DataError(f"the class indices {shown}, ... are not 0 to {len(names) - 1}", where=where)
        names = [names[index] for index in wanted]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("neither a list of names nor index: name", where=where, fix="names: [first, ...]")
    return tuple(name.strip() for name in names)


def _sets(root: Path, config: _Config, problems: list[Problem]) -> list[_Set]:
    """The sets of the YAML file where its paths lead somewhere below the root, of the usual folders elsewhere."""
    found: dict[Split, dict[Path, None]] = {}
    places: dict[Split, str] = {}

    def note(kind: str, detail: str) -> None:
        problems.append(Problem(below(root, config.path), kind, detail, False))

    for split in SPLITS:
        named = {entry: _locate(root, config.base, entry) for entry in config.sets.get(split, ())}
        folders = [path for path in named.values() if path is not None]
        usual = [] if folders else [path for path in _usual_folders(root, split) if path.is_dir()][:1]
        for entry, path in named.items():
            if path is None:
                instead = f"; {below(root, usual[0])} is read instead" if usual else ""
                note("broken path", f"{split}: {entry} is not in this folder{instead}")
        images = dict.fromkeys(path for folder in folders or usual for path in _images(root, config.base, folder))
        twin = next((other for other, theirs in found.items() if images and theirs.keys() == images.keys()), None)
        if twin is not None:
            note("set named twice", f"{split} is the same images as {twin}, and is not used")
        elif images:
            for other, theirs in found.items():
                shared = theirs.keys() & images.keys()
                if shared:
                    note("image in two sets", f"{len(shared)} images of {split} are in {other} too: taken for {split}")
                    found[other] = {path: None for path in theirs if path not in shared}
            found[split] = images
            places[split] = ", ".join(below(root, path) for path in folders or usual)
    sets = [_Set(split, places[split], tuple(images)) for split, images in found.items() if images]
    if not sets and (root / "images").is_dir():
        sets = [_Set(None, "images", tuple(image_files(root / "images")))]
    return [replace(sets[0], split=None)] if len(sets) == 1 else sets  # a lone set is a pool to be split


def _usual_folders(root: Path, split: Split) -> Iterator[Path]:
    for word, meant in SPLIT_WORDS.items():
        if meant == split:
            yield root / word / "images"
            yield root / "images" / word


def _locate(root: Path, base: str, entry: str) -> Path | None:
    """What an entry names below the root, whatever stands before it: exports keep the paths of other machines.

    As much of its beginning is left out as it takes, but not the name of a set: ``../train/images`` may be
    ``train/images``, never ``images``.
    """
    parts = _parts(entry)
    words = [number for number, part in enumerate(parts) if _is_set(part)]
    inner = _parts(base)
    bases = [root.joinpath(*inner[start:]) for start in range(len(inner) + 1)]
    for start in range(1 + (words[-1] if words else len(parts) - 1)):
        for folder in bases:
            path = folder.joinpath(*parts[start:])
            if os.path.exists(path):
                return path
    return None


def _parts(path: str) -> list[str]:
    return [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("..", ".", "/")]


def _is_set(name: str) -> bool:
    return any(word in SPLIT_WORDS for word in re.findall("[a-z]+", name.casefold()))


def _images(root: Path, base: str, place: Path) -> list[Path]:
    """The images of a folder, or of a text file that lists them."""
    if place.is_dir():
        return list(image_files(place))
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as a list of images: {error}", where=place) from None
    entries = [line.strip() for line in lines if line.strip()]
    for entry in entries:
        if not _parts(entry):
            raise DataError(f"a list of images with the line {entry!r}, which names no file", where=place)
    return [_locate(root, base, entry) or root / _parts(entry)[-1] for entry in entries]


def _label_path(root: Path, image: Path) -> Path:
    """Where the label of an image lies: in the ``labels`` that stands for its last ``images``, else beside it."""
    parts = list(image.relative_to(root).parts)
    folders = [number for number, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _list(root: Path, config: _Config, sets: Sequence[_Set], problems: list[Problem]) -> Listing:
    indices: dict[str, int] = {}
    codes = [indices.setdefault(name, len(indices)) for name in config.names]
    by_label: dict[Path, list[tuple[Split | None, Path]]] = {}
    for one in sets:
        for path in one.images:
            by_label.setdefault(_label_path(root, path), []).append((one.split, path))
    _check_outlines(list(by_label))
    items = []
    for label, found in by_label.items():
        name = below(root, label)
        for split, path in found:
            annotate, why = None, ""
            if len(found) > 1:
                names = ", ".join(below(root, other) for _, other in found)
                annotate = partial(_refuse, f"these share {name}: {names}")
            elif os.path.lexists(label):
                annotate = partial(_annotate, label, name, codes)
            else:
                why = f"no {name} (to YOLO an image of nothing; if it is one, put an empty file there)"
            items.append(Item(below(root, path), path, split, annotate, why))
    for folder in sorted({label.parent for label in by_label if "labels" in label.relative_to(root).parts}):
        for path in sorted(folder.glob("*.txt")):
            if path not in by_label and path.name not in NOT_LABELS:
                problems.append(Problem(below(root, path), "label without image", "not used", False))
    classes = tuple(indices)
    return Listing(tuple(items), tuple(problems), "instance", partial(_coding, classes), classes)


def _coding(names: tuple[str, ...], files: Sequence[Mapping[int, int]]) -> Coding:
    """Every code is a class; the facts, how many outlines of a file have how many corners, tell of another format."""
    reading = Reading({index: index for index in range(len(names))})
    corners = Counter[int]()
    for facts in files:
        corners.update(facts)
    oriented = corners.keys() == {4}
    why = "all outlines have 4 corners: if they are oriented boxes, they are no masks" if oriented else ""
    return Coding(names, lambda _: reading, why)


def _check_outlines(labels: Sequence[Path]) -> None:
    """Look until the first outline, and refuse a data set that has boxes instead."""
    boxes = None
    for path in track(labels, "Looking for outlines"):
        try:
            counts = [len(line.split()) - 1 for line in path.read_bytes().splitlines()]
        except OSError:
            continue
        if max(counts, default=0) > max(BOX_NUMBERS):
            return
        if boxes is None and not set(BOX_NUMBERS).isdisjoint(counts):
            boxes = path
    if boxes is not None:
        raise DataError(
            "the labels are boxes (class x y width height), not outlines: there are no masks to learn from",
            where=boxes,
            fix="export the data set as segmentation (YOLO segment or COCO), or draw masks in its boxes with a model",
        )


def _refuse(detail: str, _image: ImageHeader) -> Raw:
    raise UnusableError("ambiguous pair", detail)


def _annotate(path: Path, name: str, codes: Sequence[int], image: ImageHeader) -> Raw:
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except (DataError, UnicodeDecodeError) as error:
        what = error.what if isinstance(error, DataError) else f"not UTF-8 text: {error}"
        raise UnusableError("unreadable label", f"{name}: {what}") from None
    height, width = image.size
    problems: list[tuple[str, str]] = []
    kept: dict[tuple[int, bytes], int] = {}
    masks: list[Masks] = []
    corners = Counter[int]()
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, row in rows:
        where = f"{name}:{number}"
        try:
            code, points = _outline(row, codes, where)
            mask = Masks.from_polygons([[(points * (width, height)).ravel()]], height, width)
            if not mask.area()[0]:
                raise UnusableError("annotation of no pixels", f"{where} covers no pixel of the image")
        except UnusableError as problem:
            problems.append((problem.kind, problem.what))
            continue
        key = code, mask.tobytes()
        if key in kept:
            problems.append(("duplicate annotation", f"{where} repeats line {kept[key]}"))
            continue
        if points.min() < 0 or points.max() > 1:
            over = max(-points.min(), points.max() - 1)
            problems.append(("outline over the edge", f"{where} leaves the image by {over:.2%}, cut there"))
        kept[key] = number
        masks.append(mask)
        corners[len(points)] += 1
    if rows and not kept:
        counts = ", ".join(f"{count} {kind}" for kind, count in Counter(kind for kind, _ in problems).items())
        first = problems[0][1]
        raise UnusableError("no usable annotation", f"none of {len(rows)} can be used: {counts}; {first}")
    return Raw(
        Masks.concatenate(masks) if masks else Masks.empty(height, width),
        tuple(code for code, _ in kept),
        tuple(hashlib.sha256(f"{code}".encode() + runs).hexdigest()[:12] for code, runs in kept),
        facts=corners,
        problems=tuple(problems),
    )


def _outline(row: Sequence[str], codes: Sequence[int], where: str) -> tuple[int, NDArray[np.float64]]:
    """The class and the ``(K, 2)`` corners of one line, shares of width and height.

    Raises:
        UnusableError: it is a box, or no outline on the image.
    """
    try:
        values = [float(text) for text in row]
    except ValueError:
        raise UnusableError("malformed label", f"{where}: not all numbers: {' '.join(row)!r:.60}") from None
    label, numbers = values[0], values[1:]
    if not all(map(math.isfinite, values)):
        raise UnusableError("malformed label", f"{where}: not all numbers are finite")
    if len(numbers) in BOX_NUMBERS:
        raise UnusableError("box without a mask", f"{where} is a box ({len(row)} numbers), not an outline")
    if len(numbers) < 6 or len(numbers) % 2:
        raise UnusableError("malformed label", f"{where}: {len(numbers)} coordinates, not x y of at least 3 corners")
    if label != int(label) or not 0 <= label < len(codes):
        raise UnusableError("unknown class", f"{where}: class {row[0]}, the names are of 0 to {len(codes) - 1}")
    points = np.array(numbers).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    box = np.concatenate(((low + high) / 2, high - low))
    if box.min() < -TOLERANCE or box.max() > 1 + TOLERANCE:
        hint = "; these are pixels, not shares of width and height" if high.max() > 2 else ""
        detail = f"{where}: coordinates from {points.min():.4g} to {points.max():.4g}{hint}"
        raise UnusableError("outline outside the image", detail)
    return codes[int(label)], points
