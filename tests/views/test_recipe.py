"""What a view is called: by its recipe, its image and its number, and by nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from samfast.errors import ConfigError
from samfast.views import PRESETS, Blur, Colour, Geometry, Recipe, Step, Views, get_recipe, view_key

KEY = hashlib.sha256(b"image").hexdigest()


def invert(image: Any, rng: Any) -> Any:
    return 255 - image


def test_the_identity_is_the_hash_of_what_the_recipe_says() -> None:
    recipe = PRESETS["aerial"]
    text = json.dumps(recipe.to_dict(), sort_keys=True, separators=(",", ":"))
    assert recipe.identity == hashlib.sha256(text.encode()).hexdigest()
    assert replace(recipe, name="mine").identity == recipe.identity
    assert len({preset.identity for preset in PRESETS.values()}) == len(PRESETS) == 4


@pytest.mark.parametrize(
    "other",
    [
        Recipe("r", Geometry(rotate_deg=6), (Colour(hue=0.1), Step("invert", 1, invert))),
        Recipe("r", Geometry(rotate_deg=5), (Colour(hue=0.2), Step("invert", 1, invert))),
        Recipe("r", Geometry(rotate_deg=5), (Colour(hue=0.1), Step("invert", 2, invert))),
        Recipe("r", Geometry(rotate_deg=5), (Step("invert", 1, invert), Colour(hue=0.1))),
        Recipe("r", Geometry(rotate_deg=5), (Colour(hue=0.1),)),
    ],
)
def test_another_recipe_is_another_identity(other: Recipe) -> None:
    recipe = Recipe("r", Geometry(rotate_deg=5), (Colour(hue=0.1), Step("invert", 1, invert)))
    assert other.identity != recipe.identity
    assert view_key(KEY, other.identity, 1) != view_key(KEY, recipe.identity, 1)


def test_a_new_version_of_samfasts_own_steps_is_another_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = PRESETS["medical"].identity
    monkeypatch.setattr(Blur, "version", 2)
    moved = PRESETS["medical"].identity
    monkeypatch.setattr(Geometry, "version", 2)
    assert len({before, moved, PRESETS["medical"].identity}) == 3


def test_the_key_of_a_view() -> None:
    recipe = PRESETS["light"].identity
    expected = hashlib.sha256(bytes.fromhex(KEY) + bytes.fromhex(recipe) + (3).to_bytes(4, "little")).hexdigest()
    assert view_key(KEY, recipe, 3) == expected
    assert view_key(KEY, recipe, 0) == KEY
    assert len({view_key(KEY, recipe, view) for view in range(50)}) == 50


class Named:
    name, version = "grey", "2024"

    def __call__(self, image: Any, rng: Any) -> Any:
        return image


def test_any_callable_with_a_name_and_a_version_is_a_recipe() -> None:
    assert get_recipe(Named()).to_dict()["photometric"] == [{"name": "grey", "version": "2024", "options": {}}]
    assert get_recipe("light") is PRESETS["light"]


@pytest.mark.parametrize("augment", [invert, lambda image, rng: image, 7, None, Step("", 1, invert)])
def test_a_callable_without_a_name_or_a_version_is_refused(augment: Any) -> None:
    with pytest.raises(ConfigError, match="no name and version"):
        get_recipe(augment)


def test_what_is_no_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match="light, aerial, weather, medical"):
        get_recipe("heavy")
    with pytest.raises(ConfigError, match="JSON"):
        Recipe("r", photometric=(Colour(brightness=1j),))  # type: ignore[arg-type]
    for count in (0, 10_000):
        with pytest.raises(ConfigError, match="views"):
            Views(PRESETS["light"], count)
