"""What an encoder is shown of a view: the image placed, resized for the model, and changed step by step."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow

from samfast.errors import ConfigError
from samfast.frames import PreprocessSpec
from samfast.prompts import draw_keys
from samfast.views.geometry import Placement
from samfast.views.recipe import Image, Recipe
from samfast.views.targets import covered


def draw_placement(recipe: Recipe, size: tuple[int, int], *, seed: int, image_key: str, view: int) -> Placement:
    """Where view ``view`` of an image shows it.

    Args:
        recipe: how views are made.
        size: (height, width) of the image.
        seed: of the draws.
        image_key: row key of the plain image.
        view: number of the view, from 1.
    """
    return recipe.geometry.draw(_stream(seed, image_key, view, "geometry"), *size)


def view_image(
    image: Image, recipe: Recipe, placement: Placement, spec: PreprocessSpec, *, seed: int, image_key: str, view: int
) -> Image:
    """A view of an image as :meth:`~samfast.frames.PreprocessSpec.preprocess` takes it: it only normalises and pads.

    The steps see the image at the size the model sees it. What lies off the image is of the colour that the model pads
    with. The same arguments give the same pixels, whatever else is made before, after or beside it.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, original frame.
        recipe: how views are made.
        placement: of this view, see :func:`draw_placement`.
        spec: the model's preprocessing.
        seed: of the draws.
        image_key: row key of the plain image.
        view: number of the view, from 1.

    Returns:
        ``(h, w, 3)`` uint8 RGB of :meth:`~samfast.frames.PreprocessSpec.resized` size.

    Raises:
        ConfigError: a step returns another shape or dtype.
    """
    background = np.clip(np.round(spec.mean), 0, 255).astype(np.uint8)
    shown = spec.resize_image(_place(image, placement, background))
    for number, step in enumerate(recipe.photometric):
        before = shown.shape
        shown = np.asarray(step(shown.copy(), _stream(seed, image_key, view, f"{number} {step.name}")))
        if shown.shape != before or shown.dtype != np.uint8:
            raise ConfigError(
                f"the step {step.name!r} turned uint8 of shape {before} into {shown.dtype} of shape {shown.shape}",
                where="augment",
                fix="a photometric step moves nothing: it keeps shape and dtype; what moves pixels is a Geometry",
            )
    on_image = covered(image.shape[:2], placement.to_model(spec), shown.shape[:2])
    return np.where(on_image[..., None], shown, background)


def _place(image: Image, placement: Placement, background: Image) -> Image:
    """The image in its view frame, bilinear."""
    a, b, c, d, e, f = np.linalg.inv(placement.matrix)[:2].ravel().tolist()
    placed = Pillow.fromarray(image).transform(
        (placement.width, placement.height),
        Pillow.Transform.AFFINE,
        (a, b, c, d, e, f),
        Pillow.Resampling.BILINEAR,
        fillcolor=tuple(background.tolist()),
    )
    return np.asarray(placed)


def _stream(seed: int, image_key: str, view: int, part: str) -> np.random.Generator:
    """The random numbers of one part of one view: those of no other."""
    key = draw_keys(seed, image_key, [part], draw=view)[0]
    return np.random.Generator(np.random.Philox(key=int(key)))
