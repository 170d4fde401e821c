"""``samfast info`` and ``samfast verify``: what an artifact is, and whether it is whole."""

from __future__ import annotations

from pathlib import Path

import click

import samfast
from samfast.cli.options import Verb, echo, json_option, path_argument


@click.command(cls=Verb)
@path_argument
def info(path: Path) -> None:
    """Say what an artifact is: a cache, a run, an ONNX bundle."""
    echo(samfast.info(path), True, "")


@click.command(cls=Verb)
@path_argument
@json_option
def verify(path: Path, as_json: bool) -> None:
    """Check that an artifact is whole; the exit code says so."""
    echo(samfast.verify(path), as_json, f"{path}: whole")
