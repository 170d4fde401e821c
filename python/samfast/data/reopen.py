"""A data set opened again as it was: from what it says of itself in a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samfast.data.dataset import Dataset, load_dataset
from samfast.data.folds import make_folds
from samfast.errors import DataError

_TOLD = ("classes", "merge", "limit", "target", "group", "seed", "max_bad", "strict")


def open_again(root: str | Path, options: Mapping[str, Any]) -> Dataset:
    """The data set at ``root``, with sets drawn as they were.

    Args:
        root: the folder.
        options: :attr:`~samfast.data.Dataset.options` of what was opened, or some of them.

    Raises:
        DataError: it is gone, cannot be opened again, or was grouped by a function.
    """
    if str(options.get("group")).startswith("function "):
        raise DataError(
            f"the run's data was grouped by a {options['group']}, which a run does not keep",
            where=root,
            fix="open it with load_dataset(..., group=...) and pass it as data=",
        )
    dataset = load_dataset(root, **{name: options[name] for name in _TOLD if name in options})
    if "split" in options:
        dataset = dataset.split(**options["split"])
    if fold := options.get("fold"):
        dataset = make_folds(dataset, fold["count"], seed=fold["seed"])[fold["number"]]
    return dataset
