"""A model whose encoder makes several features, each of its own shape and dtype, at a geometry of its own."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

import samfast
from samfast import EmbeddingCache, cache_embeddings, load_dataset
from samfast.errors import ConfigError, CorruptCacheError, StaleCacheError
from samfast.models.architecture import ARCHITECTURES, Architecture
from samfast.models.sam import Sam
from samfast.train.batches import make_batch
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.views import EpochViews
from samfast.views import PRESETS, view_key

ODD = Architecture("odd", 72, 6, 24, 2, 2, (1,), 5, 24, 40, decoder_heads=4, iou_head_dim=24)
"""A grid of 12, logits of 48: no side of any shipped model, and none that is a power of two."""

SHAPES = {
    "image_embeddings": (24, 12, 12),
    "high_res_0": (3, 48, 48),
    "high_res_1": (6, 24, 24),
    "intermediate": (12, 12, 7),
    "brightest": (2,),
    "is_bright": (12, 12),
}
DTYPES = {
    "image_embeddings": "float16",
    "high_res_0": "float16",
    "high_res_1": "float16",
    "intermediate": "float32",
    "brightest": "int64",
    "is_bright": "bool",
}


class Pyramid(Sam):
    """What SAM 2 (two finer maps that belong to the decoder) and HQ-SAM (an early layer) ask of a cache, in small."""

    adapter = "pyramid/1"

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        deep = super().encode(images)["image_embeddings"]
        pooled = [torch.nn.functional.adaptive_avg_pool2d(images, 4 * 12 // level) for level in (1, 2)]
        grey = torch.nn.functional.adaptive_avg_pool2d(images.mean(1), 12)
        place = grey.flatten(1).argmax(1)
        return {
            "image_embeddings": deep,
            "high_res_0": pooled[0],
            "high_res_1": torch.cat([pooled[1], pooled[1].square()], dim=1),
            "intermediate": 3e5 * deep[:, :7].permute(0, 2, 3, 1).tanh(),
            "brightest": torch.stack([place % 12, place // 12], dim=1),
            "is_bright": grey > 0,
        }

    def decode(self, image_embeddings: Tensor, image_index: Tensor, *args: Any, **features: Any) -> Any:  # type: ignore[override]
        fine, coarse = features.pop("high_res_0"), features.pop("high_res_1")
        early, bright = features.pop("intermediate"), features.pop("is_bright")
        assert features.pop("brightest").dtype == torch.int64
        logits, ious = super().decode(
            image_embeddings + early.mean(-1)[:, None] / 3e5 + bright[:, None], image_index, *args, **features
        )
        finer = torch.nn.functional.interpolate(coarse.mean(1, keepdim=True), scale_factor=2) + fine.mean(
            1, keepdim=True
        )
        return logits + finer[image_index], ious


@pytest.fixture
def pyramid(monkeypatch: pytest.MonkeyPatch, draw_model: Callable) -> Pyramid:
    monkeypatch.setitem(ARCHITECTURES, ODD.name, ODD)
    model = Pyramid(ODD)
    model.load_state_dict(draw_model(ODD.name).state_dict())
    return model.eval()


@pytest.fixture
def cached(photos: Callable, pyramid: Pyramid, tmp_path: Path) -> tuple[Any, EmbeddingCache]:
    data = load_dataset(photos(8))
    storage = {"intermediate": "float32"}
    return data, cache_embeddings(data, model=pyramid, out=tmp_path / "c", storage=storage, views=3, augment="aerial")


def expected_of(pyramid: Pyramid, image: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        features = pyramid.encode(torch.from_numpy(pyramid.spec.preprocess(image))[None])
    return {name: tensor[0].numpy().astype(DTYPES[name]) for name, tensor in features.items()}


def test_every_feature_is_kept_in_its_own_shape_and_dtype(cached: Any, pyramid: Pyramid) -> None:
    data, cache = cached
    assert cache.feature_shapes == SHAPES
    assert cache.storage == DTYPES
    got = cache.read(data.samples)
    wide = cache.read(data.samples, dtype=np.float32)
    for index, sample in enumerate(data.samples):
        for name, values in expected_of(pyramid, data.image(sample)).items():
            assert got[name].dtype == DTYPES[name]
            np.testing.assert_array_equal(got[name][index], values)
            is_float = got[name].dtype.kind == "f"
            assert wide[name].dtype == ("float32" if is_float else DTYPES[name])
            np.testing.assert_array_equal(wide[name][index], values)
    assert abs(got["intermediate"]).max() > np.finfo(np.float16).max
    assert cache.verify()["rows"] == 24
    cache_embeddings(data, model=pyramid, out=cache.path, storage={"intermediate": "float32"})  # and nothing to do


def test_a_shard_holds_them_one_after_the_other_each_aligned(cached: Any) -> None:
    _, cache = cached
    (file,) = (path for path in cache.path.glob("*.safetensors") if path.name != "decoder.safetensors")
    shard = load_file(file)
    for name, shape in SHAPES.items():
        assert shard[name].shape == (24, *shape)
        assert shard[name].dtype == DTYPES[name]
    raw = file.read_bytes()
    for name in SHAPES:
        at = raw.index(shard[name].tobytes())
        assert at % np.dtype(DTYPES[name]).itemsize == 0


@pytest.mark.parametrize("name", SHAPES)
def test_damage_in_any_feature_is_found(cached: Any, name: str) -> None:
    _, cache = cached
    (file,) = (path for path in cache.path.glob("*.safetensors") if path.name != "decoder.safetensors")
    raw = bytearray(file.read_bytes())
    values = load_file(file)[name]
    raw[raw.index(values.tobytes()) + values[0].nbytes + 1] ^= 1
    file.write_bytes(raw)
    opened = EmbeddingCache.open(cache.path)
    key = load_file(file)["row.key"][1].tobytes().hex()
    with pytest.raises(CorruptCacheError):
        opened.read([key])
    with pytest.raises(CorruptCacheError, match="1 of 24"):
        opened.verify()


def test_another_dtype_of_one_feature_is_stale(cached: Any, pyramid: Pyramid) -> None:
    data, cache = cached
    with pytest.raises(StaleCacheError) as caught:
        cache_embeddings(data, model=pyramid, out=cache.path, storage="float32")
    listed = {line.strip().split(": ")[0] for line in caught.value.what.splitlines()[1:]}
    assert listed == {f"storage.{name}" for name in ("image_embeddings", "high_res_0", "high_res_1")}
    for storage in ({"brightest": "float32"}, {"nothing": "float16"}, {"high_res_0": "int8"}, "int8"):
        with pytest.raises(ConfigError):
            cache_embeddings(data, model=pyramid, out=cache.path, storage=storage)


def test_training_from_the_cache_equals_the_encoder_in_the_loop(cached: Any, pyramid: Pyramid) -> None:
    data, cache = cached
    config = TrainConfig.make(regime="point+box", batch_size=4, device="cpu", precision="fp32", loss_frame="low-res")
    samples = list(data.of("train", state="labelled"))[:4]

    def encoded(samples: Any) -> dict[str, Any]:
        rows = [expected_of(pyramid, data.image(sample)) for sample in samples]
        return {name: np.stack([row[name] for row in rows]) for name in SHAPES}

    def losses(read: Any) -> np.ndarray:
        batch = make_batch(data, samples, read, config, pyramid.spec, epoch=1)
        assert batch.target.shape[1:] == (48, 48)
        trainer = Trainer(pyramid, config, steps_per_epoch=1, device=torch.device("cpu"), precision="fp32")
        return trainer.losses(batch)

    whole = losses(cache.read)
    np.testing.assert_allclose(whole, losses(encoded), rtol=1e-6)  # sums depend on where arrays lie in memory

    def neighbours(samples: Any, feature: str) -> dict[str, Any]:
        read = cache.read(samples)
        return {**read, feature: np.roll(read[feature], 1, axis=0)}

    for feature in ("image_embeddings", "high_res_0", "high_res_1", "intermediate", "is_bright"):
        wrong = losses(lambda samples, feature=feature: neighbours(samples, feature))
        assert np.abs(wrong - whole).max() > 1e-4, feature


def test_views_at_that_geometry(cached: Any, pyramid: Pyramid) -> None:
    data, cache = cached
    config = TrainConfig.make(regime="box", batch_size=4, device="cpu", loss_frame="low-res")
    samples = list(data.of("train", state="labelled"))
    views = EpochViews(cache, PRESETS["aerial"].identity, 3, 0)
    for epoch in (1, 2, 3):
        batch = make_batch(data, views.shown(samples, epoch=epoch), cache.read, config, pyramid.spec, epoch=epoch)
        assert batch.weight.shape == (len(samples), 48, 48)
        assert {name: values.shape[1:] for name, values in batch.features.items()} == SHAPES
        assert 0 <= batch.tokens.coords.min() <= batch.tokens.coords.max() <= 72
    for sample in samples:
        key = view_key(sample.key, views.recipe, 1)
        (placement,) = cache.placements([key])
        assert placement.size in (sample.size, sample.size[::-1])


def test_no_room_but_models_knows_a_models_size() -> None:
    """The sides of SAM's images, grids and logits stand in no code that caches, moves, trains or judges them."""
    package = Path(samfast.__file__).parent
    allowed = {  # files, bytes, MiB, images
        ("cache/handles.py", 64),
        ("cache/plan.py", 256),
        ("cache/writer.py", 256),
        ("train/batch_size.py", 64),
    }
    found = set()
    for room in ("cache", "views", "train", "evaluation"):
        for path in sorted((package / room).rglob("*.py")):
            numbers = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            found |= {(path.relative_to(package).as_posix(), number) for number in numbers & {1024, 256, 64}}
    assert found <= allowed
