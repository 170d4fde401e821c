"""The few fields of an ONNX file that samfast reads and writes itself.

An ONNX file is one protobuf message: the graph is a field of it, the metadata are fields beside it. Read this way, a
bundle says what it is without ``onnx``, without ONNX Runtime, and without loading gigabytes of weights.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from samfast.errors import CheckpointError

GRAPH_FIELD = 7  # ModelProto.graph
METADATA_FIELD = 14  # ModelProto.metadata_props, of StringStringEntryProto: key = 1, value = 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf wire types
CHUNK_BYTES = 1 << 22


def read_metadata(path: Path) -> dict[str, str]:
    """The ``metadata_props`` of an ONNX file.

    Raises:
        CheckpointError: the file is missing, truncated, or no ONNX file.
    """
    metadata = {}
    with _open(path) as file:
        for field, length in _fields(file, path):
            if field != METADATA_FIELD:
                continue
            end = file.tell() + length
            entry = {1: "", 2: ""}
            while file.tell() < end:
                inner, size = _next_field(file, path)
                entry[inner] = file.read(size).decode(errors="replace")
            metadata[entry[1]] = entry[2]
    return metadata


def append_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Add ``metadata_props`` at the end of an ONNX file: the bytes that are there stay as they are."""
    with path.open("ab") as file:
        for key, value in metadata.items():
            entry = b"".join(_bytes_field(number, text.encode()) for number, text in ((1, key), (2, value)))
            file.write(_bytes_field(METADATA_FIELD, entry))


def graph_sha256(path: Path) -> str:
    """Hex SHA-256 over the graph of an ONNX file and, where it has one, over its file of external weights.

    Raises:
        CheckpointError: the file is missing, truncated, or no ONNX file.
    """
    digest = hashlib.sha256()
    with _open(path) as file:
        for field, length in _fields(file, path):
            if field == GRAPH_FIELD:
                _update(digest, file, length)
    external = external_data(path)
    if external.exists():
        with external.open("rb") as file:
            _update(digest, file, external.stat().st_size)
    return digest.hexdigest()


def external_data(path: Path) -> Path:
    """Where the weights of an ONNX file lie if they are too large to be in it."""
    return path.with_name(path.name + ".data")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise CheckpointError("there is no such file", where=path, fix="export the model again") from None
    except OSError as error:
        raise CheckpointError(f"the file cannot be read: {error.strerror or error}", where=path) from None


def _fields(file: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """(number, length) of each top-level field made of bytes, the file standing at its first byte."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise CheckpointError("the file is empty", where=path, fix="export the model again")
    while (start := file.tell()) < size:
        field, length = _next_field(file, path)
        end = file.tell() + length
        if end > size:
            raise CheckpointError(
                f"the file is truncated, or no ONNX file: the field at byte {start} ends at {end}, the file at {size}",
                where=path,
                fix="copy it again, or export the model again",
            )
        if length:
            yield field, length
        file.seek(end)


def _next_field(file: BinaryIO, path: Path) -> tuple[int, int]:
    """(number, length) of the field at the file's position, which moves to its bytes; numbers are passed over."""
    key = _varint(file, path)
    number, wire_type = key >> 3, key & 7
    if number == 0:
        raise _foreign(path)
    if wire_type == BYTES:
        return number, _varint(file, path)
    if wire_type == VARINT:
        _varint(file, path)
    elif wire_type in (FIXED64, FIXED32):
        file.seek(8 if wire_type == FIXED64 else 4, os.SEEK_CUR)
    else:
        raise _foreign(path)
    return number, 0


def _varint(file: BinaryIO, path: Path) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise _foreign(path)
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _foreign(path)


def _foreign(path: Path) -> CheckpointError:
    return CheckpointError("this is no ONNX file, or a truncated one", where=path, fix="export the model again")


def _bytes_field(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _update(digest: hashlib._Hash, file: BinaryIO, length: int) -> None:
    while length:
        chunk = file.read(min(length, CHUNK_BYTES))
        digest.update(chunk)
        length -= len(chunk)
