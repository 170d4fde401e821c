"""``samfast tune`` and ``samfast quickstart``: every stage in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import (
    Judging,
    Verb,
    cache_option,
    data_options,
    load,
    model_options,
    out_option,
    overwrite_option,
    prompts_option,
    run_argument,
    seed_option,
    selection_option,
    set_option,
    settings,
    training_device_option,
    training_options,
    training_seed_option,
)


@click.command(cls=Judging)
@run_argument
@model_options
@training_options
@set_option
@data_options
@training_seed_option
@training_device_option
@cache_option
@prompts_option
@selection_option
@out_option
@overwrite_option
def tune(root: Path | None, **options: Any) -> None:
    """All of it: cache, train, evaluate, report and ONNX, from one folder of annotated images."""
    options = settings(options)
    data = load(root, options, options["seed"])
    click.echo(samfast.tune(data, **options).summary())


@click.command(cls=Verb)
@click.option("--out", type=click.Path(path_type=Path), default=Path("samfast-quickstart"), show_default=True)
@seed_option
@overwrite_option
def quickstart(**options: Any) -> None:
    """The whole road on generated flood scenes with the embedded model: offline, a few minutes on a laptop."""
    click.echo(samfast.quickstart(**options).summary())
