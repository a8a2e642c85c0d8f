"""What one run of the command line knows, and how errors and interrupts end it."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import typer
from attrs import define
from typer.core import TyperGroup

from geovlm.errors import GeovlmError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Commands", "Session", "session_of"]

FAILED, INTERRUPTED = 1, 130


@define(kw_only=True)
class Session:
    """The settings of one run, and what it leaves behind.

    Args:
        debug: Show where an error comes from.
        quiet: No progress, and no hints.
        kept: Where finished parts lie, once there may be some.
    """

    debug: bool = False
    quiet: bool = False
    kept: Path | None = None

    @property
    def progress(self) -> bool | None:
        """For `progress=`: off, or as the output goes."""
        return False if self.quiet else None

    def hint(self, text: str) -> None:
        """Say what may come next, on standard error."""
        if not self.quiet:
            typer.echo(text, err=True)


def session_of(context: typer.Context) -> Session:
    """The session that a command runs in."""
    session = context.find_object(Session)
    assert session is not None
    return session


class Commands(TyperGroup):
    """All commands: an expected error is one sentence and exit status 1, an interrupt says how to go on."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        session = ctx.ensure_object(Session)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except GeovlmError as error:
                if session.debug:
                    traceback.print_exc()
                typer.echo(f"geovlm: {error}", err=True)
                raise typer.Exit(FAILED) from error
            except KeyboardInterrupt as error:
                typer.echo(f"\ngeovlm: stopped. {_how_to_go_on(session)}", err=True)
                raise typer.Exit(INTERRUPTED) from error


def _how_to_go_on(session: Session) -> str:
    if session.kept is None or not session.kept.exists():
        return "Nothing was written."
    return f"What was finished is kept in {session.kept}; the same command goes on from there."


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"geovlm: {message}\n")
