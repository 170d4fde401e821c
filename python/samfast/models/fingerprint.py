"""What an embedding depends on, as data: two encoders with equal fingerprints make equal embeddings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from samfast import _rust
from samfast.models.sam import Sam

FEATURES = "image_embeddings"
"""The feature variant of SAM 1: the neck's output, and nothing else."""


def encoder_fingerprint_parts(sam: Sam, precision: str) -> dict[str, Any]:
    """Everything that ``sam.encode`` reads, JSON-ready, in parts that can be compared one by one.

    Args:
        sam: a model with its image encoder.
        precision: the compute precision of the encoding, such as ``"float32"``.

    Returns:
        ``weights`` (SHA-256 over every parameter and buffer), ``encoder`` (the shape that the weights do not tell),
        ``adapter``, ``features``, ``preprocess`` and ``precision``.

    Raises:
        ConfigError: the model is decoder-only.
    """
    shape = sam.architecture
    parts = {
        "weights": hash_tensors(sam.encoder_state()),
        "encoder": {
            "heads": shape.encoder_heads,
            "window": shape.encoder_window,
            "global_layers": shape.encoder_global_layers,
        },
        "adapter": sam.adapter,
        "features": FEATURES,
        "preprocess": asdict(sam.spec),
        "precision": precision,
    }
    plain: dict[str, Any] = json.loads(json.dumps(parts))  # as it reads after a way through a file
    return plain


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hex SHA-256 of ``parts``, whatever the order of their keys.

    >>> fingerprint({"a": 1, "b": [2.5]}) == fingerprint({"b": [2.5], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over the name, dtype, shape and bytes of each tensor, sorted by name, wherever they are stored."""

    def parts() -> Iterator[bytes | memoryview]:
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu().contiguous()
            header = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), tensor.nbytes]
            yield json.dumps(header).encode()
            yield tensor.reshape(-1).view(torch.uint8).numpy().data

    return _rust.sha256(parts())
