"""``samfast sweep``: many trainings, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

import samfast
from samfast.cli.options import (
    Judging,
    cache_option,
    comma_list,
    data_options,
    device_option,
    load,
    model_options,
    out_option,
    run_argument,
    section,
    seed_option,
    selection_option,
    training_options,
)

EXIT_FAILED_CELLS = 1

matrix_options = section(
    "The matrix",
    click.option(
        "--set",
        "axes",
        multiple=True,
        metavar="NAME=VALUE,VALUE",
        help="A setting of a run's config.toml, and the values to try (repeatable): --set lr=1e-4,3e-4 --set"
        " loss.gamma=1,2. A value that holds a comma is quoted: --set 'regime=\"points:3,1\",box'.",
    ),
    click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each setting."),
    click.option("--folds", type=click.IntRange(2), help="Train each on so many folds of the train and val sets."),
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Trainings at a time; by default one a CPU core, or as many as fit into the GPU's memory.",
    ),
)


@click.command(cls=Judging)
@run_argument
@matrix_options
@model_options
@training_options
@data_options
@click.option("--prompts", callback=comma_list, help="Prompt kinds to compare by; those of the regimes by default.")
@selection_option
@seed_option
@device_option
@cache_option
@out_option
def sweep(root: Path | None, axes: tuple[str, ...], **options: Any) -> int:
    """Train every combination of settings from one cache; compare them on val, and judge the winner on test.

    Started again, also with other values, it keeps what is finished. The exit code is 1 where a training failed.
    """
    from samfast.train.settings import parse_axes

    parsed = parse_axes(axes)
    data = load(root, options, options["seed"])
    source = click.get_current_context().get_parameter_source
    given = {
        name: value
        for name, value in options.items()
        if name not in parsed or source(name) is not ParameterSource.DEFAULT
    }
    found = samfast.sweep(data, parsed, **given)
    click.echo(found.table())
    return EXIT_FAILED_CELLS if found.failed else 0
