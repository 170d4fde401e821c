"""A data set: what lies in a folder, read once, checked, split, and handed out image by image."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec

import numpy as np
from numpy.typing import NDArray

from samfast.data.images import DecodeSpec, decode_image
from samfast.data.parallel import parallel_map
from samfast.data.readers.base import Coding, Detection, Item, Listing, readers, subfolders
from samfast.data.scan import Scanned, check_share_of_bad, facts_of, scan
from samfast.data.selection import ClassMap, Merge, build_target, choose_kind, map_classes
from samfast.data.splits import (
    ACROSS_SETS,
    Group,
    across_sets,
    complete_given,
    fractions,
    hashed_order,
    make_groups,
    read_splits,
    split_groups,
)
from samfast.data.statistics import Statistics, measure
from samfast.data.store import Place, Store
from samfast.data.types import SPLITS, AnnotationState, Problem, Sample, Split, Target, TargetKind
from samfast.errors import ConfigError, DataError
from samfast.masks import Masks

P = ParamSpec("P")

LISTED = 20


@dataclass(frozen=True, eq=False)
class Dataset:
    """The usable images of a folder, their targets and their sets. Made by :func:`load_dataset`; safe in threads.

    Attributes:
        root: the folder.
        layout: what it was taken for.
        why: what was seen that made it so.
        classes: names of the classes in use.
        target_kind: what one mask of a target stands for.
        samples: the usable images, by name.
        problems: everything that is wrong, or was left out.
        split_origin: whether the data gave the sets.
        split_note: what to tell about them, such as ``"without test"``.
        decode: how the images become pixels.
        annotation_hash: hex SHA-256 of all targets: image keys, ids, class names, masks, ignored areas. Independent of
            order, of the sets and of where the folder lies.
        options: how the data was opened, JSON-ready.
    """

    root: Path
    layout: str
    why: str
    classes: tuple[str, ...]
    target_kind: TargetKind
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]
    split_origin: Literal["given", "automatic"]
    split_note: str
    decode: DecodeSpec
    annotation_hash: str
    options: Mapping[str, Any]
    _columns: Mapping[str, Mapping[str, str]] = field(repr=False)
    _store: Store = field(repr=False)
    _places: Mapping[str, Place] = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def of(self, split: Split, *, state: AnnotationState | None = None) -> tuple[Sample, ...]:
        """The samples of one set, by name; only those of an annotation state if one is given.

        Raises:
            ConfigError: there is no set of this name.
        """
        if split not in SPLITS:
            raise ConfigError(f"no set {split!r}", where="split", fix=f"use one of {', '.join(SPLITS)}")
        return tuple(one for one in self.samples if one.split == split and state in (None, one.state))

    def image(self, sample: Sample) -> NDArray[np.uint8]:
        """Decode ``(H, W, 3)`` uint8 RGB, original frame.

        Raises:
            DataError: the file has become unreadable.
        """
        return decode_image(sample.path, self.decode)

    def target(self, sample: Sample) -> Target:
        """What is annotated on an image, original frame; of an empty one, no masks.

        Raises:
            DataError: the image has no annotation, which is not the same as an empty one.
        """
        if sample.state == "missing":
            raise DataError(
                "no annotation, so no target", where=sample.name, fix="take samples whose state is not 'missing'"
            )
        if sample.name not in self._places:
            raise DataError(f"no sample {sample.name!r} in this data set", where=self.root)
        counts, offsets, classes, ignored = self._store.get(self._places[sample.name])
        return Target(
            Masks(*sample.size, counts, offsets),
            classes,
            sample.annotation_ids,
            Masks(*sample.size, ignored, np.array([0, len(ignored)], np.int64)),
            self.target_kind,
        )

    def split(
        self,
        *,
        train: float | None = None,
        val: float | None = None,
        test: float | None = None,
        group: Group | None = None,
        seed: int | None = None,
    ) -> Dataset:
        """The same data with new sets, whatever the data gave.

        Args:
            train: share of the images; by default what val and test leave.
            val: share; 0.15 by default.
            test: share; 0.15 by default.
            group: what must stay together, see :func:`load_dataset`; by default as the data was opened.
            seed: of the draw; by default as the data was opened.

        Raises:
            ConfigError: shares that do not add up, or a group column that is not there.
        """
        shares = fractions(train, val, test)
        names, groups = [one.name for one in self.samples], [one.group for one in self.samples]
        if group is not None:
            groups = make_groups(names, [one.key for one in self.samples], group, self._columns)
        seed = self.options["seed"] if seed is None else seed
        found = split_groups(groups, shares, seed, labelled=_labelled(self.samples, groups))
        samples = tuple(
            replace(one, group=name, split=found[name]) for one, name in zip(self.samples, groups, strict=True)
        )
        options = {**self.options, "seed": seed, "split": shares}
        if group is not None:
            options["group"] = _group_name(group)
        problems = tuple(problem for problem in self.problems if problem.kind != ACROSS_SETS)
        missing = ", ".join(f"without {name}" for name in SPLITS if name not in found.values())
        return replace(
            self, samples=samples, problems=problems, options=options, split_origin="automatic", split_note=missing
        )

    def statistics(self) -> Statistics:
        """Counts, sizes, foreground, pieces and objects: what people look at first."""
        return measure(self)


def _settled(load: Callable[P, Dataset]) -> Callable[P, Dataset]:
    """What is kept for each image, laid out anew when all else that was read is gone.

    Python gives memory back by the megabyte, and one object that stays keeps a whole one: where samples were made
    between what the scan needed, the room of all of that would stay taken.
    """

    @wraps(load)
    def settled(*args: P.args, **options: P.kwargs) -> Dataset:
        dataset = load(*args, **options)
        packed = pickle.dumps((dataset.samples, dataset._places), pickle.HIGHEST_PROTOCOL)
        dataset = replace(dataset, samples=(), _places={})
        samples, places = pickle.loads(packed)
        return replace(dataset, samples=samples, _places=places)

    return settled


@_settled
def load_dataset(
    root: str | Path,
    *,
    classes: Sequence[str] | str | None = None,
    merge: Merge = None,
    limit: int | None = None,
    target: TargetKind | Literal["auto"] = "auto",
    group: Group = "auto",
    seed: int = 0,
    max_bad: float = 0.05,
    strict: bool = False,
) -> Dataset:
    """Open a folder of annotated images, whatever its layout, and check every file in it.

    Args:
        root: the folder, or one that holds only this folder. A ``splits.json`` in either (``{"train": [file names],
            "val": ..., "test": ...}``) gives the sets.
        classes: names of the classes to keep, old or merged; None for all. An image with none of them is empty.
        merge: classes to put together: new name -> old names, or ``"all"`` (or True) for one class ``object``.
        limit: read only this many images: the first in hashed order of their names, from each given set its share.
        target: what one mask is: an annotated ``instance``, a connected ``component`` of a class, all of a ``class``;
            ``auto`` takes instances where the data has them and classes elsewhere.
        group: images that must not be torn apart by a split: ``auto`` keeps Roboflow's versions of one image together;
            else a column of ``metadata.csv`` or a function from an image's name to its group. Byte-identical images
            are always one group.
        seed: of automatic sets.
        max_bad: share of images that may be unusable (they are left out and listed) before that is an error; one of
            a ``limit`` may be in any case.
        strict: make any unusable image an error.

    Returns:
        the data set.

    Raises:
        DataError: no such folder, no layout recognised, an unknown class, or too many unusable images.
        ConfigError: an option that cannot work.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit} leaves nothing", where="limit")
    if not 0 <= max_bad <= 1:
        raise ConfigError(f"max_bad={max_bad} is no fraction between 0 and 1", where="max_bad")
    folder, detection = _detect(Path(root))
    listing = detection.listing()
    kind = choose_kind(target, listing.kind)
    items, problems, given = _given_sets(Path(root), folder, listing)
    if listing.classes:  # what can be known to be wrong is said before the files are read
        map_classes(listing.classes, classes, merge)
    if group != "auto":
        make_groups([item.name for item in items], [item.name for item in items], group, listing.columns)
    if limit is not None:
        items = _limit(items, given, limit)
    if not items:
        raise DataError("it has no images" if not listing.items else "all of its images are in no set", where=folder)
    decode, store = DecodeSpec(), Store()
    found, trouble = scan(items, decode, store)
    coding = listing.coding(facts_of(found))
    found, unreadable = _drop_misread(found, coding)
    trouble += unreadable
    allowed = 0 if strict else max(int(max_bad * len(items) + 1e-9), int(limit is not None and max_bad > 0))
    why = "strict=True allows none" if strict else f"max_bad={max_bad:g} allows {allowed}"
    check_share_of_bad(trouble, len(items), folder, allowed=allowed, why=why)
    class_map = map_classes(coding.classes, classes, merge)
    samples, places, annotation_hash = _targets(found, coding, class_map, kind, store, given)

    names = [one.name for one in samples]
    groups = make_groups(names, [one.key for one in samples], group, listing.columns)
    labelled = _labelled(samples, groups)
    if given:
        splits, note = complete_given(groups, [one.split for one in samples], seed, labelled=labelled)
        problems += across_sets(names, groups, splits)
    else:
        drawn = split_groups(groups, fractions(None, None, None), seed, labelled=labelled)
        splits = [drawn[name] for name in groups]
        note = ", ".join(f"without {name}" for name in SPLITS if name not in splits)
    return Dataset(
        root=folder,
        layout=detection.layout,
        why="; ".join(part for part in (detection.why, coding.why) if part),
        classes=class_map.names,
        target_kind=kind,
        samples=tuple(
            replace(one, split=split, group=name) for one, split, name in zip(samples, splits, groups, strict=True)
        ),
        problems=tuple(sorted((*problems, *trouble), key=lambda one: (not one.excluded, one.kind, one.name))),
        split_origin="given" if given else "automatic",
        split_note=note,
        decode=decode,
        annotation_hash=annotation_hash,
        options={
            "root": str(root),
            "layout": detection.layout,
            "classes": [classes] if isinstance(classes, str) else list(classes) if classes is not None else None,
            "merge": {new: list(olds) for new, olds in merge.items()} if isinstance(merge, Mapping) else merge,
            "limit": limit,
            "target": kind,
            "group": _group_name(group),
            "seed": seed,
            "max_bad": max_bad,
            "decode": decode.to_dict(),
        },
        _columns=listing.columns,
        _store=store,
        _places=places,
    )


