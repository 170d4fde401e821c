"""The recipes that come with samfast."""

from __future__ import annotations

from samfast.errors import ConfigError
from samfast.views.colour import Blur, Colour, Noise
from samfast.views.geometry import Geometry
from samfast.views.recipe import Photometric, Recipe
from samfast.views.weather import Fog, Glare, Rain

PRESETS = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "light",
            Geometry(flip_horizontal=0.5, rotate_deg=8, zoom=(0.9, 1.4)),
            (Colour(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),),
        ),
        Recipe(
            "aerial",
            Geometry(flip_horizontal=0.5, quarter_turns=True, rotate_deg=20, zoom=(0.8, 1.6)),
            (Colour(brightness=0.2, contrast=0.25, saturation=0.25, hue=0.03), Blur(), Fog(density=0.3)),
        ),
        Recipe(
            "weather",
            Geometry(flip_horizontal=0.5, rotate_deg=5, zoom=(0.9, 1.3)),
            (Colour(brightness=0.3, contrast=0.2, saturation=0.3), Fog(), Rain(), Glare(), Noise(sigma=6)),
        ),
        Recipe(
            "medical",
            Geometry(flip_horizontal=0.5, rotate_deg=15, zoom=(0.85, 1.3), shear_deg=5),
            (Colour(brightness=0.15, contrast=0.25, gamma=0.3), Blur(), Noise()),
        ),
    )
}


def get_recipe(augment: str | Recipe | Photometric) -> Recipe:
    """A recipe, the preset of that name, or a recipe of one step.

    Raises:
        ConfigError: it is none of these, such as a callable without a name and a version.
    """
    if isinstance(augment, Recipe):
        return augment
    if not isinstance(augment, str):
        return Recipe(getattr(augment, "name", ""), photometric=(augment,))
    if augment not in PRESETS:
        raise ConfigError(
            f"augment={augment!r} is no recipe", where="augment", fix=f"choose from {', '.join(PRESETS)}, or a Recipe"
        )
    return PRESETS[augment]
