"""A model small enough to encode in a millisecond, images to encode, and a count of what was encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from samfast.cache import job
from samfast.cache.writer import ShardWriter
from samfast.models.architecture import ARCHITECTURES, Architecture

SMALL = Architecture("small", 64, 8, 32, 2, 2, (1,), 4, 32, 64, iou_head_dim=32)


@pytest.fixture(autouse=True)
def _few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, draw_model: Callable) -> Any:
    """A model of another geometry than every shipped one: 64 pixels, an 8 x 8 grid, 4 KiB a row in float16."""
    monkeypatch.setitem(ARCHITECTURES, SMALL.name, SMALL)
    return draw_model(SMALL.name)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """``encoded.images`` counts the images that went through any encoder."""
    from samfast.models.sam import Sam

    count = SimpleNamespace(images=0)
    encode = Sam.encode

    def counting(self: Sam, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if images.device.type != "meta":
            count.images += len(images)
        return encode(self, images)

    monkeypatch.setattr(Sam, "encode", counting)
    return count


@pytest.fixture
def shards_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``shards_of(n)``: from now on jobs write shards of ``n`` rows of the small model."""

    def set_rows(rows: int) -> None:
        def small_shards(folder: Path, manifest: Any) -> ShardWriter:
            return ShardWriter(folder, manifest, shard_bytes=rows * manifest.row_bytes)

        monkeypatch.setattr(job, "ShardWriter", small_shards)

    return set_rows


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """``photos(count, name="photos", names=None)``: the root of a data set of noise, sizes varying."""

    def write(count: int = 6, name: str = "photos", names: list[str] | None = None) -> Path:
        root = tmp_path / name
        rng = np.random.default_rng(count)
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        for stem in names or [f"{index:03}" for index in range(count)]:
            height, width = rng.integers(30, 90, 2)
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            mask = np.zeros((height, width), np.uint8)
            mask[height // 4 : height // 2, width // 4 : width // 2] = 255
            Image.fromarray(image).save(root / "images" / f"{stem}.png")
            Image.fromarray(mask).save(root / "masks" / f"{stem}.png")
        return root

    return write


@pytest.fixture
def contents() -> Callable[[Any], dict[str, bytes]]:
    """``contents(cache)``: key to the bytes of its features."""

    def read(cache: Any) -> dict[str, bytes]:
        features = cache.read(cache.keys)["image_embeddings"]
        return {key: row.tobytes() for key, row in zip(cache.keys, features, strict=True)}

    return read
