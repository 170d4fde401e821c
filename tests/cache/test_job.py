"""What is encoded, what is not, and what stops the job before it starts."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from samfast import cache_embeddings, load_dataset
from samfast.cache import EmbeddingCache, job, plan
from samfast.cache.writer import ShardWriter
from samfast.data import DecodeSpec
from samfast.errors import CacheError, ConfigError, DataError, OutputExistsError, StaleCacheError


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_embeddings_are_those_of_the_encoder(photos: Callable, draw_model: Callable, tmp_path: Path, name: str) -> None:
    sam = draw_model(name)
    data = load_dataset(photos(3))
    cache = cache_embeddings(data, model=sam, out=tmp_path / "c")
    got = cache.read(data.samples, dtype=np.float32)["image_embeddings"]
    images = np.stack([sam.spec.preprocess(data.image(sample)) for sample in data.samples])
    with torch.inference_mode():
        expected = sam.encode(torch.from_numpy(images))["image_embeddings"].numpy()
    np.testing.assert_allclose(got, expected, rtol=2**-11, atol=1e-5)
    assert not np.allclose(got, expected[::-1], rtol=2**-11, atol=1e-5), "a neighbour's row passes too"
    assert cache.spec == sam.spec
    assert cache.feature_shapes == {"image_embeddings": expected.shape[1:]}
    assert cache.model == name


def test_all_images_of_all_splits_also_without_annotation(photos: Callable, small: Any, tmp_path: Path) -> None:
    root = photos(9)
    (root / "masks" / "003.png").unlink()
    data = load_dataset(root, max_bad=1.0)
    assert {sample.split for sample in data.samples} == {"train", "val", "test"}
    cache = cache_embeddings(data, model=small, out=tmp_path / "c")
    assert cache.keys == sorted(sample.key for sample in data.samples)


def test_a_second_run_encodes_nothing_and_a_new_image_only_itself(
    photos: Callable, contents: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace
) -> None:
    root = photos(5)
    first = contents(cache_embeddings(root, model=small, out=tmp_path / "c"))
    assert encoded.images == 5
    cache_embeddings(root, model=small, out=tmp_path / "c")
    assert encoded.images == 5
    Image.fromarray(np.full((40, 50, 3), 9, np.uint8)).save(root / "images" / "new.png")
    Image.fromarray(np.full((40, 50), 255, np.uint8)).save(root / "masks" / "new.png")
    second = contents(cache_embeddings(root, model=small, out=tmp_path / "c"))
    assert encoded.images == 6
    assert len(second) == 6
    assert second.items() >= first.items()


def test_labels_encode_nothing(photos: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace) -> None:
    root = photos(4)
    before = load_dataset(root)
    cache_embeddings(before, model=small, out=tmp_path / "c")
    mask = root / "masks" / "002.png"
    Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    after = load_dataset(root)
    assert after.annotation_hash != before.annotation_hash
    encoded.images = 0
    cache = cache_embeddings(after, model=small, out=tmp_path / "c")
    assert encoded.images == 0
    assert not cache.missing(after.samples)


def test_identical_files_share_a_row(
    photos: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    root = photos(3)
    for folder in ("images", "masks"):
        shutil.copy(root / folder / "000.png", root / folder / "twin.png")
    data = load_dataset(root)
    assert len(data) == 4
    cache = cache_embeddings(data, model=small, out=tmp_path / "c")
    assert len(cache) == encoded.images == 3
    assert "1 of them identical to another" in capsys.readouterr().err
    assert cache.read(data.samples)["image_embeddings"].shape[0] == 4


def test_a_changed_image_is_encoded_again_and_a_moved_one_is_found(
    photos: Callable, contents: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace
) -> None:
    root = photos(4)
    before = contents(cache_embeddings(root, model=small, out=tmp_path / "c"))
    changed = root / "images" / "001.png"
    pixels = np.array(Image.open(changed))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(changed)
    for folder in ("images", "masks"):  # a name that another image had, too
        (root / folder / "000.png").rename(root / folder / "zoo.png")
        (root / folder / "003.png").rename(root / folder / "000.png")
    moved = root.rename(tmp_path / "elsewhere")
    encoded.images = 0
    data = load_dataset(moved)
    cache = cache_embeddings(data, model=small, out=tmp_path / "c")
    assert encoded.images == 1
    assert not cache.missing(data.samples)
    assert len(cache) == 5
    assert contents(cache).items() > before.items()


def test_images_that_are_decoded_otherwise_are_encoded_again(
    photos: Callable, contents: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace, monkeypatch: Any
) -> None:
    root = photos(2)
    before = contents(cache_embeddings(root, model=small, out=tmp_path / "c"))
    _, *policies = DecodeSpec.__init__.__defaults__
    monkeypatch.setattr(DecodeSpec.__init__, "__defaults__", (2, *policies))  # as a later version might
    data = load_dataset(root)
    assert not before.keys() & {sample.key for sample in data.samples}
    cache = cache_embeddings(data, model=small, out=tmp_path / "c")
    assert encoded.images == 4
    assert contents(cache).items() > before.items()


def test_batches_and_shards_do_not_change_the_rows(
    photos: Callable, small: Any, tmp_path: Path, shards_of: Callable
) -> None:
    root = photos(7)
    one = cache_embeddings(root, model=small, out=tmp_path / "one")
    shards_of(2)
    many = cache_embeddings(root, model=small, out=tmp_path / "many", batch_size=3)
    assert many.info()["shards"] == 4
    assert one.info()["shards"] == 1
    a, b = (cache.read(one.keys, dtype=np.float32)["image_embeddings"] for cache in (one, many))
    np.testing.assert_allclose(a, b, rtol=2**-10, atol=1e-5)


def test_a_shard_is_written_after_its_time(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "ShardWriter", lambda *args: ShardWriter(*args, shard_seconds=0.0))
    assert cache_embeddings(photos(3), model=small, out=tmp_path / "c").info()["shards"] == 3


def test_one_cache_serves_several_data_sets(
    photos: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace
) -> None:
    one, two = photos(3, "one"), photos(4, "two")
    cache_embeddings(one, model=small, out=tmp_path / "c")
    cache = cache_embeddings(two, model=small, out=tmp_path / "c")
    assert len(cache) == encoded.images == 7
    assert len(cache.info()["datasets"]) == 2
    cache.verify()


def test_the_default_name_is_readable_and_printed(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    root = photos(2, "potholes")
    monkeypatch.chdir(tmp_path)
    cache = cache_embeddings(root, model=small)
    assert cache.path == Path("potholes-small.samcache")
    printed = capsys.readouterr().err
    assert "potholes-small.samcache: 2 images" in printed
    assert "2 to encode" in printed
    assert "free" in printed


@pytest.mark.parametrize(("compile", "batches"), [(False, 1), (True, 2)])
def test_the_time_is_said_as_soon_as_it_is_known(
    photos: Callable,
    small: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    compile: bool,
    batches: int,
) -> None:
    """After the first batch, or the second where the first one warms up, which here takes a second a batch."""
    encode, said = small.encode, []

    def slow(images: torch.Tensor) -> dict[str, torch.Tensor]:
        said.append("about" in capsys.readouterr().err)
        time.sleep(1.0 if len(said) == batches else 0.0)
        return encode(images)

    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(small, "encode", slow)
    printed: list[str] = []
    monkeypatch.setattr(job, "say", lambda line: (printed.append(line), print(line, file=sys.stderr)))
    cache_embeddings(photos(10), model=small, out=tmp_path / "c", batch_size=2, compile=compile)
    assert said == [batch == batches for batch in range(5)]
    (estimate,) = (line for line in printed if "about" in line)
    seconds = float(re.search(r"about ([\d.]+) s for the other", estimate)[1])
    assert seconds == pytest.approx(5 - batches, rel=0.5)


def test_float32_is_float32_whatever_the_process_was_told(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, seen = small.encode, []

    def noting(images: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(torch.get_float32_matmul_precision())
        return encode(images)

    monkeypatch.setattr(small, "encode", noting)
    torch.set_float32_matmul_precision("medium")
    try:
        cache_embeddings(photos(1), model=small, out=tmp_path / "c")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["highest"]


def changed_weights(sam: Any) -> dict[str, Any]:
    sam = copy.deepcopy(sam)
    with torch.no_grad():
        sam.image_encoder.blocks[1].attn.rel_pos_h[0, 0] += 1e-3
    return {"model": sam}


def changed_decoder(sam: Any) -> dict[str, Any]:
    sam = copy.deepcopy(sam)
    with torch.no_grad():
        sam.mask_decoder.iou_token.weight[0, 0] += 1e-3
    return {"model": sam}


def changed_preprocessing(sam: Any) -> dict[str, Any]:
    sam = copy.deepcopy(sam)
    sam.spec = replace(sam.spec, mean=(123.0, 116.0, 103.0))
    return {"model": sam}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (changed_weights, {"parts.weights"}),
        (changed_decoder, {"decoder"}),
        (changed_preprocessing, {"parts.preprocess.mean"}),
        (lambda sam: {"model": sam, "storage": "float32"}, {"storage.image_embeddings"}),
        (lambda sam: {"model": sam, "precision": "bfloat16"}, {"parts.precision"}),
    ],
)
def test_another_way_of_encoding_is_stale(
    photos: Callable,
    contents: Callable,
    small: Any,
    tmp_path: Path,
    encoded: SimpleNamespace,
    change: Callable,
    fields: set[str],
) -> None:
    root = photos(2)
    before = contents(cache_embeddings(root, model=small, out=tmp_path / "c"))
    encoded.images = 0
    with pytest.raises(StaleCacheError) as caught:
        cache_embeddings(root, out=tmp_path / "c", **change(small))
    listed = {line.strip().split(": ")[0] for line in caught.value.what.splitlines()[1:]}
    assert listed == fields
    assert encoded.images == 0
    assert contents(EmbeddingCache.open(tmp_path / "c")) == before


def test_another_architecture_is_stale_field_by_field(
    photos: Callable, small: Any, draw_model: Callable, tmp_path: Path
) -> None:
    root = photos(2)
    cache_embeddings(root, model=small, out=tmp_path / "c")
    with pytest.raises(StaleCacheError) as caught:
        cache_embeddings(root, model=draw_model("tiny"), out=tmp_path / "c")
    for line in ("model: small in the cache, tiny asked for", "parts.preprocess.size: 64 in the cache, 256 asked for"):
        assert line in caught.value.what


def test_the_same_weights_loaded_again_are_not_stale(
    photos: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace
) -> None:
    root = photos(2)
    torch.save(small.state_dict(), tmp_path / "small.pth")
    cache_embeddings(root, model=small, out=tmp_path / "c")
    cache_embeddings(root, model="small", checkpoint=tmp_path / "small.pth", out=tmp_path / "c")
    assert encoded.images == 2


def test_bfloat16_is_kept_by_auto(photos: Callable, contents: Callable, small: Any, tmp_path: Path) -> None:
    root = photos(2)
    made = cache_embeddings(root, model=small, out=tmp_path / "c", precision="bfloat16")
    exact = cache_embeddings(root, model=small, out=tmp_path / "exact")
    again = cache_embeddings(root, model=small, out=tmp_path / "c")
    assert (made.parts["precision"], again.parts["precision"]) == ("bfloat16", "bfloat16")
    assert made.fingerprint != exact.fingerprint
    assert contents(made) != contents(exact)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_in_halves(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    seen = []
    encode = small.encode
    monkeypatch.setattr(small, "encode", lambda images: seen.append(encode(images)) or seen[-1])
    data = load_dataset(photos(2))
    cache = cache_embeddings(data, model=small, out=tmp_path / "c", precision=precision)
    exact = cache_embeddings(data, model=small, out=tmp_path / "exact", precision="fp32")
    a, b = (c.read(data.samples, dtype=np.float32)["image_embeddings"] for c in (cache, exact))
    assert not np.array_equal(a, b)
    assert 1e-5 < np.abs(a - b).mean() / np.abs(b).mean() < {"bf16": 0.05, "fp16": 0.005}[precision]
    assert cache.parts["precision"] == {"bf16": "bfloat16", "fp16": "float16"}[precision]


def test_a_batch_too_large_for_the_memory_is_halved(
    photos: Callable,
    contents: Callable,
    small: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """A device with room for three: of eight at once, two fit, and from then on only twos are tried."""
    root = photos(10)
    expected = contents(cache_embeddings(root, model=small, out=tmp_path / "pairs", batch_size=2))
    encode, tried = small.encode, []

    def small_memory(images: torch.Tensor) -> dict[str, torch.Tensor]:
        tried.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(images)

    monkeypatch.setattr(small, "encode", small_memory)
    assert contents(cache_embeddings(root, model=small, out=tmp_path / "c", batch_size=8)) == expected
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    assert "not enough memory for 4 images at once: going on with 2" in capsys.readouterr().err


def test_an_image_too_large_for_the_memory_is_an_error(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(images: torch.Tensor) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(small, "encode", no_memory)
    with pytest.raises(CacheError, match="not enough memory to encode one image") as caught:
        cache_embeddings(photos(5), model=small, out=tmp_path / "c", batch_size=5)
    assert caught.value.fix


def test_compiled_on_request(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: SimpleNamespace
) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    root = photos(2)
    cache_embeddings(root, model=small, out=tmp_path / "plain")
    assert not compiled
    cache_embeddings(root, model=small, out=tmp_path / "compiled", compile=True)
    assert compiled == [small.encode]
    assert encoded.images == 4


@pytest.mark.slow
def test_the_compiled_encoder_says_the_same(photos: Callable, small: Any, tmp_path: Path) -> None:
    data = load_dataset(photos(3))
    plain = cache_embeddings(data, model=small, out=tmp_path / "plain")
    compiled = cache_embeddings(data, model=small, out=tmp_path / "compiled", compile=True)
    a, b = (cache.read(data.samples, dtype=np.float32)["image_embeddings"] for cache in (plain, compiled))
    np.testing.assert_allclose(a, b, rtol=2**-10, atol=1e-4)


def test_overflow_names_the_image_and_the_storage(photos: Callable, small: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        small.image_encoder.neck[3].weight *= 1e6
    root = photos(3)
    with pytest.raises(CacheError, match='storage="float32"') as caught:
        cache_embeddings(root, model=small, out=tmp_path / "c")
    assert "images/000.png" in str(caught.value)
    cache = cache_embeddings(root, model=small, out=tmp_path / "wide", storage="float32")
    assert np.abs(cache.read(cache.keys)["image_embeddings"]).max() > 65504


def test_weights_that_make_nan_are_not_called_overflow(photos: Callable, small: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        small.image_encoder.neck[3].bias[0] = float("nan")
    with pytest.raises(CacheError, match="not finite") as caught:
        cache_embeddings(photos(2), model=small, out=tmp_path / "c")
    assert "float32" not in str(caught.value)


def test_a_disk_too_small_is_refused_before_anything_is_made(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: SimpleNamespace
) -> None:
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(CacheError, match="the disk is too small"):
        cache_embeddings(photos(3), model=small, out=tmp_path / "deep" / "c")
    assert encoded.images == 0
    assert not (tmp_path / "deep").exists()


def test_a_file_broken_since_is_left_out_and_listed(
    photos: Callable, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = photos(5)
    data = load_dataset(root)
    broken, gone = data.samples[1], data.samples[3]
    broken.path.write_bytes(broken.path.read_bytes()[:100])
    gone.path.unlink()
    cache = cache_embeddings(data, model=small, out=tmp_path / "c", max_bad=0.4)
    assert [sample.name for sample in cache.missing(data.samples)] == [broken.name, gone.name]
    printed = capsys.readouterr().err
    assert broken.name in printed
    assert gone.name in printed
    (record,) = (json.loads(path.read_text("utf-8")) for path in (cache.path / "jobs").iterdir())
    assert [name for name, _ in record["bad"]] == [broken.name, gone.name]


def test_too_many_broken_files_stop_the_job_and_keep_what_is_done(photos: Callable, small: Any, tmp_path: Path) -> None:
    data = load_dataset(photos(6))
    for sample in data.samples[3:]:
        sample.path.write_bytes(b"")
    with pytest.raises(DataError, match=r"max_bad=0\.4") as caught:
        cache_embeddings(data, model=small, out=tmp_path / "c", max_bad=0.4)
    assert data.samples[3].name in str(caught.value)
    assert len(EmbeddingCache.open(tmp_path / "c")) == 3


def test_a_folder_of_something_else_is_left_alone(photos: Callable, small: Any, tmp_path: Path) -> None:
    root = photos(2)
    with pytest.raises(OutputExistsError, match="images"):
        cache_embeddings(root, model=small, out=root)
    (tmp_path / "file").touch()
    with pytest.raises(OutputExistsError, match="file"):
        cache_embeddings(root, model=small, out=tmp_path / "file")
    assert sorted(os.listdir(root)) == ["images", "masks"]


@pytest.mark.parametrize(
    "options", [{"storage": "int8"}, {"precision": "int8"}, {"batch_size": 0}, {"checkpoint": "x.pth"}]
)
def test_impossible_options(photos: Callable, small: Any, tmp_path: Path, options: dict) -> None:
    with pytest.raises(ConfigError) as caught:
        cache_embeddings(photos(1), model=small, out=tmp_path / "c", **options)
    assert caught.value.where == next(iter(options))
    assert not (tmp_path / "c").exists()


@pytest.mark.real
def test_photographs_as_people_have_them(small: Any, tmp_path: Path, real_data: Path) -> None:
    data = load_dataset(real_data / "flood", limit=24)
    cache = cache_embeddings(data, model=small, out=tmp_path / "c", max_bad=0.0)
    assert not cache.missing(data.samples)
    sample = data.samples[-1]
    with torch.inference_mode():
        expected = small.encode(torch.from_numpy(small.spec.preprocess(data.image(sample)))[None])["image_embeddings"]
    np.testing.assert_allclose(
        cache.read([sample], dtype=np.float32)["image_embeddings"], expected, rtol=2**-10, atol=1e-5
    )
