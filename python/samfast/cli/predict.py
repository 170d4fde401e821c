"""``samfast predict``: segment images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import (
    Verb,
    checkpoint_option,
    comma_list,
    device_option,
    numbers,
    out_option,
    overwrite_option,
    selection_option,
)


@click.command(cls=Verb)
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@checkpoint_option
@click.option("--box", multiple=True, callback=numbers(4), help="xmin,ymin,xmax,ymax in pixels (repeatable).")
@click.option("--point", multiple=True, callback=numbers(2), help="x,y in pixels (repeatable).")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="CSV or JSON with prompts for each image; a run of regime none needs none.",
)
@click.option("--save", default="overlay", show_default=True, callback=comma_list, help="overlay, png, coco.")
@click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the overlay.")
@selection_option
@device_option
@out_option
@overwrite_option
def predict(model: str, images: tuple[Path, ...], **options: Any) -> None:
    """Segment images with a model, a run or an ONNX bundle."""
    results = samfast.predict(model, list(images), **options)
    click.echo(f"{len(results)} images segmented")
