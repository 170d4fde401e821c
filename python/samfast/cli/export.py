"""``samfast export``: a model as others load it."""

from __future__ import annotations

from typing import Any

import click

import samfast
from samfast.cli.options import Verb, checkpoint_option, out_option, overwrite_option


@click.command(cls=Verb)
@click.argument("model")
@checkpoint_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "pth", "decoder", "hf"]),
    default="onnx",
    show_default=True,
    help="An ONNX bundle; segment_anything's checkpoint; the decoder alone; a transformers folder.",
)
@click.option("--push", metavar="USER/NAME", help="Publish it on the Hugging Face hub, with --format hf.")
@click.option("--private", is_flag=True, help="For its owner alone, with --push.")
@out_option
@overwrite_option
def export(model: str, kind: str, push: str | None, private: bool, **options: Any) -> None:
    """Export a run, or a base model, as what others load; it predicts the same masks."""
    if push is not None:
        if kind != "hf" or options["out"] is not None:
            raise click.UsageError("--push takes --format hf, and no --out")
        click.echo(samfast.push_to_hub(model, push, private=private, checkpoint=options["checkpoint"]))
    elif kind == "onnx":
        click.echo(samfast.export_onnx(model, **options).path)
    else:
        write = {"pth": samfast.export_checkpoint, "decoder": samfast.export_decoder, "hf": samfast.export_huggingface}
        click.echo(write[kind](model, **options))
