"""What an artifact is, whether it is whole, and the segmenter it holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samfast.artifacts import info, kind_of, open_segmenter, verify
from samfast.errors import CheckpointError, ConfigError, CorruptCacheError, DataError, RunError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, official_checkpoint: Callable[..., Path]) -> dict[str, Path]:
    """A data set, its cache and a run, of a drawn ``tiny``."""
    import torch

    from samfast.cache import cache_embeddings
    from samfast.data import load_dataset
    from samfast.train import train_decoder

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("artifacts")
    data = root / "data"
    rng = np.random.default_rng(0)
    for number in range(4):
        mask = np.zeros((40, 50), np.uint8)
        mask[5 + number : 20, 8:30] = 255
        for folder, pixels in (("images", rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)), ("masks", mask)):
            (data / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(data / folder / f"{number}.png")
    names = [f"images/{number}.png" for number in range(4)]
    (data / "splits.json").write_text(json.dumps({"train": names[:2], "val": names[2:3], "test": names[3:]}))
    dataset, checkpoint = load_dataset(data), official_checkpoint("tiny")
    cache = cache_embeddings(dataset, model="tiny", checkpoint=checkpoint, out=root / "x.samcache", device="cpu")
    run = train_decoder(
        dataset, checkpoint=checkpoint, cache=cache, regime="box", epochs=1, device="cpu", out=root / "run"
    )
    return {"data": data, "cache": cache.path, "run": run.path, "checkpoint": checkpoint}


def test_kinds_are_told_by_content(made: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("cache", "run", "data"):
        assert kind_of(made[kind]) == kind
        assert kind_of(shutil.copytree(made[kind], tmp_path / f"{kind} by another name")) == kind
    with pytest.raises(ConfigError, match="no such folder"):
        kind_of(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="is a file"):
        kind_of(made["checkpoint"])


def test_info_is_json_and_says_the_essentials(made: dict[str, Path]) -> None:
    found = {kind: info(made[kind]) for kind in ("cache", "run", "data")}
    for kind, content in found.items():
        assert json.loads(json.dumps(content))["kind"] == kind
        assert content["path"] == str(made[kind])
    assert found["cache"]["images"] == 4
    assert found["cache"]["model"] == "tiny"
    assert (found["run"]["model"], found["run"]["finished"], found["run"]["epochs"]) == ("tiny", True, 1)
    assert found["run"]["images"] == {"train": 2, "val": 1, "test": 1}
    assert found["data"]["images"] == {"train": 2, "val": 1, "test": 1}
    assert found["data"]["problems"] == []


def test_a_run_that_was_interrupted_at_once_can_be_described(made: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(made["run"], tmp_path / "run")
    for name in ("metrics.jsonl", "best.safetensors"):
        (run / name).unlink()
    with pytest.raises(RunError):
        info(run)
    (run / "run.json").write_text((run / "run.json").read_text().replace('"finished"', '"training"'))
    found = info(run)
    assert (found["finished"], found["epochs"], found["selected_epoch"]) == (False, 0, None)


def test_whole_artifacts_pass(made: dict[str, Path]) -> None:
    assert verify(made["cache"])["rows"] == 4
    assert verify(made["run"])["finished"] is True
    assert verify(made["data"])["images"] == 4


def test_a_flipped_byte_in_the_cache_is_found(made: dict[str, Path], tmp_path: Path) -> None:
    cache = shutil.copytree(made["cache"], tmp_path / "x.samcache")
    shard = max(cache.glob("*.safetensors"), key=lambda path: path.stat().st_size * (path.stem != "decoder"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptCacheError):
        verify(cache)


def test_all_that_is_wrong_with_a_cache_is_listed(made: dict[str, Path], tmp_path: Path) -> None:
    cache = shutil.copytree(made["cache"], tmp_path / "x.samcache")
    (shard,) = (path for path in cache.glob("*.safetensors") if path.stem != "decoder")
    for name in (shard.name, "decoder.safetensors"):
        (cache / name).write_bytes((cache / name).read_bytes()[:1000])
    with pytest.raises(CorruptCacheError) as caught:
        verify(cache)
    assert shard.name in str(caught.value)
    assert "decoder.safetensors" in str(caught.value)


def test_a_truncated_run_is_found(made: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(made["run"], tmp_path / "run")
    weights = run / "best.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="damaged"):
        verify(run)
    shutil.copy(made["run"] / "best.safetensors", weights)
    (run / "metrics.jsonl").write_text('{"epoch": 0')
    with pytest.raises(RunError, match="metrics"):
        verify(run)


def test_a_bad_pair_in_the_data_is_found(made: dict[str, Path], tmp_path: Path) -> None:
    data = shutil.copytree(made["data"], tmp_path / "data")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(data / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1\.png"):
        verify(data)


def test_segmenters_are_opened_from_whatever_holds_one(made: dict[str, Path]) -> None:
    from samfast.train import Run

    image = np.asarray(Image.open(made["data"] / "images" / "0.png"))
    by_name = open_segmenter("tiny", checkpoint=made["checkpoint"], device="cpu")
    assert by_name.embed([image]).frames[0].height == 40
    for model in (made["run"], str(made["run"]), Run(made["run"])):
        segmenter = open_segmenter(model, device="cpu")
        assert segmenter.name == "run"
        assert segmenter.contract.one_point == (), "a box run has trained no token for points"
        assert segmenter.embed([image]).frames[0].height == 40
    assert open_segmenter(by_name) is by_name


@pytest.mark.parametrize("model", ["vit_x", "runs/nothing", 3, None])
def test_what_is_no_model_is_an_error_that_lists_what_could_be(model: Any) -> None:
    with pytest.raises(ConfigError, match="run folder") as caught:
        open_segmenter(model)
    assert "vit_b" in str(caught.value)


def test_folders_that_are_no_models(made: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="embedding cache"):
        open_segmenter(made["cache"])
    with pytest.raises(ConfigError, match="neither a run nor a bundle"):
        open_segmenter(made["data"])
    with pytest.raises(ConfigError, match="a file"):
        open_segmenter(made["checkpoint"])
    with pytest.raises(CheckpointError):
        open_segmenter("vit_b")
