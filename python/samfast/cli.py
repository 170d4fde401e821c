"""The command line: parses, calls the public function of the same name, prints."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

import samfast
from samfast.errors import DataError, OutputExistsError, SamfastError, explain_missing

F = TypeVar("F", bound=Callable[..., Any])

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

_KINDS = re.compile(r"(point|box|none|auto)(~[^,]*)?(,|$)")

CONTINUES = {"cache", "train", "tune", "quickstart"}
"""The verbs that go on where they were interrupted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors samfast raises on purpose are printed without a traceback."""
    warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
    try:
        code = _run(arguments)
    except SamfastError as error:
        click.echo(f"error: {error}", err=True)
        code = EXIT_ERROR
    except OSError as error:
        click.echo(f"error: {error.strerror or error}\n  in: {error.filename or 'the file system'}", err=True)
        code = EXIT_ERROR
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        verb = next((word for word in (sys.argv[1:] if arguments is None else arguments) if word in CONTINUES), None)
        way_on = f"; the same `samfast {verb}` goes on from there" if verb else ""
        click.echo(f"\ninterrupted: what was finished is kept{way_on}", err=True)
        code = EXIT_INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _run(arguments: Sequence[str] | None) -> Any:
    try:
        return cli.main(None if arguments is None else list(arguments), prog_name="samfast", standalone_mode=False)
    except ModuleNotFoundError as error:
        raise explain_missing(error) from None


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _comma_list(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [item.strip() for item in value.split(",") if item.strip()]


def _merge(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> Any:
    if not values:
        return None
    if values == ("all",):
        return "all"
    merged = {}
    for value in values:
        name, equals, classes = value.partition("=")
        if not equals:
            raise click.BadParameter(f"{value!r} is neither 'all' nor NEW=OLD1,OLD2")
        merged[name] = classes.split(",")
    return merged


def _numbers(count: int) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[list[float]] | None]:
    def parse(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[list[float]] | None:
        rows = []
        for value in values:
            try:
                row = [float(number) for number in value.split(",")]
            except ValueError:
                row = []
            if len(row) != count:
                raise click.BadParameter(f"{value!r} is not {count} numbers with commas between them")
            rows.append(row)
        return rows or None

    return parse


_root = click.argument("root", type=click.Path(path_type=Path))
_data = _options(
    click.option("--classes", callback=_comma_list, help="Keep these classes only: NAME,NAME."),
    click.option("--merge", multiple=True, callback=_merge, help="NEW=OLD1,OLD2 (repeatable), or 'all' for one class."),
    click.option("--limit", type=click.IntRange(1), help="Use this many images only (always the same ones)."),
    click.option(
        "--target",
        type=click.Choice(["auto", "instance", "component", "class"]),
        default="auto",
        show_default=True,
        help="What one mask stands for.",
    ),
    click.option("--group", default="auto", show_default=True, help="Column of metadata.csv that names the group."),
    click.option("--max-bad", type=float, default=0.05, show_default=True, help="Stop above this share of bad pairs."),
    click.option("--strict", is_flag=True, help="Stop at the first bad pair."),
)
_path = click.argument("path", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Say what was done as JSON.")
_seed = click.option("--seed", type=int, default=0, show_default=True, help="Seed of splits, prompts and order.")
_device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
_model = _options(
    click.option("--model", default="tiny", show_default=True, help="tiny, vit_b, vit_l or vit_h."),
    click.option("--checkpoint", type=click.Path(path_type=Path), help="The model's official checkpoint (.pth)."),
)
_augment = click.option(
    "--augment", help="How the other views are made: light (the default), aerial, weather, medical."
)
_out = click.option("--out", type=click.Path(path_type=Path), help="Where to write; a readable name is made otherwise.")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
_training = _options(
    click.option(
        "--regime",
        help="Prompts to train on: point, box, center, points:3,1, several joined by + or &, clicks:8, sam;"
        " point+box where the recipe names none.",
    ),
    click.option(
        "--recipe",
        default="default",
        show_default=True,
        help="default, flood-study, finestsam, lightning-sam, medsam, sam; or a run's config.toml.",
    ),
    click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's."),
    click.option("--lr", type=float, help="Learning rate, instead of the recipe's."),
    click.option("--batch-size", type=click.IntRange(1), help="Images a step, instead of the recipe's."),
    click.option("--views", type=click.IntRange(1), help="Encoded views of each image to train on, in turn: 1."),
    _augment,
)
_prompts = click.option(
    "--prompts",
    default="point,box",
    show_default=True,
    callback=_comma_list,
    help="Prompt kinds to judge by, with commas or spaces between them.",
)
_selection = click.option(
    "--selection",
    type=click.Choice(["single", "best-predicted"]),
    default="single",
    show_default=True,
    help="Which mask token answers.",
)


class _Judging(click.Command):
    """A verb with ``--prompts``, which takes every prompt kind that follows it, up to anything else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        joined: list[str] = []
        for arg in args:
            is_value = "--prompts" in joined[-2:-1] or (joined and joined[-1].startswith("--prompts="))
            if is_value and _KINDS.match(arg):
                joined[-1] += f",{arg}"
            else:
                joined.append(arg)
        return super().parse_args(ctx, joined)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="samfast")
def cli() -> None:
    """Encode every image once, train the Segment Anything decoder from disk, know whether it worked, ship it."""


