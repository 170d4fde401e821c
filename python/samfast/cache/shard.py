"""One shard: a safetensors file of rows, laid out so that its index is one read and each row another.

Order in the file: the header, the ``row.*`` tensors, ``header.crc32c``, then the features, which begin at a page
boundary. The header is padded with spaces to get there, as safetensors allows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samfast import _rust
from samfast.cache.atomic import write_new
from samfast.cache.format import DECODER, FORMAT, SHARD_SUFFIX, SUSPECT_SUFFIX, VERSION, Features, Manifest
from samfast.errors import CacheError, CorruptCacheError

PAGE_BYTES = 4096
PLAIN_VIEW = 0
HEADER_CRC = "header.crc32c"

_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
_DTYPES = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BOOL": "|b1",
    "U8": "|u1",
    "U32": "<u4",
    "I8": "|i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_INDEX = {
    "row.matrix": ("F64", (3, 3)),
    "row.path_offsets": ("I64", ()),
    "row.crc32c": ("U32", ()),
    "row.size": ("I32", (2,)),
    "row.view": ("I32", ()),
    "row.key": ("U8", (32,)),
    "row.path": ("U8", ()),
    HEADER_CRC: ("U32", ()),
}
"""Tensors of the index in file order, those of wider values first, so that each is aligned."""
PERMISSIONS_FIX = "check the path and its permissions"
UNREADABLE_FIX = "check the disk and its permissions, or remove the file: `samfast cache` encodes its images anew"
SET_ASIDE_FIX = "run `samfast cache` again: it sets the file aside and encodes its images anew"


@dataclass(frozen=True)
class Row:
    """One image, encoded.

    Attributes:
        key: hex row key.
        name: of the sample it was first met as.
        size: (height, width) of the view frame, which is the original frame for the plain view.
        matrix: ``(3, 3)`` float64, original to model frame.
        features: name to the array of one row, in its storage dtype.
        view: which view of the image this is.
    """

    key: str
    name: str
    size: tuple[int, int]
    matrix: NDArray[np.float64]
    features: Features
    view: int = PLAIN_VIEW


@dataclass(frozen=True)
class Shard:
    """The index of a shard: everything but its features.

    Attributes:
        path: the file.
        keys: ``(N, 32)`` uint8.
        crcs: ``(N,)`` uint32 CRC-32C of each row's features, in name order.
        sizes: ``(N, 2)`` int32 (height, width), view frame.
        views: ``(N,)`` int32.
        matrices: ``(N, 3, 3)`` float64, original to model frame.
        names: the sample each row was first met as.
        offsets: feature name to the position of its first row in the file, in bytes.
        header_crc: CRC-32C of the index.
        num_bytes: of the whole file.
    """

    path: Path
    keys: NDArray[np.uint8]
    crcs: NDArray[np.uint32]
    sizes: NDArray[np.int32]
    views: NDArray[np.int32]
    matrices: NDArray[np.float64]
    names: tuple[str, ...]
    offsets: Mapping[str, int]
    header_crc: int
    num_bytes: int

    def __len__(self) -> int:
        return len(self.crcs)


def list_shards(folder: Path) -> list[Path]:
    """The shard files in a cache's folder, sorted by name; none if there is no folder.

    Raises:
        CacheError: the folder cannot be listed.
    """
    try:
        names = os.listdir(folder)  # unlike glob, which finds nothing where it may not look
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(f"the folder cannot be listed: {error.strerror}", where=folder, fix=PERMISSIONS_FIX) from None
    return [folder / name for name in sorted(names) if name.endswith(SHARD_SUFFIX) and name != DECODER]


def mark_suspect(path: Path) -> None:
    """Leave a note beside a shard whose features are damaged: the next job sets it aside."""
    with suppress(OSError):  # a cache that is only read
        path.with_suffix(SUSPECT_SUFFIX).touch()


def file_order(manifest: Manifest) -> list[str]:
    """The features as they lie in a shard: those of wider values first, so that each is aligned, then by name."""
    return sorted(manifest.features, key=lambda name: (-np.dtype(manifest.storage[name]).itemsize, name))


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def row_crc(features: Features) -> int:
    """CRC-32C of one row: the bytes of all its features, in name order."""
    crc = 0
    for name in sorted(features):
        crc = _rust.crc32c(as_bytes(features[name]), crc)
    return crc


def write_shard(path: Path, rows: Sequence[Row], manifest: Manifest) -> int:
    """Write rows as a new shard; returns the CRC of its index.

    Raises:
        CacheError: the disk is full, or cannot be written.
    """
    names = [row.name.encode("utf-8", "surrogateescape") for row in rows]
    joined = b"".join(names)
    index: dict[str, NDArray[Any]] = {
        "row.matrix": np.stack([row.matrix for row in rows]),
        "row.path_offsets": np.cumsum([0, *map(len, names)]),
        "row.crc32c": np.array([row_crc(row.features) for row in rows]),
        "row.size": np.array([row.size for row in rows]),
        "row.view": np.array([row.view for row in rows]),
        "row.key": np.frombuffer(b"".join(bytes.fromhex(row.key) for row in rows), np.uint8).reshape(-1, 32),
        "row.path": np.frombuffer(joined + bytes(_path_padding(len(rows), len(joined))), np.uint8),
    }
    index = {name: np.ascontiguousarray(array, _DTYPES[_INDEX[name][0]]) for name, array in index.items()}
    header = _header(index, len(rows), manifest)
    crc = _rust.crc32c(header, 0)
    for array in index.values():
        crc = _rust.crc32c(as_bytes(array), crc)
    features = (as_bytes(row.features[name]) for name in file_order(manifest) for row in rows)
    write_new(path, (header, *map(as_bytes, index.values()), crc.to_bytes(4, "little"), *features))
    return crc


def read_shard(path: Path, manifest: Manifest) -> Shard:
    """Read and check the index of a shard; its features are not touched.

    Raises:
        CorruptCacheError: truncated, damaged, or not of this cache.
        CacheError: the file is gone, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            num_bytes = file.seek(0, 2)
            file.seek(0)
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= min(_MAX_HEADER_BYTES, num_bytes - 8):
                raise CorruptCacheError("no safetensors file, or one cut short", where=path, fix=SET_ASIDE_FIX)
            header = file.read(length)
            try:
                layout = json.loads(header)
                places = _check_layout(layout, manifest, length + 8, num_bytes)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorruptCacheError(
                    f"no whole shard of this cache: {error}", where=path, fix=SET_ASIDE_FIX
                ) from None
            index = file.read(places[HEADER_CRC] + 4 - length - 8)
    except OSError as error:
        raise CacheError(f"a shard cannot be read: {error.strerror}", where=path, fix=UNREADABLE_FIX) from None

    stored = int.from_bytes(index[-4:], "little")
    if _rust.crc32c(index[:-4], _rust.crc32c(prefix + header, 0)) != stored:
        raise CorruptCacheError("the shard's index is damaged: its CRC is wrong", where=path, fix=SET_ASIDE_FIX)

    def tensor(name: str) -> NDArray[Any]:
        shape = layout[name]["shape"]
        at = places[name] - length - 8
        return np.frombuffer(index, _DTYPES[_INDEX[name][0]], math.prod(shape), at).reshape(shape)

    bounds, text = tensor("row.path_offsets"), tensor("row.path").tobytes()
    return Shard(
        path,
        keys=tensor("row.key"),
        crcs=tensor("row.crc32c"),
        sizes=tensor("row.size"),
        views=tensor("row.view"),
        matrices=tensor("row.matrix"),
        names=tuple(
            text[start:end].decode("utf-8", "surrogateescape")
            for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ),
        offsets={name: places[name] for name in manifest.features},
        header_crc=stored,
        num_bytes=num_bytes,
    )


