"""Prompts as people write them: CSV and JSON files, lists of boxes and points; checked against their images."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samfast.errors import ConfigError
from samfast.prompts import NEGATIVE, PADDING, POSITIVE, Prompts

POINT_COLUMNS = ("x", "y")
BOX_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
KNOWN_COLUMNS = ("image", "object", "label", *POINT_COLUMNS, *BOX_COLUMNS)
KNOWN_FIELDS = ("box", "point", "points", "label", "labels")

FILE_HELP = (
    "a CSV with the column image and either x, y (and label: 1 foreground, 0 background) or xmin, ymin, xmax, ymax"
    " (rows that share a value in the column object are one prompt), or a JSON object of image names to lists of"
    ' {"box": [xmin, ymin, xmax, ymax]} or {"points": [[x, y]], "labels": [1]}'
)


@dataclass(frozen=True)
class Prompt:
    """What is asked about one object, original frame, pixel indices.

    Attributes:
        points: (x, y, label) of each point; label 1 foreground, 0 background.
        box: [xmin, ymin, xmax, ymax], inclusive.
        where: the file and line, or the argument, it was read from.
    """

    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    where: str = ""


def from_lists(box: Any = None, point: Any = None) -> list[Prompt]:
    """One prompt for each box and one for each point.

    >>> len(from_lists(box=[1, 2, 3, 4], point=[[5, 6], [7, 8]]))
    3

    Args:
        box: [xmin, ymin, xmax, ymax], or several.
        point: [x, y], or several; foreground.

    Raises:
        ConfigError: not numbers, or not that many.
    """
    boxes = [_box(values, "box") for values in _nested(box, "box")]
    points = [_point(values, POSITIVE, "point") for values in _nested(point, "point")]
    return [Prompt(box=each, where="box") for each in boxes] + [Prompt((each,), where="point") for each in points]


def read_prompt_file(path: str | Path) -> dict[str, list[Prompt]]:
    """The prompts of a CSV or JSON file by image name.

    Raises:
        ConfigError: it is missing, of another format, or has a bad value; names file and line.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"the prompts cannot be read: {reason}", where=path, fix=f"pass {FILE_HELP}") from None
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"this is no JSON: {error}", where=path, fix=f"pass {FILE_HELP}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"this JSON holds a {type(content).__name__}", where=path, fix=f"pass {FILE_HELP}")
        return from_mapping(content, where=str(path))
    return _read_csv(path, text)


def from_mapping(content: Mapping[str, Any], *, where: str = "prompts") -> dict[str, list[Prompt]]:
    """The prompts of a mapping: image name to a prompt or a list of them.

    A prompt is ``{"box": [...]}``, ``{"point": [x, y]}``, ``{"points": [[x, y], ...], "labels": [1, 0, ...]}``, a box
    and points together, or a bare list: four numbers are a box, two a point.

    Raises:
        ConfigError: anything else.
    """
    found: dict[str, list[Prompt]] = {}
    for name, entries in content.items():
        place = f"{where}, image {name!r}"
        single = isinstance(entries, Mapping) or _is_numbers(entries)
        if not single and (isinstance(entries, str) or not isinstance(entries, Sequence)):
            raise ConfigError(f"{entries!r} is no prompt", where=place, fix=f"pass {FILE_HELP}")
        found[str(name)] = [_from_entry(entry, place) for entry in ([entries] if single else entries)]
    return found


def check_within(prompts: Sequence[Prompt], size: tuple[int, int], image: str) -> list[Prompt]:
    """The prompts, corners that lie on the far edge brought onto the last pixel.

    Other tools write boxes whose far corner is one past the last pixel; anything beyond that is an error.

    Args:
        prompts: original frame.
        size: (height, width) of the image.
        image: its name, for messages.

    Raises:
        ConfigError: a point or box that is not on the image, is not finite, or has its corners the wrong way round.
    """
    height, width = size
    checked = []
    for prompt in prompts:
        for x, y, _ in prompt.points:
            if not (0 <= x < width and 0 <= y < height):
                _refuse(f"the point {_numbers([x, y])}", "is not on the image", prompt, size, image)
        box = prompt.box
        if box is not None:
            xmin, ymin, xmax, ymax = box
            if not np.isfinite(box).all():
                _refuse(f"the box {_numbers(box)}", "holds values that are not finite", prompt, size, image)
            if xmin > xmax or ymin > ymax:
                _refuse(f"the box {_numbers(box)}", "has its corners the wrong way round", prompt, size, image)
            if xmin < 0 or ymin < 0 or xmax > width or ymax > height or xmin > width - 1 or ymin > height - 1:
                _refuse(f"the box {_numbers(box)}", "is not on the image", prompt, size, image)
            box = (xmin, ymin, min(xmax, width - 1), min(ymax, height - 1))
        checked.append(Prompt(prompt.points, box, prompt.where))
    return checked


