"""From all that is annotated on an image to the target that was asked for: classes, merged classes, kind of object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samfast.data.readers.base import IGNORE, Raw, Reading
from samfast.data.types import Target, TargetKind
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks

Merge = Mapping[str, Sequence[str]] | Literal["all"] | bool | None
MERGED = "object"
"""The name of the class that ``merge="all"`` makes of all classes."""


@dataclass(frozen=True)
class ClassMap:
    """Which classes are kept, and under which name.

    Attributes:
        names: the classes of the data set as it is used.
        index: class index as read to class index as used; classes that are not named are background.
    """

    names: tuple[str, ...]
    index: Mapping[int, int]


def map_classes(names: Sequence[str], classes: Sequence[str] | str | None, merge: Merge) -> ClassMap:
    """Keep ``classes`` of ``names`` and merge some into one.

    Args:
        names: the classes as read.
        classes: those to keep, by their old or their merged name; None for all.
        merge: new name to old names; ``"all"`` or True for one class of everything kept.

    Raises:
        DataError: a class that the data does not have.
        ConfigError: a class merged into two.

    >>> map_classes(["car", "bus", "cat"], ["vehicle"], {"vehicle": ["car", "bus"]})
    ClassMap(names=('vehicle',), index={0: 0, 1: 0})
    """
    if merge not in (None, False, True, "all") and not isinstance(merge, Mapping):
        raise ConfigError(f"merge={merge!r} is neither 'all' nor new name -> old names", where="merge")
    renamed: dict[str, str] = {}
    for new, olds in merge.items() if isinstance(merge, Mapping) else ():
        for old in [olds] if isinstance(olds, str) else olds:
            _check_known(old, names, "merge")
            if renamed.setdefault(old, new) != new:
                raise ConfigError(f"{old!r} is merged into {renamed[old]!r} and {new!r}", where="merge")
    wanted = [classes] if isinstance(classes, str) else classes
    for name in wanted or ():
        _check_known(name, [*names, *renamed.values()], "classes")
    if wanted is not None and not wanted:
        raise ConfigError("classes=[] keeps nothing", where="classes", fix="leave it out to keep all classes")
    kept: dict[str, int] = {}
    index: dict[int, int] = {}
    for number, name in enumerate(names):
        new = renamed.get(name, name)
        if wanted is None or name in wanted or new in wanted:
            label = MERGED if merge in ("all", True) else new
            index[number] = kept.setdefault(label, len(kept))
    return ClassMap(tuple(kept), index)


def _check_known(name: str, names: Sequence[str], where: str) -> None:
    if name not in names:
        known = ", ".join(dict.fromkeys(names))
        raise DataError(f"no class {name!r} in this data set", where=where, fix=f"choose from: {known}")


def choose_kind(target: str, native: TargetKind) -> TargetKind:
    """The target kind for ``target="auto"`` or one asked for by name.

    Raises:
        ConfigError: an unknown kind, or instances of a data set that has none.
    """
    if target == "auto":
        return native
    if target not in get_args(TargetKind):
        kinds = ", ".join(("auto", *get_args(TargetKind)))
        raise ConfigError(f"target={target!r} is none of {kinds}", where="target")
    if target == "instance" and native != "instance":
        raise ConfigError(
            "target='instance', but class masks do not tell objects apart",
            where="target",
            fix="use target='component' for each connected piece, or 'class' for all of a class",
        )
    kind: TargetKind = target  # type: ignore[assignment]
    return kind


def build_target(raw: Raw, reading: Reading, class_map: ClassMap, kind: TargetKind) -> Target:
    """What is asked for on one image, sorted by annotation id.

    Pixels that are annotated as an object are known, even inside a crowd region: the ignored area leaves them out,
    so that no mask and no prompt drawn from one touches it.
    """
    objects: list[int] = []
    ignored: list[int] = []
    labels: list[int] = []
    crowd = raw.crowd or (False,) * len(raw.codes)
    for number, code in enumerate(raw.codes):
        meant = reading.classes.get(code)
        if meant == IGNORE:
            ignored.append(number)
        elif meant is not None and meant in class_map.index:
            if crowd[number]:
                ignored.append(number)
            else:
                objects.append(number)
                labels.append(class_map.index[meant])
    masks = raw.masks[np.array(objects, np.int64)]
    classes = np.array(labels, np.int64)
    ignore = raw.masks[np.array(ignored, np.int64)].union()
    if ignored and objects:
        ignore = ignore.subtract(masks.union())
    ids: Sequence[str]
    if kind == "instance":
        ids = [(raw.ids or ())[number] for number in objects]
    else:
        masks, classes, ids = _by_class(masks, classes, class_map.names, pieces=kind == "component")
    order = sorted(range(len(ids)), key=lambda number: _natural(ids[number]))
    rows = np.array(order, np.int64)
    return Target(masks[rows], classes[rows], tuple(ids[number] for number in order), ignore, kind)


def _by_class(
    masks: Masks, classes: NDArray[np.int64], names: Sequence[str], *, pieces: bool
) -> tuple[Masks, NDArray[np.int64], list[str]]:
    """One mask a class, or one a connected piece of it, named by its first pixel in column order."""
    found: list[Masks] = []
    labels: list[int] = []
    ids: list[str] = []
    for label in np.unique(classes).tolist():
        area = masks[np.flatnonzero(classes == label)].union()
        if not pieces:
            found.append(area)
            labels.append(label)
            ids.append(f"class:{names[label]}")
            continue
        parts, _ = area.components()
        first = parts.counts[parts.offsets[:-1]].astype(np.int64)
        found.append(parts)
        labels += [label] * len(parts)
        ids += [f"component:{names[label]}@{at // masks.height},{at % masks.height}" for at in first.tolist()]
    joined = Masks.concatenate(found) if found else Masks.empty(masks.height, masks.width)
    return joined, np.array(labels, np.int64), ids


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, before everything else."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)