def _feature(name: str, num_rows: int, manifest: Manifest) -> tuple[str, tuple[int, ...]]:
    """The safetensors dtype and the shape of a feature in a shard."""
    return _NAMES[np.dtype(manifest.storage[name])], (num_rows, *manifest.features[name])


def _path_padding(num_rows: int, num_bytes: int) -> int:
    """Zeros after the names, so that the index is a multiple of 8 bytes, as safetensors' header is."""
    fixed = num_rows * (72 + 8 + 4 + 8 + 4 + 32) + 8 + 4
    return -(fixed + num_bytes) % 8


def _header(index: Mapping[str, NDArray[Any]], num_rows: int, manifest: Manifest) -> bytes:
    """The length and JSON of a safetensors header, padded so that the features begin at a page."""
    tensors = [(name, _INDEX[name][0], array.shape) for name, array in index.items()]
    tensors.append((HEADER_CRC, "U32", (1,)))
    tensors += [(name, *_feature(name, num_rows, manifest)) for name in file_order(manifest)]
    layout: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "version": str(VERSION), "fingerprint": manifest.fingerprint}
    }
    end = 0
    for name, dtype, shape in tensors:
        begin, end = end, end + math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        layout[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    index_bytes = layout[HEADER_CRC]["data_offsets"][1]
    text = json.dumps(layout, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text) + index_bytes) % PAGE_BYTES)
    header: bytes = len(text).to_bytes(8, "little") + text
    return header


def _check_layout(layout: Any, manifest: Manifest, start: int, num_bytes: int) -> dict[str, int]:
    """Where each tensor begins in the file.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the header is not that of a whole shard of this cache.
    """
    metadata = layout["__metadata__"]
    if metadata["format"] != FORMAT or metadata["version"] != str(VERSION):
        raise ValueError(f"it is of format {metadata['format']} {metadata['version']}")
    if metadata["fingerprint"] != manifest.fingerprint:
        raise ValueError("its fingerprint is that of another cache")
    num_rows = layout["row.crc32c"]["shape"][0]
    expected = {name: (dtype, (num_rows, *tail)) for name, (dtype, tail) in _INDEX.items()}
    expected["row.path_offsets"] = ("I64", (num_rows + 1,))
    expected["row.path"] = ("U8", tuple(layout["row.path"]["shape"]))
    expected[HEADER_CRC] = ("U32", (1,))
    expected |= {name: _feature(name, num_rows, manifest) for name in file_order(manifest)}
    places, end = {}, 0
    for name, (dtype, shape) in expected.items():
        entry = layout[name]
        begin, end = end, end + math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        if (entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]) != (dtype, shape, [begin, end]):
            raise ValueError(f"{name} is not where or what it should be")
        places[name] = start + begin
    if len(layout) != len(expected) + 1:
        raise ValueError("it holds tensors that no shard has")
    if start + end != num_bytes:
        raise ValueError(f"it is {num_bytes} bytes long, its header says {start + end}")
    return places
