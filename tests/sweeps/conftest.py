"""Twelve small images in six groups of two, and the embedding cache of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.data import Dataset, load_dataset
from samfast.data.shapes import shape_scene

SCENES = 6
TWINS = 2


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for scene in range(SCENES):
        for twin in range(TWINS):
            image, labels = shape_scene(5, scene * TWINS + twin, size=(96, 112))
            name = f"scene{scene}.rf.{twin}.png"
            Image.fromarray(image).save(root / "images" / name)
            Image.fromarray((labels > 0).astype(np.uint8)).save(root / "masks" / name)
    return root


@pytest.fixture(scope="session")
def dataset(scenes: Path) -> Dataset:
    return load_dataset(scenes, target="component")


@pytest.fixture(scope="session")
def cache(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingCache:
    return cache_embeddings(dataset, out=tmp_path_factory.mktemp("cache") / "c.samcache", device="cpu")
