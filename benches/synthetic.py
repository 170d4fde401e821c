"""Embedding caches of noise, of any size: what it takes to measure reading without an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from samfast.cache import EmbeddingCache
from samfast.cache.atomic import write_new
from samfast.cache.format import CACHE_JSON, Manifest
from samfast.cache.shard import Row, write_shard
from samfast.models.architecture import get_architecture


def write_cache(
    folder: Path,
    names: Sequence[str],
    *,
    shape: tuple[int, ...] = (256, 64, 64),
    rows_per_shard: int = 128,
    keys: Sequence[str] | None = None,
) -> EmbeddingCache:
    """A cache of one float16 row an image.

    Args:
        folder: new.
        names: of the images.
        shape: of one row; that of SAM 1 by default, 2 MiB.
        rows_per_shard: 128 rows of 2 MiB are what the encoding job writes at once.
        keys: of the rows; hashes of the names by default.
    """
    spec = get_architecture("vit_b").spec
    manifest = Manifest(
        model="vit_b",
        parts={"preprocess": asdict(spec), "precision": "float32"},
        features={"image_embeddings": shape},
        storage={"image_embeddings": "float16"},
        decode={},
        decoder="",
    )
    folder.mkdir(parents=True)
    write_new(folder / CACHE_JSON, [manifest.to_json()])
    keys = keys or [hashlib.sha256(name.encode()).hexdigest() for name in names]
    rng, matrix = np.random.default_rng(0), np.eye(3)
    for number, start in enumerate(range(0, len(names), rows_per_shard)):
        part = range(start, min(start + rows_per_shard, len(names)))
        noise = rng.standard_normal((len(part), *shape), np.float32).astype(np.float16)
        rows = [
            Row(keys[i], names[i], (768, 1024), matrix, {"image_embeddings": values})
            for i, values in zip(part, noise, strict=True)
        ]
        write_shard(folder / f"{number:08}.safetensors", rows, manifest)
    return EmbeddingCache.open(folder)
