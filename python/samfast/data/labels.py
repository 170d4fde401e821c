"""Mask files: from the bytes of one to run lengths a grey value, and from the values of all files to what they mean.

What a value means cannot be told from one file: 255 is foreground in one data set and "ignore" in the next, and a file
in which only 255 occurs looks the same in both. So each file is read once into one mask a value, and the meaning is
decided when all have been read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from samfast.data.images import open_image
from samfast.data.readers.base import IGNORE, Coding, Raw, Reading
from samfast.errors import DataError
from samfast.masks import Masks

FOREGROUND = "foreground"
"""The class of data sets that have only one."""

HALF = -1
"""Code of the mask of all pixels of at least half the full scale: what an anti-aliased mask shows."""
SMOOTH = -2
"""Fact: the file holds more grey values than a class-index mask would; only :data:`HALF` is kept of it."""
SOLID = -3
"""Fact: pixels in the middle of a 3 x 3 square of intermediate values, which edges blurred by a resize hardly have."""

MAX_VALUES = 32
"""Values above 0 that a file may hold and still be read value by value."""
MAX_CLASS = 200
"""The highest value of consecutive class indices; ADE20K needs 150, blurred masks reach 254."""
IGNORE_VALUE = 255
MAX_AREAS = 16
"""Values above 0, not consecutive, that a data set may hold and still be one of classes."""
GREY_TOLERANCE = 3
"""Difference of R, G and B up to which an RGB mask is a grey one (JPEG rounds)."""
SOLID_FRACTION = 0.2
"""Of the intermediate pixels: above it they are areas of their own, below it they are edges."""
SPARSE_FRACTION = 0.05
"""Of the labelled area: below it scattered values under 255 are specks on a binary mask, not classes beside ignore."""


def read_labels(data: bytes, where: str | Path) -> NDArray[Any]:
    """Decode a mask file to ``(H, W)`` integers: grey values, or the indices of a coloured palette.

    Raises:
        DataError: the file cannot be decoded, or its colours are no grey values.
    """
    with open_image(data, where) as stored:
        image = _palette_to_grey(ImageOps.exif_transpose(stored))
        labels = np.asarray(image)
        if labels.ndim == 3:
            labels = _grey_of_colour(image, where)
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.rint(labels)).all() and labels.max() < 2**31):
            raise DataError("a float mask whose values are no whole numbers", where=where, fix="save class indices")
        labels = labels.astype(np.int32)
    if labels.min() < 0:
        raise DataError(f"a mask with negative values (down to {labels.min()})", where=where, fix="save class indices")
    return labels


def _palette_to_grey(image: Image.Image) -> Image.Image:
    """Grey palettes are read as their grey, because optimisers reorder them; coloured ones are class indices."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode != "P":
        return image
    palette = np.asarray(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)
    used = [index for index, count in enumerate(image.histogram()) if count and index < len(palette)]
    colours = palette[used]
    return image.convert("L") if used and (colours == colours[:, :1]).all() else image


