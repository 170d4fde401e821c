"""``samfast tune`` and ``samfast quickstart``: every stage in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import (
    Judging,
    cache_option,
    data_options,
    device_option,
    load,
    model_options,
    out_option,
    overwrite_option,
    prompts_option,
    root_argument,
    seed_option,
    selection_option,
    training_options,
)


@click.command(cls=Judging)
@root_argument
@model_options
@training_options
@data_options
@seed_option
@device_option
@cache_option
@prompts_option
@selection_option
@out_option
@overwrite_option
def tune(root: Path, seed: int, **options: Any) -> None:
    """All of it: cache, train, evaluate, report and ONNX, from one folder of annotated images."""
    click.echo(samfast.tune(load(root, options, seed), seed=seed, **options).summary())


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("samfast-quickstart"), show_default=True)
@seed_option
@overwrite_option
def quickstart(**options: Any) -> None:
    """The whole road on generated flood scenes with the embedded model: offline, a few minutes on a laptop."""
    click.echo(samfast.quickstart(**options).summary())
