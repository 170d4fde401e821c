"""A small data set on disk, its embedding cache, and the pieces of a training step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samfast.cache import EmbeddingCache, cache_embeddings
from samfast.data import Dataset, load_dataset
from samfast.data.shapes import shape_scene
from samfast.models.checkpoints import load_model
from samfast.models.sam import Sam

SIZES = [(96, 128), (128, 96), (112, 112), (90, 131)]
SPLITS = {"train": range(6), "val": range(6, 8), "test": range(8, 9)}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Equal bits need an equal order of additions."""
    torch.set_num_threads(1)


def write_scenes(root: Path, *, ignore_border: int = 0, sets: Mapping[str, range] = SPLITS) -> Path:
    """Images with binary masks, in given sets; ``ignore_border`` columns at the left of each mask are 255."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    splits: dict[str, list[str]] = {}
    for split, numbers in sets.items():
        splits[split] = [f"images/{number:02}.png" for number in numbers]
        for number in numbers:
            image, labels = shape_scene(5, number, size=SIZES[number % len(SIZES)])
            mask = (labels > 0).astype(np.uint8)
            mask[:, :ignore_border] = 255
            Image.fromarray(image).save(root / "images" / f"{number:02}.png")
            Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
    (root / "splits.json").write_text(json.dumps(splits))
    return root


@pytest.fixture(scope="session")
def sam() -> Sam:
    """The trained ``tiny``."""
    return load_model("tiny")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="session")
def many_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a val set that a tuned decoder can be told from another on."""
    return write_scenes(tmp_path_factory.mktemp("data") / "many", sets={"train": range(6), "val": range(6, 36)})


@pytest.fixture(scope="session")
def dataset(scenes: Path) -> Dataset:
    """Several objects an image: the connected pieces of each mask."""
    return load_dataset(scenes, target="component")


@pytest.fixture(scope="session")
def make_cache(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, sam: Sam) -> Callable[..., EmbeddingCache]:
    folder = tmp_path_factory.mktemp("caches")

    def make(storage: str) -> EmbeddingCache:
        return cache_embeddings(dataset, model=sam, out=folder / f"{storage}.samcache", storage=storage, device="cpu")

    return make


@pytest.fixture(scope="session")
def cache(make_cache: Callable[..., EmbeddingCache]) -> EmbeddingCache:
    return make_cache("float32")
