"""All commands in one application."""

from collections.abc import Callable
from typing import Annotated

import typer

from geovlm import __version__
from geovlm.cli import batch, evaluate
from geovlm.cli.caption import caption
from geovlm.cli.doctor import doctor
from geovlm.cli.index import index
from geovlm.cli.models import models
from geovlm.cli.scan import scan
from geovlm.cli.search import search
from geovlm.cli.session import Commands, Session
from geovlm.cli.train import train

__all__ = ["make_app"]

EPILOG = """\b
First steps:
  geovlm index photos/ photos.index
  geovlm search photos.index "a harbour with boats" --out hits.html
  geovlm scan region.tif "a vineyard" --out vineyards.geojson

Results go to standard output, all else to standard error. Exit status: 0 done, 1 failed (one sentence says why), 2
the command line is wrong, 130 interrupted."""


def make_app() -> typer.Typer:
    """The application, ready to be called."""
    app = _group("Find, describe and detect anything you can name in satellite and aerial imagery.", EPILOG, Commands)
    app.callback()(settings)
    _add(app, "index", index, "Embed images, so that they can be searched.")
    _add(app, "search", search, "Find scenes by words or by a picture.")
    _add(app, "scan", scan, "Find places in a GeoTIFF of any size.")
    _add(app, "caption", caption, "Describe images, for pairs to train on.")
    _add(app, "train", train, "Fine-tune an encoder on pairs.")
    app.add_typer(_evaluate(), name="evaluate", short_help="Measure an encoder on your own images.")
    app.add_typer(_batch(), name="batch", short_help="Ask Pixtral about thousands of images.")
    _add(app, "models", models, "List the models that are known by name.")
    _add(app, "doctor", doctor, "Tell what is installed, and what is missing.")
    return app


def _add(app: typer.Typer, name: str, function: Callable[..., None], short: str) -> None:
    app.command(name, short_help=short)(function)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"geovlm {__version__}")
        raise typer.Exit


VERSION = Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no hints.")]


def settings(context: typer.Context, *, version: VERSION = False, debug: DEBUG = False, quiet: QUIET = False) -> None:  # noqa: ARG001 - its callback has shown it
    """Find, describe and detect anything you can name in satellite and aerial imagery."""
    session = context.ensure_object(Session)
    session.debug, session.quiet = debug, quiet


def _evaluate() -> typer.Typer:
    app = _group("Measure how good an encoder is on your own images.", "Example:  geovlm evaluate zero-shot AID/")
    _add(app, "zero-shot", evaluate.zero_shot, "Classify by the names of the classes.")
    _add(app, "retrieval", evaluate.retrieval, "Look up captions and images both ways.")
    return app


def _batch() -> typer.Typer:
    epilog = """\b
The four steps; the key is in MISTRAL_API_KEY:
  geovlm batch prepare AID/ run/
  geovlm batch submit run/ --max-cost 2.50
  geovlm batch status run/
  geovlm batch collect run/"""
    app = _group("Ask Pixtral or its kin about thousands of images, by batch jobs at half the price.", epilog)
    _add(app, "prepare", batch.prepare, "Write the requests; nothing is sent.")
    _add(app, "submit", batch.submit, "Send what was prepared.")
    _add(app, "status", batch.status, "Ask how far the jobs are.")
    _add(app, "collect", batch.collect, "Wait for all answers, and score them.")
    _add(app, "cancel", batch.cancel, "End a batch.")
    return app


def _group(help_: str, epilog: str, cls: type[Commands] | None = None) -> typer.Typer:
    return typer.Typer(
        cls=cls,
        help=help_,
        epilog=epilog,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
