"""``samfast evaluate``: judge models on held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import (
    Judging,
    checkpoint_option,
    device_option,
    out_option,
    overwrite_option,
    prompts_option,
    seed_option,
    selection_option,
)


@click.command(cls=Judging)
@click.argument("models", nargs=-1, required=True)
@click.option("--data", "root", type=click.Path(path_type=Path), help="The data; that of the run if left out.")
@click.option("--on", default="test", show_default=True, help="The set to judge on: train, val or test.")
@checkpoint_option
@click.option("--cache", type=click.Path(path_type=Path), help="A .samcache that holds the images' embeddings.")
@prompts_option
@selection_option
@seed_option
@device_option
@out_option
@overwrite_option
def evaluate(models: tuple[str, ...], root: Path | None, **options: Any) -> None:
    """Judge models, runs and ONNX bundles with the same prompts on the same images."""
    click.echo(samfast.evaluate(list(models), root, **options).table())