def to_prompts(prompts: Sequence[Prompt]) -> Prompts:
    """Prompts on image 0, in their order; those with fewer points are padded."""
    longest = max((len(prompt.points) for prompt in prompts), default=0)
    points = np.zeros((len(prompts), longest, 2), np.float32)
    labels = np.full((len(prompts), longest), PADDING, np.int64)
    boxes = np.full((len(prompts), 4), np.nan, np.float32)
    for index, prompt in enumerate(prompts):
        for place, (x, y, label) in enumerate(prompt.points):
            points[index, place] = x, y
            labels[index, place] = label
        if prompt.box is not None:
            boxes[index] = prompt.box
    return Prompts(np.zeros(len(prompts), np.int64), points, labels, boxes)


def _read_csv(path: Path, text: str) -> dict[str, list[Prompt]]:
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    columns = [(name or "").strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    unknown = [name for name in columns if name not in KNOWN_COLUMNS]
    has_point, has_box = (all(name in columns for name in names) for names in (POINT_COLUMNS, BOX_COLUMNS))
    if "image" not in columns or not (has_point or has_box) or unknown:
        what = (
            f"the column {unknown[0]!r} is not known" if unknown else f"the columns are {', '.join(columns) or 'none'}"
        )
        raise ConfigError(what, where=path, fix=f"pass {FILE_HELP}")
    found: dict[str, dict[str, Prompt]] = {}
    for row in reader:
        place = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise ConfigError("the line has more or fewer values than there are columns", where=place)
        image = row["image"].strip()
        if not image:
            raise ConfigError("the line names no image", where=place)
        prompts = found.setdefault(image, {})
        read = _from_row(row, place, has_point=has_point, has_box=has_box)
        shared = row.get("object", "").strip()
        key = f"object {shared}" if shared else place
        prompts[key] = _joined(prompts[key], read, place) if key in prompts else read
    return {image: list(prompts.values()) for image, prompts in found.items()}


def _from_row(row: Mapping[str, str], place: str, *, has_point: bool, has_box: bool) -> Prompt:
    point = [row[name] for name in POINT_COLUMNS] if has_point else []
    box = [row[name] for name in BOX_COLUMNS] if has_box else []
    has_point, has_box = (any(value.strip() for value in values) for values in (point, box))
    if not (has_point or has_box):
        raise ConfigError("the line holds neither a point nor a box", where=place)
    label = row.get("label", "").strip() or str(POSITIVE)
    points = (_point(point, label, place),) if has_point else ()
    return Prompt(points, _box(box, place) if has_box else None, place)


def _joined(first: Prompt, second: Prompt, place: str) -> Prompt:
    if first.box is not None and second.box is not None and first.box != second.box:
        raise ConfigError("an object has two boxes", where=place, fix="give each box an object of its own")
    return Prompt(first.points + second.points, second.box if first.box is None else first.box, first.where)


def _from_entry(entry: Any, place: str) -> Prompt:
    if _is_numbers(entry):
        if len(entry) == len(BOX_COLUMNS):
            return Prompt(box=_box(entry, place), where=place)
        return Prompt((_point(entry, POSITIVE, place),), where=place)
    if not isinstance(entry, Mapping) or not entry or set(entry) - set(KNOWN_FIELDS):
        raise ConfigError(f"{entry!r} is no prompt", where=place, fix=f"pass {FILE_HELP}")
    points = entry.get("points", [entry["point"]] if "point" in entry else [])
    labels = entry.get("labels", [entry.get("label", POSITIVE)] * len(points))
    if len(labels) != len(points):
        raise ConfigError(f"{len(points)} points have {len(labels)} labels", where=place)
    box = _box(entry["box"], place) if entry.get("box") is not None else None
    if not len(points) and box is None:
        raise ConfigError(f"{entry!r} holds neither a point nor a box", where=place)
    return Prompt(tuple(_point(xy, label, place) for xy, label in zip(points, labels, strict=True)), box, place)


def _nested(values: Any, where: str) -> list[Any]:
    """One row of numbers or several, as a list of rows."""
    if values is None:
        return []
    rows = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [rows] if rows and not isinstance(rows[0], Sequence | np.ndarray) else rows


def _is_numbers(values: Any) -> bool:
    return isinstance(values, Sequence) and bool(values) and all(isinstance(value, int | float) for value in values)


def _box(values: Any, where: str) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = _floats(values, len(BOX_COLUMNS), "a box [xmin, ymin, xmax, ymax]", where)
    return xmin, ymin, xmax, ymax


def _point(values: Any, label: Any, where: str) -> tuple[float, float, int]:
    x, y = _floats(values, len(POINT_COLUMNS), "a point [x, y]", where)
    if str(label) not in (str(POSITIVE), str(NEGATIVE)):
        raise ConfigError(f"a label of {label!r} is neither 1 (foreground) nor 0 (background)", where=where)
    return x, y, int(label)


def _floats(values: Any, length: int, what: str, where: str) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != length:
        raise ConfigError(f"{values!r} is not {what}", where=where)
    return numbers


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _refuse(what: str, why: str, prompt: Prompt, size: tuple[int, int], image: str) -> None:
    raise ConfigError(
        f"{what} {why}: {image} is {size[1]} wide and {size[0]} high",
        where=prompt.where,
        fix="coordinates are pixel indices of the original image, x to the right, y down: [xmin, ymin, xmax, ymax]",
    )
