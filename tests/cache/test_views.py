"""Views in a cache: what lies in their rows, what they are called, and what of them is made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from samfast import EmbeddingCache, cache_embeddings, load_dataset
from samfast.cache import encode, merge, prune
from samfast.errors import ConfigError
from samfast.views import PRESETS, Geometry, Placement, Recipe, Step, view_key

TURNS = Recipe("turns", Geometry(flip_horizontal=0.5, flip_vertical=0.5, quarter_turns=True))
BY_HAND = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_270,
    (0, 1, -1, 0): Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""Which of Pillow's turns has these signs in its matrix."""


def keys_of(data: Any, recipe: Recipe, count: int) -> list[str]:
    return [view_key(sample.key, recipe.identity, view) for sample in data.samples for view in range(count)]


def test_a_view_embeds_what_the_encoder_sees_of_the_turned_image(photos: Callable, small: Any, tmp_path: Path) -> None:
    data = load_dataset(photos(6))
    cache = cache_embeddings(data, model=small, out=tmp_path / "c", views=6, augment=TURNS, storage="float32")
    keys = keys_of(data, TURNS, 6)
    assert sorted(keys) == cache.keys
    kinds = set()
    for index, (key, placement) in enumerate(zip(keys, cache.placements(keys), strict=True)):
        image = Image.fromarray(data.image(data.samples[index // 6]))
        signs = tuple(int(value) for value in np.round(placement.matrix[:2, :2].ravel()))
        kinds.add(signs)
        turn = BY_HAND[signs]
        turned = np.asarray(image if turn is None else image.transpose(turn))
        assert placement.size == turned.shape[:2]
        with torch.inference_mode():
            expected = small.encode(torch.from_numpy(small.spec.preprocess(turned))[None])["image_embeddings"][0]
        found = cache.read([key])["image_embeddings"][0]
        np.testing.assert_array_equal(found, expected.numpy())
        if turn is not None:  # and not what it sees of the image as it is
            plain = cache.read([data.samples[index // 6].key])["image_embeddings"][0]
            assert np.abs(plain - found).max() > 0.1
    assert len(kinds) == len(BY_HAND)


def test_rows_hold_the_realised_matrix_and_the_number_of_the_view(photos: Callable, small: Any, tmp_path: Path) -> None:
    data = load_dataset(photos(3))
    cache = cache_embeddings(data, model=small, out=tmp_path / "c", views=3, augment="medical", seed=5)
    (file,) = (path for path in (tmp_path / "c").glob("*.safetensors") if path.name != "decoder.safetensors")
    shard = load_file(file)
    assert shard["row.view"].tolist() == [0, 1, 2] * 3
    recipe = PRESETS["medical"]
    for row, key in enumerate(keys_of(data, recipe, 3)):
        sample, view = data.samples[row // 3], row % 3
        assert shard["row.key"][row].tobytes().hex() == key
        size = tuple(shard["row.size"][row].tolist())
        assert size == sample.size
        if view == 0:
            height, width = small.spec.resized(*size)
            expected = np.diag([width / size[1], height / size[0], 1])
            np.testing.assert_array_equal(shard["row.matrix"][row], expected)
        found = cache.placements([key])[0]
        again = Placement.from_model(shard["row.matrix"][row], size, small.spec)
        np.testing.assert_array_equal(found.matrix, again.matrix)
        assert np.allclose(found.matrix, np.eye(3)) == (view == 0)
    info = cache.info()
    assert (info["images"], info["rows"]) == (3, 9)
    assert info["views"] == [{"name": "medical", "views": 3, "seed": 5}]
    assert cache.recipe("medical") == recipe.identity


def test_views_do_not_depend_on_batches_order_or_what_else_is_made(
    photos: Callable, contents: Callable, small: Any, tmp_path: Path, shards_of: Callable
) -> None:
    root = photos(5)
    whole = contents(cache_embeddings(root, model=small, out=tmp_path / "a", views=4, augment="weather"))
    shards_of(3)
    cache_embeddings(
        load_dataset(root, limit=2), model=small, out=tmp_path / "b", views=2, augment="weather", batch_size=3
    )
    pieces = contents(cache_embeddings(root, model=small, out=tmp_path / "b", views=4, augment="weather", batch_size=2))
    assert pieces.keys() == whole.keys()
    for key, row in whole.items():
        one, other = (np.frombuffer(data, np.float16).astype(float) for data in (row, pieces[key]))
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)  # batches of other sizes round otherwise


def test_more_views_and_other_recipes_join_the_cache(
    photos: Callable, contents: Callable, small: Any, tmp_path: Path, encoded: SimpleNamespace
) -> None:
    root = photos(4)
    first = contents(cache_embeddings(root, model=small, out=tmp_path / "c"))
    made = [encoded.images]
    for options in (
        {"views": 3, "augment": "light"},
        {"views": 3, "augment": "light"},
        {"views": 3, "augment": "light", "seed": 9},
        {"views": 2, "augment": "aerial"},
        {"views": 4, "augment": "light"},
    ):
        encoded.images = 0
        cache = cache_embeddings(root, model=small, out=tmp_path / "c", **options)
        made.append(encoded.images)
    assert made == [4, 8, 0, 0, 4, 4]
    assert len(cache) == 4 * (1 + 3 + 1)
    now = contents(cache)
    assert {key: now[key] for key in first} == first
    cache.verify()


def test_a_file_is_decoded_once_for_all_its_views(
    photos: Callable, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, decoded = encode.decode_image, []

    def noting(*arguments: Any) -> Any:
        decoded.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(encode, "decode_image", noting)
    cache = cache_embeddings(photos(5), model=small, out=tmp_path / "c", views=4, batch_size=3)
    assert (len(cache), len(decoded)) == (20, 5)


def test_the_cost_is_said_before_the_work(
    photos: Callable, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("samfast.cache.job.Encoder.__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        cache_embeddings(photos(4), model=small, out=tmp_path / "c", views=5, augment="aerial")
    said = capsys.readouterr().err
    assert "5 views of each, aerial: 5 times the time and the disk" in said
    assert f"20 to encode: {20 * (32 * 8 * 8 * 2 + 256) / 1000:.1f} kB on disk" in said


def test_a_step_of_ones_own(photos: Callable, small: Any, tmp_path: Path) -> None:
    data = load_dataset(photos(3))
    invert = Step("invert", 1, lambda image, rng: 255 - image)
    cache = cache_embeddings(data, model=small, out=tmp_path / "c", views=2, augment=invert, storage="float32")
    recipe = Recipe("invert", photometric=(invert,))
    for sample in data.samples:
        (found,) = cache.read([view_key(sample.key, recipe.identity, 1)])["image_embeddings"]
        shown = 255 - small.spec.resize_image(data.image(sample))
        with torch.inference_mode():
            expected = small.encode(torch.from_numpy(small.spec.preprocess(shown))[None])["image_embeddings"][0]
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"views": 0}, "views"),
        ({"views": 2, "augment": "heavy"}, "heavy"),
        ({"views": 2, "augment": lambda image, rng: image}, "no name and version"),
        ({"views": 2, "augment": Step("crooked", 1, lambda image, rng: image[:-1])}, "'crooked'"),
    ],
)
def test_what_makes_no_views_is_refused(
    photos: Callable, small: Any, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        cache_embeddings(photos(2), model=small, out=tmp_path / "c", **options)


def test_an_image_that_cannot_be_decoded_is_listed_once(
    photos: Callable, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = photos(5)
    data = load_dataset(root)
    (root / "images" / "003.png").write_bytes(b"changed")
    cache_embeddings(data, model=small, out=tmp_path / "c", views=3, max_bad=0.2)
    assert "left out 1 images" in capsys.readouterr().err
    assert len(EmbeddingCache.open(tmp_path / "c")) == 4 * 3


def test_prune_keeps_the_views_of_the_images_that_stay(
    photos: Callable, contents: Callable, small: Any, tmp_path: Path
) -> None:
    stay, leave = photos(3, "stay"), photos(4, "leave")
    before = contents(cache_embeddings(stay, model=small, out=tmp_path / "c", views=3, augment="light"))
    cache_embeddings(leave, model=small, out=tmp_path / "c", views=2, augment="aerial")
    result = prune(tmp_path / "c", [stay])
    assert (result["rows"], result["dropped_rows"]) == (9, 8)
    assert contents(EmbeddingCache.open(tmp_path / "c")) == before
    merge(tmp_path / "c")
    after = EmbeddingCache.open(tmp_path / "c")
    assert contents(after) == before
    placed = [not np.allclose(placement.matrix, np.eye(3)) for placement in after.placements(after.keys)]
    assert sum(placed) == 6