def _grey_of_colour(image: Image.Image, where: str | Path) -> NDArray[np.uint8]:
    has_alpha = image.mode in ("LA", "RGBA")
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    grey = pixels[..., 0]
    channels = pixels[..., :3]
    if (channels.max(axis=-1) - channels.min(axis=-1)).max() > GREY_TOLERANCE:
        found = np.unique(pixels[..., :3].reshape(-1, 3)[:: max(1, grey.size // 100_000)], axis=0)
        shown = ", ".join(str(tuple(colour.tolist())) for colour in found[:4])
        raise DataError(
            f"a colour mask, whose colours say nothing about classes ({shown}{', ...' if len(found) > 4 else ''})",
            where=where,
            fix="save it in greys or with a palette: 0 for background, 1, 2, ... for the classes",
        )
    if has_alpha and grey.min() == grey.max() and pixels[..., 3].min() < pixels[..., 3].max():
        raise DataError(
            "a mask drawn in the alpha channel: its colour is the same everywhere",
            where=where,
            fix="save the alpha channel as a grey image",
        )
    return grey


def encode_labels(labels: NDArray[Any]) -> Raw:
    """Run lengths of an ``(H, W)`` label image, one mask a value above 0, and the facts :func:`meaning` needs.

    The facts are the area in pixels of each code, :data:`SMOOTH` and :data:`SOLID` where they apply.
    """
    values, areas = _histogram(labels)
    facts: dict[int, int] = {}
    masks, codes = [], []
    if len(values) <= MAX_VALUES:
        for value, area in zip(values, areas, strict=True):
            codes.append(value)
            masks.append(Masks.from_numpy(labels == value))
            facts[value] = area
    else:
        facts[SMOOTH] = len(values)
    if len(values) > 1:
        half = Masks.from_numpy(labels >= (128 if labels.dtype.itemsize == 1 else 32768))
        codes.append(HALF)
        masks.append(half)
        facts[HALF] = int(half.area()[0])
        if values[-1] > IGNORE_VALUE and SMOOTH in facts:
            raise DataError(
                f"{len(values)} different values up to {values[-1]}: an instance label map, not a class mask",
                fix="convert it to COCO JSON, or to class indices",
            )
        if SMOOTH not in facts:
            facts[SOLID] = _solid((labels > 0) & (labels < values[-1]))
    height, width = labels.shape
    return Raw(Masks.concatenate(masks) if masks else Masks.empty(height, width), tuple(codes), facts=facts)


def _histogram(labels: NDArray[Any]) -> tuple[list[int], list[int]]:
    """Values above 0 in rising order, and how many pixels have them."""
    if labels.dtype == np.uint8:
        counts = np.asarray(Image.fromarray(labels).histogram())
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(labels, return_counts=True)
    keep = values > 0
    return values[keep].tolist(), counts[keep].tolist()


def _solid(mask: NDArray[np.bool_]) -> int:
    rows = mask[:-2] & mask[1:-1] & mask[2:]
    return int(np.count_nonzero(rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]))


def meaning(files: Sequence[Mapping[int, int]]) -> Coding:
    """Decide what the grey values of a data set mean, from the facts of all its mask files.

    In this order: one value above 0 in all files (binary, whatever the value); ``1`` in some files and ``255`` in the
    others (binary, saved in two ways); small consecutive values, with 255 as ignore if it occurs beside them (class
    indices, whatever their areas, unless other greys in the data set make them specks); a few values that fill areas
    (one class a value); anything else is a binary mask blurred by a resize or by JPEG, cut at half the full scale.
    """
    clean = [facts for facts in files if SMOOTH not in facts]
    areas = Counter[int]()
    for facts in clean:
        areas.update({value: area for value, area in facts.items() if value > 0})
    values = sorted(areas)
    binary = _binary(values[-1] if values else 0)
    if len(values) <= 1 and len(clean) == len(files):
        return Coding((FOREGROUND,), binary, f"the masks hold {f'0 and {values[0]}' if values else 'nothing but 0'}")
    if values == [1, IGNORE_VALUE] and not any(1 in facts and IGNORE_VALUE in facts for facts in clean):
        return Coding((FOREGROUND,), binary, "some masks hold 0 and 1, others 0 and 255")
    indices = [value for value in values if value != IGNORE_VALUE]
    greys = len(clean) < len(files) or indices != list(range(1, len(indices) + 1))
    if _are_indices(indices) and not (greys and _are_specks(indices, areas)):
        ignored = ", 255 is ignored" if IGNORE_VALUE in values else ""
        names = tuple(str(value) for value in indices)
        return Coding(names, _classes(indices), f"the masks hold class indices up to {indices[-1]}{ignored}")
    intermediate = sum(area for facts in clean for value, area in facts.items() if 0 < value < values[-1])
    solid = sum(facts.get(SOLID, 0) for facts in clean)
    if 1 < len(values) <= MAX_AREAS and solid >= SOLID_FRACTION * intermediate:
        names = tuple(str(value) for value in values)
        return Coding(names, _classes(values), f"the masks hold areas of the values {', '.join(names)}")
    return Coding((FOREGROUND,), binary, "the masks are anti-aliased greys, cut at half")


def _are_indices(values: Sequence[int]) -> bool:
    """Small and, but for classes that happen not to occur, consecutive."""
    return bool(values) and values[-1] <= min(MAX_CLASS, 2 * len(values))


def _are_specks(values: Sequence[int], areas: Mapping[int, int]) -> bool:
    return IGNORE_VALUE in areas and sum(areas[value] for value in values) < SPARSE_FRACTION * sum(areas.values())


def _binary(usual: int) -> Callable[[Mapping[int, int]], Reading]:
    """One class: the only value of the file, or everything above half of a file of many."""

    def read(facts: Mapping[int, int]) -> Reading:
        values = [value for value in facts if value > 0]
        levels = facts.get(SMOOTH, len(values))
        if levels > 1:
            return Reading({HALF: 0}, ("anti-aliased mask", f"{levels} grey levels, cut at half"))
        if values and values[0] != usual:
            detail = f"foreground is {values[0]} here and {usual} elsewhere"
            return Reading({values[0]: 0}, ("other foreground value", detail))
        return Reading({value: 0 for value in values})

    return read


def _classes(values: Sequence[int]) -> Callable[[Mapping[int, int]], Reading]:
    """One class a value, in rising order; 255 is ignored unless it is one of them."""
    classes = {IGNORE_VALUE: IGNORE} | {value: index for index, value in enumerate(values)}

    def read(facts: Mapping[int, int]) -> Reading:
        if SMOOTH in facts:
            detail = f"{facts[SMOOTH]} grey levels in a data set of {len(values)} class values"
            return Reading({}, ("blurred class mask", detail), excluded=True)
        return Reading({value: classes[value] for value in facts if value > 0})

    return read
