"""The embedding cache: every image through the frozen encoder once, kept on disk, read by image key."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from samfast.cache.reader import EmbeddingCache

if TYPE_CHECKING:
    from samfast.cache.compact import merge, prune
    from samfast.cache.job import cache_embeddings

__all__ = ["EmbeddingCache", "cache_embeddings", "merge", "prune"]

_HOME = {"cache_embeddings": "job", "merge": "compact", "prune": "compact"}


def __getattr__(name: str) -> Any:
    """Load what writes, and torch with it, when it is first asked for: reading needs neither."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
