"""``samfast cache``, ``merge`` and ``prune``: the embedding cache made, and compacted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import (
    Verb,
    augment_option,
    data_options,
    device_option,
    echo,
    json_option,
    model_options,
    out_option,
    path_argument,
    root_argument,
    seed_option,
)


@click.command(cls=Verb)
@root_argument
@model_options
@data_options
@seed_option
@device_option
@out_option
@click.option("--storage", type=click.Choice(["float16", "float32"]), default="float16", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Of the computation; auto: that of the cache, else bf16 on a GPU that has it, else fp32.",
)
@click.option("--batch-size", type=click.IntRange(1), help="Images encoded at once, at most.")
@click.option("--compile", is_flag=True, help="Let torch.compile make the encoder faster first.")
@click.option("--views", type=click.IntRange(1), default=1, show_default=True, help="Embeddings of each image.")
@augment_option
def cache(
    root: Path,
    model: str | None,
    checkpoint: Path | None,
    device: str,
    out: Path | None,
    storage: Any,
    precision: str,
    batch_size: int | None,
    compile: bool,
    views: int,
    augment: str | None,
    **options: Any,
) -> None:
    """Encode every image once and keep the embeddings."""
    made = samfast.cache_embeddings(
        samfast.load_dataset(root, **options),
        model=model or "tiny",
        checkpoint=checkpoint,
        out=out,
        device=device,
        storage=storage,
        precision=precision,
        batch_size=batch_size,
        compile=compile,
        views=views,
        augment=augment or "light",
        seed=options["seed"],
    )
    click.echo(made.path)


@click.command(cls=Verb)
@path_argument
@json_option
def merge(path: Path, as_json: bool) -> None:
    """Compact an embedding cache: a few full shards instead of many small ones."""
    done = samfast.merge(path)
    echo(done, as_json, "{rows} rows in {shards} shards".format(**done))


@click.command(cls=Verb)
@path_argument
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def prune(path: Path, data: tuple[Path, ...], as_json: bool) -> None:
    """Drop from an embedding cache what none of the data sets DATA uses."""
    done = samfast.prune(path, data)
    echo(done, as_json, "{rows} rows in {shards} shards, {dropped_rows} dropped".format(**done))
