"""A picture for people: images down, their views across, with what is annotated on them."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.errors import DataError
from samfast.frames import PreprocessSpec
from samfast.inference.draw import overlay
from samfast.masks import Masks
from samfast.views.geometry import Placement
from samfast.views.recipe import Image
from samfast.views.samples import Views, ViewSample
from samfast.views.targets import view_target

MOST_IMAGES = 4
PANEL_PX = 320
GAP_PX = 6
CAPTION_PX = 16
PAPER = (255, 255, 255)
INK = (31, 41, 51)


def view_sheet(dataset: Dataset, views: Views, spec: PreprocessSpec, *, most_images: int = MOST_IMAGES) -> bytes:
    """Every view of a few images, as the encoder would see it, with the masks that would be trained on.

    Args:
        dataset: whose annotated images these are; always the same ones, spread over the data.
        views: what is made of them.
        spec: of the model.
        most_images: how many.

    Returns:
        a PNG.

    Raises:
        DataError: no image is annotated, or one cannot be read.
    """
    labelled = sorted((one for one in dataset.samples if one.state == "labelled"), key=lambda one: one.key)
    if not labelled:
        raise DataError("no image is annotated: there is nothing to see views of", where=dataset.root)
    rows = [_row(dataset, sample, views, spec) for sample in labelled[:most_images]]
    sheet = np.full((sum(map(len, rows)), max(row.shape[1] for row in rows), 3), PAPER, np.uint8)
    top = 0
    for row in rows:
        sheet[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    file = io.BytesIO()
    Pillow.fromarray(sheet).save(file, "PNG")
    return file.getvalue()


def _row(dataset: Dataset, sample: Sample, views: Views, spec: PreprocessSpec) -> Image:
    panels = [_panel(dataset, one, views, spec) for one in views.samples([sample])]
    height = max(len(panel) for panel in panels) + CAPTION_PX + GAP_PX
    canvas = Pillow.new("RGB", (sum(panel.shape[1] + GAP_PX for panel in panels), height), PAPER)
    pen, left = ImageDraw.Draw(canvas), 0
    for number, panel in enumerate(panels):
        caption = sample.name if number == 0 else f"{views.recipe.name} {number}"
        pen.text((left, 2), _shortened(caption, panel.shape[1] // 7), fill=INK)
        canvas.paste(Pillow.fromarray(panel), (left, CAPTION_PX))
        left += panel.shape[1] + GAP_PX
    return np.asarray(canvas)


def _panel(dataset: Dataset, sample: ViewSample, views: Views, spec: PreprocessSpec) -> NDArray[np.uint8]:
    shown = spec.resize_image(views.image(dataset.image(sample), sample, spec))
    height, width = shown.shape[:2]
    whole = dataset.target(sample)
    target = view_target(whole, Placement(views.placement(sample).to_model(spec), height, width))
    # An object keeps its colour where others before it are dropped: those are drawn as nothing.
    place = {name: number for number, name in enumerate(target.ids)}
    masks = Masks.concatenate([target.masks, Masks.from_numpy(np.zeros((height, width), bool))])
    masks = masks[[place.get(name, len(place)) for name in whole.ids]]
    drawn = Pillow.fromarray(overlay(shown, masks, opacity=0.35))
    scale = PANEL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(drawn.resize(size, Pillow.Resampling.LANCZOS))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"...{text[3 - most :]}"
