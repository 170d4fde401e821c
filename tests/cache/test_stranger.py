"""A stranger reads the cache with the safetensors package and the code that the document shows, and nothing else."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samfast import EmbeddingCache, cache_embeddings, load_dataset
from samfast.masks import Masks
from samfast.views import get_recipe, view_key

DOCUMENT = Path(__file__).parents[2] / "docs" / "cache-format.md"
ALONE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"samfast", "torch", "PIL", "cv2"}:
            raise ImportError(f"a stranger has no {name}")

sys.meta_path.insert(0, Nothing())
"""
TELL = """
import base64

folder, images = sys.argv[1], json.loads(sys.argv[2])
content = json.loads((Path(folder) / "cache.json").read_text("utf-8"))
recipes = [json.loads(path.read_text("utf-8")) for path in (Path(folder) / "views").glob("*.json")]
told = {"rows": [], "keys": {}}
for row in read_rows(folder):
    matrix = to_view(row, content["parts"]["preprocess"]["size"])
    height, width = row["size"].tolist()
    square = np.zeros((50, 70), bool)
    square[10:30, 20:60] = True
    told["rows"].append({
        "key": row["key"], "name": row["name"], "view": row["view"], "size": [height, width],
        "intact": is_intact(row), "mask": move_mask(square, matrix, height, width).astype(int).tolist(),
        "features": {
            name: [str(values.dtype), list(values.shape), base64.b64encode(values.tobytes()).decode()]
            for name, values in row["features"].items()
        },
    })
    next(iter(row["features"].values())).view(np.uint8).flat[3] ^= 4
    told["rows"][-1]["intact when bent"] = is_intact(row)
for name, path in images.items():
    key = image_key(Path(path).read_bytes(), content["decode"])
    (record,) = recipes
    told["keys"][name] = [key] + [view_key(key, record["recipe"], k) for k in range(1, record["views"])]
print(json.dumps(told))
"""


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), flags=re.M | re.S)


@pytest.fixture
def told(photos: Callable, small: Any, tmp_path: Path) -> tuple[dict[str, Any], Any, EmbeddingCache]:
    data = load_dataset(photos(names=["plain", "Überflutung 洪水", "a b+c"]))
    cache = cache_embeddings(
        data, model=small, out=tmp_path / "c", views=3, augment="aerial", seed=2, storage="float32", batch_size=1
    )
    script = tmp_path / "stranger.py"
    script.write_text("\n".join([ALONE, *blocks(), TELL]), "utf-8")
    images = json.dumps({sample.name: str(sample.path) for sample in data.samples})
    done = subprocess.run(
        [sys.executable, "-I", script, cache.path, images], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), data, cache


def test_the_document_shows_all_that_is_needed() -> None:
    assert len(blocks()) == 4
    assert not re.search(
        "samfast|torch", "".join(line for block in blocks() for line in re.findall("^(?:import|from).*", block, re.M))
    )


def test_a_stranger_reads_every_view_of_every_image(told: Any, small: Any) -> None:
    found, data, cache = told
    recipe = get_recipe("aerial").identity
    assert {row["key"] for row in found["rows"]} == set(cache.keys)
    assert len(found["rows"]) == 9
    by_key = {row["key"]: row for row in found["rows"]}
    square = np.zeros((50, 70), bool)
    square[10:30, 20:60] = True
    for sample in data.samples:
        keys = [view_key(sample.key, recipe, view) for view in range(3)]
        assert found["keys"][sample.name] == keys
        for view, (key, placement) in enumerate(zip(keys, cache.placements(keys), strict=True)):
            row = by_key[key]
            assert (row["name"], row["view"], tuple(row["size"])) == (sample.name, view, placement.size)
            assert row["intact"]
            assert not row["intact when bent"]
            moved = Masks.from_numpy(square).warp(placement.matrix, *placement.size).numpy()[0]
            np.testing.assert_array_equal(np.array(row["mask"], bool), moved)
        image = torch.from_numpy(small.spec.preprocess(data.image(sample)))[None]
        with torch.inference_mode():
            expected = small.encode(image)["image_embeddings"][0].numpy()
        dtype, shape, values = by_key[sample.key]["features"]["image_embeddings"]
        assert (dtype, tuple(shape)) == ("float32", expected.shape)
        assert values == base64.b64encode(expected.tobytes()).decode()


def test_what_the_document_calls_a_crc_is_one() -> None:
    space: dict[str, Any] = {}
    exec("\n".join(blocks()), space)
    assert space["crc32c"](b"123456789") == 0xE3069283
    assert space["crc32c"](b"6789", space["crc32c"](b"12345")) == 0xE3069283
