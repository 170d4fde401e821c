"""What the contenders are given: weights in the official format, masks as image files, embeddings as tensor files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from samfast.cache import EmbeddingCache
from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.models.architecture import get_architecture
from samfast.models.sam import empty_sam


def draw_checkpoint(model: str, path: Path) -> Path:
    """Write random weights for every parameter, the position tables included, as an official checkpoint file."""
    sam = empty_sam(get_architecture(model))
    generator = torch.Generator().manual_seed(0)
    for name, tensor in sam.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.copy_(noise * tensor[0].numel() ** -0.5)
        else:  # one-dimensional weights are the scales of norms
            tensor.copy_(0.1 * noise + float(name.endswith(".weight")))
    torch.save(sam.state_dict(), path)
    return path


def write_records(dataset: Dataset, samples: Sequence[Sample], folder: Path) -> Path:
    """Write a PNG an object, 0 and 255, and the list that scripts read: image, masks and embedding file of each sample.

    The embedding files are yet to be written, see :func:`write_embeddings`.
    """
    folder.mkdir(parents=True)
    records = []
    for number, sample in enumerate(samples):
        masks = []
        for index, mask in enumerate(dataset.target(sample).masks.numpy()):
            masks.append(str(folder / f"{number}-{index}.png"))
            Image.fromarray(mask.astype(np.uint8) * 255).save(masks[-1])
        embedding = str(folder / f"{number}.pt")
        records.append({"name": sample.name, "image": str(sample.path), "masks": masks, "embedding": embedding})
    listing = folder / "records.json"
    listing.write_text(json.dumps(records))
    return listing


def write_embeddings(cache: EmbeddingCache, samples: Sequence[Sample], listing: Path) -> None:
    """Write samfast's embeddings with ``torch.save``, one float32 file an image: all contenders train on the same."""
    files = {record["name"]: record["embedding"] for record in json.loads(listing.read_text())}
    for sample in samples:
        embedding = cache.read([sample], dtype=np.float32)["image_embeddings"]
        torch.save(torch.from_numpy(embedding), files[sample.name])