@cli.command()
@_root
@_data
@_seed
@click.option("--views", type=click.IntRange(1), help="Draw so many views of a few images, with their masks: a PNG.")
@_augment
@click.option("--model", default="vit_b", show_default=True, help="Whose input the views are drawn as.")
@click.option("--out", type=click.Path(path_type=Path), help="The PNG; DATA-AUGMENT-views.png otherwise.")
@_overwrite
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


@cli.command()
@_root
@_model
@_data
@_seed
@_device
@_out
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
@_augment
def cache(
    root: Path,
    model: str,
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
        model=model,
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


@cli.command()
@_root
@_model
@_training
@_data
@_seed
@_device
@click.option("--cache", type=click.Path(path_type=Path), help="The .samcache to train from; made if it is not there.")
@_out
@_overwrite
def train(root: Path, seed: int, **options: Any) -> None:
    """Train the mask decoder from cached embeddings."""
    click.echo(samfast.train_decoder(_load(root, options, seed), seed=seed, **options).path)


@cli.command(cls=_Judging)
@click.argument("models", nargs=-1, required=True)
@click.option("--data", "root", type=click.Path(path_type=Path), help="The data; that of the run if left out.")
@click.option("--on", default="test", show_default=True, help="The set to judge on: train, val or test.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The base model's official checkpoint (.pth).")
@click.option("--cache", type=click.Path(path_type=Path), help="A .samcache that holds the images' embeddings.")
@_prompts
@_selection
@_seed
@_device
@_out
@_overwrite
def evaluate(models: tuple[str, ...], root: Path | None, **options: Any) -> None:
    """Judge models, runs and ONNX bundles with the same prompts on the same images."""
    click.echo(samfast.evaluate(list(models), root, **options).table())


@cli.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The base model's official checkpoint (.pth).")
@click.option("--box", multiple=True, callback=_numbers(4), help="xmin,ymin,xmax,ymax in pixels (repeatable).")
@click.option("--point", multiple=True, callback=_numbers(2), help="x,y in pixels (repeatable).")
@click.option("--prompts", type=click.Path(path_type=Path), help="CSV or JSON with prompts for each image.")
@click.option("--save", default="overlay", show_default=True, callback=_comma_list, help="overlay, png, coco.")
@click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the overlay.")
@_selection
@_device
@_out
@_overwrite
def predict(model: str, images: tuple[Path, ...], **options: Any) -> None:
    """Segment images with a model, a run or an ONNX bundle."""
    results = samfast.predict(model, list(images), **options)
    click.echo(f"{len(results)} images segmented")


@cli.command()
@click.argument("model")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The base model's official checkpoint (.pth).")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "pth", "decoder", "hf"]),
    default="onnx",
    show_default=True,
    help="An ONNX bundle; segment_anything's checkpoint; the decoder alone; a transformers folder.",
)
@_out
@_overwrite
def export(model: str, kind: str, **options: Any) -> None:
    """Export a run, or a base model, as what others load; it predicts the same masks."""
    if kind == "onnx":
        click.echo(samfast.export_onnx(model, **options).path)
    else:
        write = {"pth": samfast.export_checkpoint, "decoder": samfast.export_decoder, "hf": samfast.export_huggingface}
        click.echo(write[kind](model, **options))


@cli.command(cls=_Judging)
@_root
@_model
@_training
@_data
@_seed
@_device
@click.option("--cache", type=click.Path(path_type=Path), help="The .samcache to train from; made if it is not there.")
@_prompts
@_selection
@_out
@_overwrite
def tune(root: Path, seed: int, **options: Any) -> None:
    """All of it: cache, train, evaluate, report and ONNX, from one folder of annotated images."""
    click.echo(samfast.tune(_load(root, options, seed), seed=seed, **options).summary())


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("samfast-quickstart"), show_default=True)
@_seed
@_overwrite
def quickstart(**options: Any) -> None:
    """The whole road on generated flood scenes with the embedded model: offline, a few minutes on a laptop."""
    click.echo(samfast.quickstart(**options).summary())


@cli.command()
@_path
def info(path: Path) -> None:
    """Say what an artifact is: a cache, a run, an ONNX bundle."""
    _echo(samfast.info(path), True, "")


@cli.command()
@_path
@_json
def verify(path: Path, as_json: bool) -> None:
    """Check that an artifact is whole; the exit code says so."""
    _echo(samfast.verify(path), as_json, f"{path}: whole")


@cli.command()
@_path
@_json
def merge(path: Path, as_json: bool) -> None:
    """Compact an embedding cache: a few full shards instead of many small ones."""
    done = samfast.merge(path)
    _echo(done, as_json, "{rows} rows in {shards} shards".format(**done))


@cli.command()
@_path
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@_json
def prune(path: Path, data: tuple[Path, ...], as_json: bool) -> None:
    """Drop from an embedding cache what none of the data sets DATA uses."""
    done = samfast.prune(path, data)
    _echo(done, as_json, "{rows} rows in {shards} shards, {dropped_rows} dropped".format(**done))


def _echo(content: dict[str, Any], as_json: bool, line: str) -> None:
    """Print what a verb did, for programs or for people."""
    import json

    click.echo(json.dumps(content, indent=2, default=str) if as_json else line)


def _load(root: Path, options: dict[str, Any], seed: int) -> Any:
    """The data set at ``root``, taking the options that describe it out of ``options``."""
    names = ("classes", "merge", "limit", "target", "group", "max_bad", "strict")
    return samfast.load_dataset(root, seed=seed, **{name: options.pop(name) for name in names})


if __name__ == "__main__":
    main()
