"""``run.json``: what a training run says of itself."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import samfast
from samfast.data import Dataset
from samfast.data.types import SPLITS
from samfast.models.architecture import get_architecture
from samfast.models.sam import Sam
from samfast.train.config import TrainConfig
from samfast.train.prompt_free import run_contract
from samfast.train.regimes import get_regime
from samfast.train.run import FORMAT, VERSION
from samfast.train.views import EpochViews


def run_record(
    config: TrainConfig,
    dataset: Dataset,
    views: EpochViews,
    sam: Sam,
    checkpoint: str | Path | None,
    *,
    precision: str,
    device: torch.device,
) -> dict[str, Any]:
    """Everything a run says of itself but for its state, JSON-ready.

    Args:
        config: the settings.
        dataset: that it trains on.
        views: that it trains on, and the cache that holds them.
        sam: the decoder-only model, before training.
        checkpoint: of the base model; None if it shipped with the package.
        precision: of the training step.
        device: of the training step.
    """
    cache, regime = views.cache, get_regime(config.regime)
    with torch.device("meta"):
        encoder = Sam(get_architecture(config.model)).image_encoder
    assert encoder is not None
    trainable = sum(p.numel() for name in config.trainable for p in sam.get_submodule(name).parameters())
    total = sum(p.numel() for p in [*sam.parameters(), *encoder.parameters()])
    return dict(
        format=FORMAT,
        version=VERSION,
        model=config.model,
        architecture=asdict(sam.architecture),
        preprocess=sam.spec.to_dict(),
        regime=config.regime,
        contract=run_contract(config, dataset).to_dict(),
        prompts=None if regime.given is None else regime.given.sha256,
        config=config.to_dict(),
        precision=precision,
        device=str(device),
        encoder={
            "fingerprint": cache.fingerprint,
            "parts": dict(cache.parts),
            "decoder": cache.manifest.decoder,
            "checkpoint": None if checkpoint is None else str(Path(checkpoint).expanduser().resolve()),
        },
        cache=str(cache.path.resolve()),
        views={"count": views.count, "recipe": views.recipe if views.count > 1 else None},
        dataset={
            "root": str(dataset.root.resolve()),
            "opened": str(Path(dataset.options["root"]).resolve()),
            "options": dict(dataset.options),
            "annotation_hash": dataset.annotation_hash,
            "classes": list(dataset.classes),
            "target_kind": dataset.target_kind,
            "split_origin": dataset.split_origin,
            "splits": {split: [sample.name for sample in dataset.of(split)] for split in SPLITS},
        },
        parameters={"trainable": trainable, "total": total},
        versions={
            "samfast": samfast.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    )
