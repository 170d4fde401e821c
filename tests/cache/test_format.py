"""The format, read by a stranger: json, safetensors and numpy, none of samfast's own readers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from samfast import cache_embeddings, load_dataset
from samfast.cache.format import read_manifest
from samfast.errors import CacheError, CorruptCacheError
from samfast.models.fingerprint import encoder_fingerprint_parts, fingerprint

POLYNOMIAL = 0x82F63B78


def crc32c(data: bytes) -> int:
    """Bit by bit, from the definition (RFC 3720)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def shard_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.safetensors") if path.name != "decoder.safetensors")


def test_the_crc_of_the_definition() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_a_stranger_reads_every_row(photos: Callable, small: Any, tmp_path: Path, storage: Any) -> None:
    names = ["plain", "Überflutung 洪水", "a b+c"]
    data = load_dataset(photos(names=names))
    cache_embeddings(data, model=small, out=tmp_path / "c", storage=storage)

    content = json.loads((tmp_path / "c" / "cache.json").read_text("utf-8"))
    assert (content["format"], content["version"], content["model"]) == ("samfast-cache", 1, "small")
    assert content["features"] == {"image_embeddings": [32, 8, 8]}
    (file,) = shard_files(tmp_path / "c")
    shard = load_file(file)
    assert set(shard) == {
        "image_embeddings",
        "header.crc32c",
        *(f"row.{name}" for name in ("key", "crc32c", "size", "view", "matrix", "path", "path_offsets")),
    }
    assert shard["image_embeddings"].dtype == storage
    bounds = shard["row.path_offsets"]
    paths = [
        shard["row.path"][a:b].tobytes().decode()
        for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]
    by_name = {sample.name: sample for sample in data.samples}
    assert sorted(paths) == sorted(by_name)
    for row, path in enumerate(paths):
        sample = by_name[path]
        assert shard["row.key"][row].tobytes().hex() == sample.key
        assert shard["row.size"][row].tolist() == list(sample.size)
        assert shard["row.view"][row] == 0
        features = shard["image_embeddings"][row]
        assert crc32c(features.tobytes()) == shard["row.crc32c"][row]

        image = torch.from_numpy(small.spec.preprocess(data.image(sample)))[None]
        with torch.inference_mode():
            expected = small.encode(image)["image_embeddings"][0].numpy().astype(storage)
        np.testing.assert_array_equal(features, expected)

        corner = np.array([sample.size[1], sample.size[0], 1.0])
        mapped = (shard["row.matrix"][row] @ corner)[:2]
        np.testing.assert_allclose(mapped, small.spec.resized(*sample.size)[::-1])


def test_the_index_is_covered_by_its_crc_and_features_begin_at_a_page(
    photos: Callable, small: Any, tmp_path: Path
) -> None:
    cache_embeddings(photos(3), model=small, out=tmp_path / "c")
    (file,) = shard_files(tmp_path / "c")
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    crc_at = 8 + length + header["header.crc32c"]["data_offsets"][0]
    assert crc32c(raw[:crc_at]) == int.from_bytes(raw[crc_at : crc_at + 4], "little")
    begin = 8 + length + header["image_embeddings"]["data_offsets"][0]
    assert begin == crc_at + 4
    assert begin % 4096 == 0
    for name, entry in header.items():
        if name != "__metadata__":
            width = {"F16": 2, "F64": 8, "I64": 8, "I32": 4, "U32": 4, "U8": 1}[entry["dtype"]]
            assert (8 + length + entry["data_offsets"][0]) % width == 0, name


def test_the_decoder_lies_beside_the_embeddings(photos: Callable, small: Any, tmp_path: Path) -> None:
    cache = cache_embeddings(photos(2), model=small, out=tmp_path / "c")
    stored = load_file(tmp_path / "c" / "decoder.safetensors")
    assert set(stored) == set(small.decoder_state())
    for name, tensor in cache.decoder().decoder_state().items():
        np.testing.assert_array_equal(stored[name], tensor.numpy())
        assert torch.equal(tensor, small.decoder_state()[name])
    assert cache.decoder().image_encoder is None


def test_the_fingerprint_is_the_hash_of_its_parts(photos: Callable, small: Any, tmp_path: Path) -> None:
    cache = cache_embeddings(photos(2), model=small, out=tmp_path / "c")
    assert cache.parts == encoder_fingerprint_parts(small, "float32")
    assert cache.fingerprint == fingerprint(cache.parts)
    spelled = json.dumps(cache.parts, sort_keys=True, separators=(",", ":")).encode()
    assert cache.fingerprint == hashlib.sha256(spelled).hexdigest()


def test_records_say_how_the_data_was_opened_and_what_was_written(photos: Callable, small: Any, tmp_path: Path) -> None:
    root = photos(4)
    cache = cache_embeddings(load_dataset(root, seed=3), model=small, out=tmp_path / "c")
    (dataset,) = (json.loads(path.read_text("utf-8")) for path in (tmp_path / "c" / "datasets").iterdir())
    assert dataset["root"] == str(root.resolve())
    assert dataset["options"]["seed"] == 3
    assert set(dataset) == {"root", "layout", "options", "split_origin", "target"}
    (job,) = (json.loads(path.read_text("utf-8")) for path in (tmp_path / "c" / "jobs").iterdir())
    (file,) = shard_files(tmp_path / "c")
    assert [shard["name"] for shard in job["shards"]] == [file.name]
    assert job["shards"][0]["rows"] == job["encoded"] == len(cache) == 4
    assert job["shards"][0]["header_crc32c"] == load_file(file)["header.crc32c"][0]
    info = cache.info()
    assert info["images"] == 4
    assert info["datasets"] == [str(root.resolve())]
    json.dumps(info)


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda text: text[:40], CorruptCacheError, "damaged"),
        (lambda text: text.replace('"version": 1', '"version": 2'), CacheError, "format 2"),
        (lambda text: text.replace("samfast-cache", "zarr"), CacheError, "no embedding cache"),
        (lambda text: text.replace('"size": 64', '"size": 32'), CorruptCacheError, "fingerprint"),
        (lambda text: text.replace('"float16"', '"complex64"'), CorruptCacheError, "damaged"),
        (lambda text: "[]", CacheError, "no embedding cache"),
    ],
)
def test_a_damaged_or_unknown_manifest_is_an_error(
    photos: Callable, small: Any, tmp_path: Path, damage: Callable, error: type, says: str
) -> None:
    path = cache_embeddings(photos(1), model=small, out=tmp_path / "c").path / "cache.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(error, match=says) as caught:
        read_manifest(path.parent)
    assert str(path) in str(caught.value)
