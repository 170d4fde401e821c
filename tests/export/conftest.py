"""The shipped tiny model, and its graphs translated once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from samfast.cache import cache_embeddings
from samfast.data import load_dataset
from samfast.data.shapes import shape_scene
from samfast.export.translate import translate_decoder, translate_encoder
from samfast.models.checkpoints import load_model
from samfast.train import Run, train_decoder


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sam() -> Any:
    return load_model("tiny")


@pytest.fixture(scope="session")
def graph_folder(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``encoder.onnx`` and ``decoder.onnx`` of ``sam``, without metadata."""
    folder = tmp_path_factory.mktemp("graphs")
    translate_encoder(sam, folder)
    translate_decoder(sam, folder)
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny model, tuned for one epoch on boxes."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, split in enumerate(("train", "train", "val", "test")):
        image, labels = shape_scene(5, number, size=(96, 128))
        name = f"images/{number}.png"
        Image.fromarray(image).save(root / name)
        Image.fromarray((labels > 0).astype(np.uint8)).save(root / f"masks/{number}.png")
        splits[split].append(name)
    (root / "splits.json").write_text(json.dumps(splits))
    folder = tmp_path_factory.mktemp("runs")
    dataset = load_dataset(root, target="component")
    base = {"model": "tiny", "device": "cpu"}
    return train_decoder(
        dataset,
        **base,
        cache=cache_embeddings(dataset, **base, out=folder / "c.samcache"),
        regime="box",
        epochs=1,
        lr=1e-3,
        out=folder / "boxes",
    )
