"""Embedding caches and training batches of noise, of any size: what it takes to measure without an encoder."""

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
from samfast.inference.tokens import NOT_A_POINT, Tokens
from samfast.models.architecture import get_architecture
from samfast.prompts import POSITIVE
from samfast.train.batches import Batch
from samfast.train.regimes import get_regime
from samfast.train.targets import target_spec


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


def draw_batch(model: str, images: int, prompts: int, *, regime: str = "point", loss_frame: str = "low-res") -> Batch:
    """A step's batch: a point on each of ``prompts`` discs of each image, all of which are 4:3."""
    row, rng = get_architecture(model), np.random.default_rng(0)
    spec, count = row.spec, images * prompts
    grid = target_spec(spec, loss_frame)
    cell_px = spec.size / grid.low_res
    centre = rng.uniform((0.2, 0.2), (0.8, 0.55), (count, 2)) * spec.size
    place = (np.arange(grid.low_res) + 0.5) * cell_px
    far_px = np.hypot(place - centre[:, 0, None, None], place[:, None] - centre[:, 1, None, None])
    coords = np.stack([centre, np.zeros_like(centre)], axis=1)
    keys = rng.integers(2**63, size=(count, get_regime(regime).corrections), dtype=np.uint64)
    return Batch(
        features={"image_embeddings": rng.standard_normal((images, row.prompt_dim, *[row.embedding] * 2), np.float32)},
        tokens=Tokens(
            image_index=np.repeat(np.arange(images), prompts),
            coords=coords.astype(np.float32),
            labels=np.tile(np.array([POSITIVE, NOT_A_POINT], np.int64), (count, 1)),
            mask=None,
            has_mask=np.zeros(count, np.float32),
        ),
        target=np.clip((0.15 * spec.size - far_px) / cell_px + 0.5, 0, 1).astype(np.float32),
        weight=np.stack([grid.frame(3 * spec.size // 4, spec.size).coverage()] * images),
        share=np.ones(count, np.float32),
        whole=count,
        is_one_point=np.ones(count, bool),
        click_keys=keys,
        adds_click=np.ones(keys.shape, bool),
    )