def _detect(root: Path) -> tuple[Path, Detection]:
    """The format of a folder, or of the one folder in it (archives often unpack so)."""
    if not root.exists():
        raise DataError(f"no such folder: {root}", where=root, fix="check the path")
    if not root.is_dir():
        raise DataError(
            f"a file, not a folder: {root.name}", where=root, fix=f"give the folder of the data set: {root.parent}"
        )
    for folder in (root, *([*subfolders(root).values()] if len(subfolders(root)) == 1 else [])):
        for reader in readers():
            detection = reader.detect(folder)
            if detection is not None:
                return folder, detection
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if path.name[0] != ".")
    shown = ", ".join(entries[:LISTED]) + (f", ... ({len(entries)} in all)" if len(entries) > LISTED else "")
    looked = "\n".join(f"    {reader.name}: {reader.looks_for}" for reader in readers())
    what = "no layout recognised: this folder is empty" if not entries else f"no layout recognised in: {shown}"
    raise DataError(f"{what}\n  looked for:\n{looked}", where=root, fix="arrange the data in one of these ways")


def _given_sets(root: Path, folder: Path, listing: Listing) -> tuple[list[Item], list[Problem], bool]:
    """The images to read, in order of their names, those that are in no set left out; and whether there are sets."""
    problems = list(listing.problems)
    items = sorted(listing.items, key=lambda item: item.name)
    read = read_splits(folder, [item.name for item in items], root=root)
    if read is not None:
        sets, trouble = read
        problems += trouble
        items = [replace(item, split=sets[item.name]) for item in items if item.name in sets]
    return items, problems, any(item.split is not None for item in items)


