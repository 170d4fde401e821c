"""Small data sets on disk, in the layouts people have."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


def noise(seed: int, height: int = 24, width: int = 36) -> Array:
    """A colour image that compresses to distinct bytes for each seed."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def blob(height: int = 24, width: int = 36, value: int = 255, at: tuple[int, int] = (5, 8)) -> Array:
    """A mask of one rectangle."""
    mask = np.zeros((height, width), np.uint8)
    mask[at[0] : at[0] + 9, at[1] : at[1] + 11] = value
    return mask


@pytest.fixture
def make_noise() -> Callable[..., Array]:
    return noise


@pytest.fixture
def make_blob() -> Callable[..., Array]:
    return blob


@pytest.fixture
def save() -> Callable[..., Path]:
    """Write an array (or bytes, or a Pillow image) to a path, making its folders."""

    def write(path: Path, content: Array | bytes | Image.Image, **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            image = content if isinstance(content, Image.Image) else Image.fromarray(content)
            image.save(path, **options)
        return path

    return write


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """The bytes of an image in a format."""

    def encode(image: Array | Image.Image, format: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def folders(tmp_path: Path, save: Callable[..., Path]) -> Callable[..., Path]:
    """Write ``images/`` and ``masks/`` from stem -> mask (None for an image without one)."""

    def write(
        masks: Mapping[str, Array | None],
        *,
        images: str = "images",
        labels: str = "masks",
        suffix: str = ".png",
        root: Path | None = None,
    ) -> Path:
        root = root or tmp_path / "data"
        for number, (stem, mask) in enumerate(masks.items()):
            height, width = (24, 36) if mask is None else mask.shape[:2]
            save(root / images / f"{stem}.png", noise(number + 100 * len(images), height, width))
            if mask is not None:
                save(root / labels / f"{stem}{suffix}", mask)
        return root

    return write


@pytest.fixture
def coco(tmp_path: Path, save: Callable[..., Path]) -> Callable[..., Path]:
    """Write images and one COCO JSON; annotations are dicts without what can be filled in."""

    def write(
        annotations: list[dict[str, Any]],
        *,
        count: int = 1,
        root: Path | None = None,
        json_path: str = "annotations.json",
        folder: str = "images",
        prefix: str = "",
        size: tuple[int, int] = (24, 36),
        categories: list[dict[str, Any]] | None = None,
        seed: int = 0,
        **extra: Any,
    ) -> Path:
        root = root or tmp_path / "coco"
        names = [f"{prefix}{number}.png" for number in range(count)]
        for number, name in enumerate(names):
            save(root / folder / name, noise(seed + number, *size))
        content = {
            "images": [
                {"id": number, "file_name": name, "height": size[0], "width": size[1]}
                for number, name in enumerate(names)
            ],
            "annotations": [
                {"id": number + 1, "image_id": 0, "category_id": 1, "iscrowd": 0, **annotation}
                for number, annotation in enumerate(annotations)
            ],
            "categories": categories or [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
            **extra,
        }
        (root / json_path).parent.mkdir(parents=True, exist_ok=True)
        (root / json_path).write_text(json.dumps(content))
        return root

    return write
