"""The embedding cache: every image through the frozen encoder once, kept on disk, read by image key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samfast.cache.reader import EmbeddingCache

if TYPE_CHECKING:
    from samfast.cache.job import cache_embeddings

__all__ = ["EmbeddingCache", "cache_embeddings"]


def __getattr__(name: str) -> Any:
    """Load the encoding job, and torch with it, when it is first asked for: reading needs neither."""
    if name != "cache_embeddings":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from samfast.cache.job import cache_embeddings

    return cache_embeddings
