"""Format 1 of the embedding cache: the folder's names, and ``cache.json``. ``docs/cache-format.md`` describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from samfast.errors import CacheError, CorruptCacheError, StaleCacheError
from samfast.frames import PreprocessSpec

FORMAT = "samfast-cache"
VERSION = 1
SUFFIX = ".samcache"

CACHE_JSON = "cache.json"
DECODER = "decoder.safetensors"
DATASETS = "datasets"
JOBS = "jobs"
VIEWS = "views"
SET_ASIDE = "set-aside"
SHARD_SUFFIX = ".safetensors"
SUSPECT_SUFFIX = ".suspect"

Storage = Literal["float16", "float32"]
"""Dtypes on disk that features of floats are converted to."""

DTYPES = ("float16", "float32", "bool", "uint8", "int8", "int16", "int32", "int64")
"""Dtypes on disk. Features of whole numbers are kept as they are computed."""

Features = dict[str, NDArray[Any]]
"""Name to ``(n, ...)`` array: one row an image and view."""


@dataclass(frozen=True)
class Manifest:
    """What every row of a cache has in common: the content of ``cache.json``.

    Attributes:
        model: the architecture's name.
        parts: what the fingerprint is made of.
        features: name to the shape of one row, in name order.
        storage: name to the dtype of a feature on disk.
        decode: how image files became pixels when the cache was made, as
            :meth:`~samfast.data.images.DecodeSpec.to_dict` says it.
        decoder: hex SHA-256 of the prompt encoder and mask decoder that came with the encoder.
    """

    model: str
    parts: Mapping[str, Any]
    features: Mapping[str, tuple[int, ...]]
    storage: Mapping[str, str]
    decode: Mapping[str, Any]
    decoder: str

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the parts: equal for two encoders that turn every image into the same embedding."""
        return hashlib.sha256(canonical_json(self.parts)).hexdigest()

    @property
    def spec(self) -> PreprocessSpec:
        """The model's preprocessing and geometry."""
        return PreprocessSpec.from_dict(self.parts["preprocess"])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's features."""
        return sum(int(np.prod(shape)) * np.dtype(self.storage[name]).itemsize for name, shape in self.features.items())

    def to_json(self) -> bytes:
        """The content of ``cache.json``."""
        return readable_json(
            {
                "format": FORMAT,
                "version": VERSION,
                "model": self.model,
                "fingerprint": self.fingerprint,
                "parts": dict(self.parts),
                "features": {name: list(shape) for name, shape in sorted(self.features.items())},
                "storage": dict(sorted(self.storage.items())),
                "decode": dict(self.decode),
                "decoder": self.decoder,
            }
        )

    def require_equal(self, asked: Manifest, *, where: Path) -> None:
        """Check that rows made as ``asked`` fit into the cache at ``where``, which holds rows made as ``self``.

        Raises:
            StaleCacheError: they do not; lists every field that differs.
        """
        mine, theirs = (dict(_flat(json.loads(manifest.to_json()))) for manifest in (self, asked))
        differences = [
            f"{field}: {_short(mine.get(field))} in the cache, {_short(theirs.get(field))} asked for"
            for field in sorted({*mine, *theirs} - {"fingerprint"})
            # Every row's key holds how its image is decoded: decoded otherwise, it is encoded anew beside the old one.
            if mine.get(field) != theirs.get(field) and not field.startswith("decode.")
        ]
        if differences:
            raise StaleCacheError(
                "this cache was made by another model or in another way:\n    " + "\n    ".join(differences),
                where=where,
                fix="give another out=, or remove the folder if its embeddings are no longer of use",
            )


def read_manifest(folder: Path) -> Manifest:
    """Read ``cache.json``.

    Raises:
        CacheError: the folder is not a cache, or one of a format this version does not know.
        CorruptCacheError: ``cache.json`` is damaged.
    """
    path = folder / CACHE_JSON
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise CacheError(f'no embedding cache: "format" is not "{FORMAT}"', where=path)
        if content["version"] != VERSION:
            raise CacheError(
                f"an embedding cache of format {content['version']}; this version of samfast reads format {VERSION}",
                where=path,
                fix="use the version of samfast that made it, or encode again",
            )
        stored = content["storage"]  # one dtype for all features, where a model has one
        manifest = Manifest(
            model=content["model"],
            parts=content["parts"],
            features={name: tuple(shape) for name, shape in sorted(content["features"].items())},
            storage={name: stored if isinstance(stored, str) else stored[name] for name in sorted(content["features"])},
            decode=content["decode"],
            decoder=content["decoder"],
        )
        intact = manifest.fingerprint == content["fingerprint"] and set(manifest.storage.values()) <= set(DTYPES)
        assert_geometry = manifest.spec
    except FileNotFoundError:
        raise CacheError(
            "no embedding cache here" if folder.is_dir() else "no such folder",
            where=path,
            fix="make one with `samfast cache DATA`",
        ) from None
    except OSError as error:
        raise CacheError(
            f"the file system refuses: {error.strerror or error}",
            where=path,
            fix="check the path and its permissions",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCacheError(f"damaged: {error}", where=path, fix=_ENCODE_ANEW) from None
    if not intact or assert_geometry.size <= 0:
        raise CorruptCacheError("damaged: its fields do not match its fingerprint", where=path, fix=_ENCODE_ANEW)
    return manifest


_ENCODE_ANEW = "remove the folder and encode again"


def canonical_json(value: Any) -> bytes:
    """One spelling of a JSON value, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def readable_json(value: Any) -> bytes:
    """A JSON value for a file that people may read."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
