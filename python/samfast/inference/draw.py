"""Overlays: masks in distinct colours with their contours, and the prompts that asked for them, on an image."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samfast.errors import ConfigError
from samfast.masks import Masks
from samfast.prompts import PADDING, POSITIVE, Prompts

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (0, 140, 255),
    (255, 122, 0),
    (0, 190, 110),
    (232, 48, 168),
    (250, 206, 20),
    (138, 84, 246),
    (0, 200, 214),
    (226, 52, 48),
    (150, 206, 40),
    (176, 112, 64),
)
"""Colours of the first objects: far apart from one another, and rare in photographs."""
GOLDEN_RATIO = 0.618034
"""Steps of this size around the colour wheel never come near to where they were."""

PIXELS_PER_LINE = 480
"""Pixels of the longest side for each pixel of line width: lines look alike on small and on large images."""

HALO: Colour = (16, 18, 22)
WHITE: Colour = (255, 255, 255)
POSITIVE_FILL: Colour = (22, 163, 74)
NEGATIVE_FILL: Colour = (220, 38, 38)


def overlay(
    image: NDArray[np.uint8],
    masks: Masks,
    opacity: float = 0.5,
    prompts: Prompts | None = None,
    contours: bool = True,
) -> NDArray[np.uint8]:
    """Draw masks, and the prompts they answer, on a copy of an image.

    Large masks are drawn first, so that a small one on top of them stays visible.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, original frame.
        masks: ``N`` masks of the image's size; mask ``i`` has the colour ``colour(i)``.
        opacity: of the fill, 0 (contours alone) to 1.
        prompts: original frame, on image 0. Foreground points are green with a plus, background points red with a
            minus; a box is white where it is the only prompt, and else of the colour of the mask at its position.
        contours: draw each mask's outline.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        ConfigError: the opacity is not within 0 and 1, or the masks are not of the image's size.
    """
    height, width = image.shape[:2]
    if not 0.0 <= opacity <= 1.0:
        raise ConfigError(f"an opacity of {opacity} is not within 0 and 1", where="opacity")
    if (masks.height, masks.width) != (height, width):
        raise ConfigError(f"masks of {masks.width}x{masks.height} pixels do not fit an image of {width}x{height}")
    drawn = np.array(image, np.uint8)
    line_px = line_width_px(height, width)
    boxes = masks.boxes().astype(np.int64)
    areas = masks.area()
    for index in np.argsort(-areas, kind="stable"):
        if areas[index] > 0:
            _draw_mask(drawn, masks[int(index)], boxes[index], colour(int(index)), opacity, line_px if contours else 0)
    return drawn if prompts is None or len(prompts) == 0 else _draw_prompts(drawn, prompts, line_px)


def colour(index: int) -> Colour:
    """The colour of the object at a position, the same in every picture.

    >>> colour(0)
    (0, 140, 255)
    """
    if index < len(PALETTE):
        return PALETTE[index]
    step = index - len(PALETTE) + 1
    red, green, blue = colorsys.hsv_to_rgb(step * GOLDEN_RATIO % 1.0, 0.9 - 0.3 * (step % 2), 0.98 - 0.2 * (step % 3))
    return round(red * 255), round(green * 255), round(blue * 255)


def line_width_px(height: int, width: int) -> int:
    """The line width that suits an image of this size.

    >>> line_width_px(219, 330), line_width_px(3456, 5184)
    (1, 11)
    """
    return max(1, round(max(height, width) / PIXELS_PER_LINE))


def _draw_mask(
    image: NDArray[np.uint8], mask: Masks, box: NDArray[np.int64], fill: Colour, opacity: float, line_px: int
) -> None:
    """Draw one mask in place; only its box, and a margin for the outline, is looked at."""
    xmin, ymin = np.maximum(box[:2] - line_px, 0)
    xmax, ymax = box[2:] + line_px + 1
    window = image[ymin:ymax, xmin:xmax]
    inside = mask.numpy()[0, ymin:ymax, xmin:xmax]
    outline = inside & ~_erode(inside, line_px) if line_px else np.zeros_like(inside)
    levels = np.arange(256)
    for channel, value in enumerate(fill):
        blended = (levels * (1.0 - opacity) + value * opacity + 0.5).astype(np.uint8)
        plane = window[..., channel]
        np.copyto(plane, blended[plane], where=inside)
        np.copyto(plane, np.uint8(value), where=outline)


def _erode(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """``(H, W)``: the pixels whose square neighbourhood is all foreground; what lies off the image counts as such."""
    for axis in (0, 1):
        padding = [(radius_px, radius_px) if each == axis else (0, 0) for each in (0, 1)]
        mask = np.pad(mask, padding, constant_values=True).swapaxes(0, axis)
        reach, window = 1, 2 * radius_px + 1
        while reach < window:
            step = min(reach, window - reach)
            mask = mask[:-step] & mask[step:]
            reach += step
        mask = mask.swapaxes(0, axis)
    return mask


def _draw_prompts(image: NDArray[np.uint8], prompts: Prompts, line_px: int) -> NDArray[np.uint8]:
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    has_box = prompts.has_box
    for index in np.flatnonzero(has_box):
        _draw_box(pen, prompts.boxes[index], WHITE if len(prompts) == 1 else colour(int(index)), line_px)
    for points, labels in zip(prompts.points, prompts.labels, strict=True):
        for (x, y), label in zip(points, labels, strict=True):
            if label != PADDING:
                _draw_point(pen, float(x), float(y), bool(label == POSITIVE), line_px)
    return np.asarray(canvas)


def _draw_box(pen: ImageDraw.ImageDraw, box: NDArray[np.float32], fill: Colour, line_px: int) -> None:
    xmin, ymin, xmax, ymax = (float(value) for value in box)
    stroke = line_px + 1
    pen.rectangle(
        (xmin - line_px, ymin - line_px, xmax + line_px, ymax + line_px), outline=HALO, width=stroke + 2 * line_px
    )
    pen.rectangle((xmin, ymin, xmax, ymax), outline=fill, width=stroke)


def _draw_point(pen: ImageDraw.ImageDraw, x: float, y: float, is_positive: bool, line_px: int) -> None:
    """A disc with a white rim, and a plus or minus in it that tells the label without its colour."""
    radius = 5 * line_px + 2
    rim = radius + line_px
    halo = rim + line_px
    for reach, shade in ((halo, HALO), (rim, WHITE), (radius, POSITIVE_FILL if is_positive else NEGATIVE_FILL)):
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=shade)
    arm, half = radius * 0.6, (line_px - 1) / 2 + 0.5 * (line_px > 1)
    pen.rectangle((x - arm, y - half, x + arm, y + half), fill=WHITE)
    if is_positive:
        pen.rectangle((x - half, y - arm, x + half, y + arm), fill=WHITE)
