"""Folds: what is not test, dealt out so that every image is validated on once, and groups stay together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from samfast.data.dataset import Dataset
from samfast.data.splits import hashed_order
from samfast.errors import ConfigError, DataError


def make_folds(dataset: Dataset, count: int, *, seed: int = 0) -> tuple[Dataset, ...]:
    """The data set ``count`` times, each time another part of its train and val sets as val, and the rest as train.

    Groups are dealt out whole, the largest first, each to the fold with the fewest images so far, those with annotated
    objects before the others; the hash of (seed, group) decides among equals. The test set stays as it is.

    Args:
        dataset: with its sets.
        count: of folds, 2 or more.
        seed: of the draw.

    Raises:
        ConfigError: fewer than two folds.
        DataError: fewer groups with annotated objects than folds.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise ConfigError(f"folds={count!r} is not allowed", where="folds", fix="a whole number, 2 or more")
    pool = [sample for sample in dataset.samples if sample.split != "test"]
    sizes = Counter(sample.group for sample in pool)
    labelled = {sample.group for sample in pool if sample.state == "labelled"}
    if len(labelled) < count:
        raise DataError(
            f"{len(labelled)} groups of images with objects cannot make {count} folds",
            where=dataset.root,
            fix="fewer folds",
        )
    rank = {name: number for number, name in enumerate(hashed_order([f"{seed} {group}" for group in sizes]))}
    loads = [0] * count
    fold_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda each: (each not in labelled, -sizes[each], rank[f"{seed} {each}"])):
        fold_of[group] = loads.index(min(loads))
        loads[fold_of[group]] += sizes[group]
    return tuple(
        replace(
            dataset,
            samples=tuple(
                sample
                if sample.split == "test"
                else replace(sample, split="val" if fold_of[sample.group] == number else "train")
                for sample in dataset.samples
            ),
            split_origin="automatic",
            split_note=f"fold {number + 1} of {count}",
            options={**dataset.options, "fold": {"count": count, "number": number, "seed": seed}},
        )
        for number in range(count)
    )
