"""``samfast train``: from cached embeddings to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import (
    Verb,
    cache_option,
    data_options,
    devices_options,
    load,
    model_options,
    out_option,
    overwrite_option,
    run_argument,
    set_option,
    settings,
    training_device_option,
    training_options,
    training_seed_option,
)


class Training(Verb):
    """A verb whose help ends with the recipes."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say where each of them comes from, and in what a run differs from that."""
        from samfast.train.recipes import RECIPES, recipe_source

        with formatter.section("Recipes"):
            formatter.write_dl([(recipe, recipe_source(recipe)) for recipe in RECIPES])


@click.command(cls=Training)
@run_argument
@model_options
@training_options
@devices_options
@set_option
@data_options
@training_seed_option
@training_device_option
@cache_option
@out_option
@overwrite_option
def train(root: Path | None, **options: Any) -> None:
    """Train the mask decoder from cached embeddings."""
    options = settings(options)
    data = load(root, options, options["seed"])
    click.echo(samfast.train_decoder(data, **options).path)