def _limit(items: Sequence[Item], given: bool, limit: int) -> list[Item]:
    """The first ``limit`` images in hashed order; of given sets each its share, and at least one."""
    rank = {name: number for number, name in enumerate(hashed_order([item.name for item in items]))}
    pools: dict[Split | None, list[Item]] = {}
    for item in sorted(items, key=lambda item: rank[item.name]):
        pools.setdefault(item.split if given else None, []).append(item)
    shares = {split: max(1, limit * len(pool) // len(items)) for split, pool in pools.items()}
    largest = max(pools, key=lambda split: len(pools[split]), default=None)
    if pools:
        shares[largest] = max(1, limit - sum(share for split, share in shares.items() if split != largest))
    return sorted((item for split, pool in pools.items() for item in pool[: shares[split]]), key=lambda item: item.name)


def _drop_misread(found: Sequence[Scanned], coding: Coding) -> tuple[list[Scanned], list[Problem]]:
    kept, problems = [], []
    for one in found:
        reading = coding.read(one.raw.facts) if one.raw is not None else None
        if reading is not None and reading.problem is not None:
            problems.append(Problem(one.item.name, *reading.problem, reading.excluded))
        if reading is None or not reading.excluded:
            kept.append(one)
    return kept, problems


def _targets(
    found: Sequence[Scanned], coding: Coding, class_map: ClassMap, kind: TargetKind, store: Store, given: bool
) -> tuple[list[Sample], dict[str, Place], str]:
    """Samples without groups yet, where their targets lie, and the hash of all targets."""

    def build(one: Scanned) -> tuple[tuple[str, ...], Place, str] | None:
        if one.raw is None:
            return None
        target = build_target(one.load(store), coding.read(one.raw.facts), class_map, kind)
        place = store.put(target.masks.counts, target.masks.offsets, target.classes, target.ignore.counts)
        return target.ids, place, _digest(one.key, target, class_map.names)

    samples, places, digests = [], {}, []
    alike: dict[Any, Any] = {}  # ids and sizes are often the same for many images
    for one, built in zip(found, parallel_map(build, found, "Sorting the annotations"), strict=True):
        state: AnnotationState = "missing"
        ids: tuple[str, ...] = ()
        if built is not None:
            ids, places[one.item.name], digest = built
            state = "labelled" if ids else "empty"
            ids = alike.setdefault(ids, ids)
            digests.append(digest)
        split = one.item.split if given and one.item.split is not None else "train"
        size = alike.setdefault(one.header.size, one.header.size)
        samples.append(Sample(one.item.name, str(one.item.path), one.key, size, split, "", state, ids))
    return samples, places, hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _labelled(samples: Sequence[Sample], groups: Sequence[str]) -> set[str]:
    """The groups with a labelled image."""
    return {group for one, group in zip(samples, groups, strict=True) if one.state == "labelled"}


def _digest(key: str, target: Target, names: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{key} {target.kind}".encode())
    for number, (name, label) in enumerate(zip(target.ids, target.classes.tolist(), strict=True)):
        digest.update(repr((name, names[label])).encode())
        digest.update(target.masks[number].tobytes())
    digest.update(b"ignore")
    digest.update(target.ignore.tobytes())
    return digest.hexdigest()


def _group_name(group: Group) -> str:
    return group if isinstance(group, str) else f"function {getattr(group, '__qualname__', repr(group))}"
