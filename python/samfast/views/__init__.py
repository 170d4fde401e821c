"""Views: other looks of an image, encoded beside it, so that a decoder trained from disk sees varied images.

View 0 is the plain image. Every other view is placed by a matrix of samfast's own, which its masks follow exactly, and
then changed in colour and weather, which they need not follow.
"""

from samfast.views.colour import Blur, Colour, Noise
from samfast.views.geometry import Geometry, Placement
from samfast.views.image import draw_placement, view_image
from samfast.views.presets import PRESETS, get_recipe
from samfast.views.recipe import Recipe, Step, view_key
from samfast.views.samples import PlacedSample, Views, ViewSample, placed_sample
from samfast.views.targets import view_target
from samfast.views.weather import Fog, Glare, Rain

__all__ = [
    "PRESETS",
    "Blur",
    "Colour",
    "Fog",
    "Geometry",
    "Glare",
    "Noise",
    "PlacedSample",
    "Placement",
    "Rain",
    "Recipe",
    "Step",
    "ViewSample",
    "Views",
    "draw_placement",
    "get_recipe",
    "placed_sample",
    "view_image",
    "view_key",
    "view_target",
]
