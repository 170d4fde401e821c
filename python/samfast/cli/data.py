"""``samfast data``: look at a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import samfast
from samfast.cli.options import Verb, augment_option, data_options, overwrite_option, root_argument, seed_option
from samfast.errors import DataError, OutputExistsError


@click.command(cls=Verb)
@root_argument
@data_options
@seed_option
@click.option("--views", type=click.IntRange(1), help="Draw so many views of a few images, with their masks: a PNG.")
@augment_option
@click.option("--model", default="vit_b", show_default=True, help="Whose input the views are drawn as.")
@click.option("--out", type=click.Path(path_type=Path), help="The PNG; DATA-AUGMENT-views.png otherwise.")
@overwrite_option
def data(
    root: Path,
    max_bad: float,
    strict: bool,
    views: int | None,
    augment: str | None,
    model: str,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Look at a data set: its layout, its statistics, what is wrong with it, and how its views would look."""
    from samfast.data import describe

    dataset = samfast.load_dataset(root, max_bad=1.0, **options)
    click.echo(describe(dataset))
    bad = len({problem.name for problem in dataset.problems if problem.excluded})
    total = bad + len(dataset)
    if bad > (0 if strict else max_bad * total):
        raise DataError(
            f"{bad} of {total} images cannot be used: training would stop here",
            where=root,
            fix="mend or remove these files, or raise --max-bad to leave them out",
        )
    if views is not None:
        from samfast.cache.outputs import write_output
        from samfast.models.architecture import get_architecture
        from samfast.views import Views, get_recipe
        from samfast.views.sheet import view_sheet

        wanted = Views(get_recipe(augment or "light"), views, options["seed"])
        out = out or Path(f"{dataset.root.resolve().name}-{wanted.recipe.name}-views.png")
        if out.exists() and not overwrite:
            raise OutputExistsError("there is a file already", where=out, fix="--overwrite, or another --out")
        write_output(out, view_sheet(dataset, wanted, get_architecture(model).spec))
        click.echo(out)
