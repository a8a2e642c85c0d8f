"""`geovlm caption`."""

from pathlib import Path
from typing import Annotated

import typer

import geovlm as gv
from geovlm.cli import options as o
from geovlm.cli.reports import write_report
from geovlm.cli.session import session_of
from geovlm.cli.sources import open_source

PAIRS = Annotated[Path, typer.Argument(metavar="PAIRS", show_default=False, help="Folder for the data set.")]
CAPTIONER = Annotated[
    str,
    typer.Option(
        envvar="GEOVLM_CAPTIONER",
        help="blip-base and the like (see: geovlm models), a folder, hf:…, or tags for sentences made of the labels.",
    ),
]


def caption(
    context: typer.Context,
    source: o.Source,
    pairs: PAIRS,
    *,
    captioner: CAPTIONER = "blip-base",
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = 16,
    root: o.Root = None,
    split: o.Split = None,
    column: o.Column = None,
    window: o.Window = None,
    format_: o.Format = None,
    out: o.Out = None,
) -> None:
    """Describe images, and keep pairs of image and caption to train on.

    The same command again captions only what is new; after an interrupt it goes on where it stopped.

    \b
    Examples:
      geovlm caption photos/ pairs/
      geovlm caption photos/ pairs/ --captioner blip2-opt-2.7b --device cuda:0
      geovlm caption classes/ pairs/ --captioner tags
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    records = open_source(source, root=root, split=split, columns=column, window=window)
    loaded = gv.load_captioner(captioner, device=device, dtype=dtype)
    session.kept = pairs
    made = gv.caption(records, loaded, out=pairs, batch_size=batch_size, progress=session.progress)
    write_report(made.report, format_, out, more={"pairs": str(pairs)})
    session.hint(f"Train on them: geovlm train {pairs} tuned/ --val 0.1")
