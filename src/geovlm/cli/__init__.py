"""The `geovlm` command: the public functions of geovlm from a shell.

Commands read arguments, call one or two public functions and write what these return; nothing is computed here. What
was asked for goes to standard output, all else to standard error. `docs/cli.md` is the guide.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point `geovlm`."""
    from geovlm._optional import require
    from geovlm.errors import MissingExtra

    try:
        require("typer", extra="cli", purpose="the geovlm command")
    except MissingExtra as error:
        sys.exit(f"geovlm: {error}")
    from geovlm.cli.app import make_app

    make_app()(prog_name="geovlm")
