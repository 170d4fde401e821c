"""Training without prompts: what is taken from the data set as it is, and what the run promises to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.inference.classes import class_masks
from samfast.inference.contract import OutputContract
from samfast.models.classes import with_classes
from samfast.models.sam import Sam
from samfast.progress import say, track
from samfast.train.config import TrainConfig
from samfast.train.regimes import get_regime

OVERLAP_TOLD = 0.01
"""Share of the labelled pixels that are of several classes from which a run of one class a pixel says so."""


def run_contract(config: TrainConfig, dataset: Dataset) -> OutputContract:
    """Which mask tokens a run teaches, and of which class each is where there are no prompts."""
    regime = get_regime(config.regime)
    if not regime.is_prompt_free:
        return regime.contract
    return replace(regime.contract, classes=dataset.classes, multilabel=config.multilabel)


def with_tokens(sam: Sam, contract: OutputContract) -> Sam:
    """The model whose decoder has the tokens that a contract speaks of: ``sam``, or one with a token for each class."""
    return with_classes(sam, len(contract.classes)) if contract.classes else sam


def tell_overlap(contract: OutputContract, dataset: Dataset, samples: Sequence[Sample]) -> None:
    """Say so if classes overlap that are to be told apart."""
    if len(contract.classes) < 2 or contract.multilabel:
        return
    whole = covered = 0
    for sample in track(samples, "reading labels"):
        target = dataset.target(sample)
        whole += int(class_masks(target, np.unique(target.classes)).area().sum()) if len(target.masks) else 0
        covered += int(target.masks.union().area()[0])
    if covered and (whole - covered) / covered >= OVERLAP_TOLD:
        say(
            f"{100 * (whole - covered) / covered:.0f} % of the labelled pixels are of several classes, and the run"
            " teaches one class a pixel; multilabel=True teaches each class by itself"
        )
