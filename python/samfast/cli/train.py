"""``samfast train``: from cached embeddings to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import (
    cache_option,
    data_options,
    device_option,
    load,
    model_options,
    out_option,
    overwrite_option,
    root_argument,
    seed_option,
    training_options,
)


@click.command()
@root_argument
@model_options
@training_options
@data_options
@seed_option
@device_option
@cache_option
@out_option
@overwrite_option
def train(root: Path, seed: int, **options: Any) -> None:
    """Train the mask decoder from cached embeddings."""
    click.echo(samfast.train_decoder(load(root, options, seed), seed=seed, **options).path)
