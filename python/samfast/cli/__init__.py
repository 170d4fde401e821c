"""The command line: each verb parses its options, calls the public function of the same name, prints."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from samfast.cli import artifacts, cache, data, evaluate, export, predict, sweep, train, tune
from samfast.errors import SamfastError, explain_missing

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

CONTINUES = {"cache", "train", "sweep", "tune", "quickstart"}
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


SECTIONS = {
    "Everything at once": (tune.tune, tune.quickstart),
    "Stage by stage": (data.data, cache.cache, train.train, evaluate.evaluate, predict.predict, export.export),
    "Which settings are best": (sweep.sweep,),
    "What is there": (artifacts.info, artifacts.verify, cache.merge, cache.prune),
}
"""The verbs, as the help lists them."""


class Verbs(click.Group):
    """A group whose help lists the verbs in :data:`SECTIONS`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, the verbs of all of them in one column."""
        room = formatter.width - 6 - max(map(len, self.commands))
        longest = max(self.commands, key=len)
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                lines = [(str(verb.name).ljust(len(longest)), verb.get_short_help_str(room)) for verb in verbs]
                formatter.write_dl(lines)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="samfast")
def cli() -> None:
    """Encode every image once, train the Segment Anything decoder from disk, know whether it worked, ship it.

    Try `samfast quickstart`, then `samfast data FOLDER` and `samfast tune FOLDER` on images of your own.
    """


for command in (verb for verbs in SECTIONS.values() for verb in verbs):
    cli.add_command(command)
