"""Options that several verbs share, and how their values are parsed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

import samfast
from samfast.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_KINDS = re.compile(r"(point|box|none|auto)(~[^,]*)?(,|$)")


def section(title: str, *options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, under a title of their own in the help of a :class:`Verb`."""

    def decorate(function: F) -> F:
        params = vars(function).setdefault("__click_params__", [])
        before = len(params)
        for option in reversed(options):
            function = option(function)
        for param in params[before:]:
            param.section = title
        return function

    return decorate


class Verb(click.Command):
    """A command whose help shows the options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections in the order in which the options were declared, those without one at the end."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        if own := sections.pop("Options", None):
            sections["Options"] = own
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def comma_list(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    """The items of ``A,B``."""
    return None if value is None else [item.strip() for item in value.split(",") if item.strip()]


def _batch_size(_: click.Context, __: click.Parameter, value: str | None) -> int | str | None:
    """A number, or ``auto``."""
    return int(value) if value is not None and value.isdecimal() else value


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


def numbers(count: int) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[list[float]] | None]:
    """Rows of ``count`` numbers, each ``A,B``."""

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


training_seed_option = click.option(
    "--seed", type=int, help="Seed of splits, prompts and order; that of the config.toml by default, or 0."
)
training_device_option = click.option(
    "--device", help="auto, cpu, cuda or cuda:N; that of the config.toml by default, or auto."
)
set_option = section(
    "Training",
    click.option(
        "--set",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other setting of docs/training.md (repeatable): --set weight_decay=0.1 --set loss.gamma=1.5.",
    ),
)
devices_options = section(
    "Several devices",
    click.option("--devices", type=click.IntRange(1), help="Processes on each machine, each with a GPU of its own: 1."),
    click.option("--nodes", type=click.IntRange(1), help="Machines, on each of which torchrun or srun starts this: 1."),
    click.option("--strategy", type=click.Choice(["ddp"]), help="How they share the work."),
)
run_argument = click.argument("root", type=click.Path(path_type=Path), required=False)
root_argument = click.argument("root", type=click.Path(path_type=Path))
data_options = section(
    "The data",
    click.option("--classes", callback=comma_list, help="Keep these classes only: NAME,NAME."),
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
path_argument = click.argument("path", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Say what was done as JSON.")
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Seed of splits, prompts and order.")
checkpoint_option = click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="The base model's official checkpoint (.pth)."
)
cache_option = click.option(
    "--cache", type=click.Path(path_type=Path), help="The .samcache to train from; made if it is not there."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
model_options = section(
    "The model",
    click.option("--model", help="tiny, vit_b, vit_l or vit_h; tiny where nothing else says."),
    click.option("--checkpoint", type=click.Path(path_type=Path), help="The model's official checkpoint (.pth)."),
)
augment_option = click.option(
    "--augment", help="How the other views are made: light (the default), aerial, weather, medical."
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Where to write; a readable name is made otherwise."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
training_options = section(
    "Training",
    click.option(
        "--recipe",
        "--config",
        "recipe",
        default="default",
        show_default=True,
        help="default, flood-study, finestsam, lightning-sam, medsam, sam (`samfast train --help` ends with what they"
        " are); or the config.toml of a run, which reproduces it.",
    ),
    click.option(
        "--regime",
        help="Prompts to train on: point, points:3,1, center, centroid-inside, farthest, box, mask; A+B, one or the"
        " other; A&B, both in one; clicks:8 or sam, corrected by clicks; csv:FILE; or none. point+box where the recipe"
        " names none. See docs/training.md.",
    ),
    click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's."),
    click.option("--steps", type=click.IntRange(1), help="Optimizer steps, instead of epochs."),
    click.option("--lr", type=float, help="Learning rate, instead of the recipe's."),
    click.option("--batch-size", callback=_batch_size, help="Images a batch, or auto; instead of the recipe's."),
    click.option("--views", type=click.IntRange(1), help="Encoded views of each image to train on, in turn: 1."),
    augment_option,
    click.option(
        "--log",
        "callbacks",
        multiple=True,
        type=click.Choice(["tensorboard", "wandb", "mlflow"]),
        help="Where figures and pictures go as well (repeatable).",
    ),
)
prompts_option = click.option(
    "--prompts",
    callback=comma_list,
    help="Prompt kinds to judge by, with commas or spaces between them; point,box, or none for what takes no prompts.",
)
selection_option = click.option(
    "--selection",
    type=click.Choice(["single", "best-predicted"]),
    default="single",
    show_default=True,
    help="Which mask token answers.",
)


class Judging(Verb):
    """A verb with ``--prompts``, which takes every prompt kind that follows it, up to anything else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join what follows ``--prompts`` to one value, and parse as click does."""
        joined: list[str] = []
        for arg in args:
            is_value = "--prompts" in joined[-2:-1] or (joined and joined[-1].startswith("--prompts="))
            if is_value and _KINDS.match(arg):
                joined[-1] += f",{arg}"
            else:
                joined.append(arg)
        return super().parse_args(ctx, joined)


def load(root: Path | None, options: dict[str, Any], seed: int | None) -> Any:
    """The data set at ``root``, taking the options that describe it out of ``options``.

    With the ``config.toml`` of a run it is the data of that run, opened as it was then, but for the options given.
    """
    names = ("classes", "merge", "limit", "target", "group", "max_bad", "strict")
    told = {name: options.pop(name) for name in names}
    if str(options["recipe"]).endswith(".toml"):
        from samfast.data.reopen import open_again
        from samfast.train.config import read_tables

        tables = read_tables(options["recipe"])
        source = click.get_current_context().get_parameter_source
        given = {name: value for name, value in told.items() if source(name) is not ParameterSource.DEFAULT}
        given |= {} if seed is None else {"seed": seed}
        options["checkpoint"] = options["checkpoint"] or tables["base"].get("checkpoint")
        root = root or tables["data"].get("root")
        if root is not None:
            return open_again(root, {**tables["data"], **given})
    if root is None:
        raise click.UsageError("Missing argument 'ROOT'.")
    return samfast.load_dataset(root, seed=seed or 0, **told)


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` with what ``--set`` says, taken out of them, in their place.

    Raises:
        ConfigError: a setting has an option of its own, and both were given.
    """
    from samfast.train.settings import parse_settings

    given = parse_settings(options.pop("set"))
    source = click.get_current_context().get_parameter_source
    for name in given.keys() & options.keys():
        if source(name) is not ParameterSource.DEFAULT:
            raise ConfigError(f"{name} is given twice", where=f"--set {name}=", fix="once is enough")
    return options | given


def echo(content: dict[str, Any], as_json: bool, line: str) -> None:
    """Print what a verb did, for programs or for people."""
    click.echo(json.dumps(content, indent=2, default=str) if as_json else line)
