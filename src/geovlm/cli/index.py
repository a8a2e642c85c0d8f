"""`geovlm index`."""

from pathlib import Path
from typing import Annotated

import typer

import geovlm as gv
from geovlm.cli import options as o
from geovlm.cli.folders import IndexFolder
from geovlm.cli.reports import write_report
from geovlm.cli.session import session_of
from geovlm.cli.sources import open_source

INDEX = Annotated[
    Path, typer.Argument(metavar="INDEX", show_default=False, help="Folder of the index, made if there is none.")
]
STORE = Annotated[
    str, typer.Option(help="Where vectors are searched: numpy or lance in the folder, or KIND:PLACE as astra:scenes.")
]


def index(
    context: typer.Context,
    source: o.Source,
    folder: INDEX,
    *,
    store: STORE = "numpy",
    encoder: o.Encoder = o.DEFAULT_ENCODER,
    weights: o.Weights = None,
    architecture: o.Architecture = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = 64,
    root: o.Root = None,
    split: o.Split = None,
    column: o.Column = None,
    window: o.Window = None,
    format_: o.Format = None,
    out: o.Out = None,
) -> None:
    """Embed images, so that they can be searched.

    The folder remembers the encoder, and "geovlm search INDEX …" needs nothing else. The same command again embeds
    only what is new; after an interrupt it goes on where it stopped. Images that cannot be read are told, and stop
    nothing.

    \b
    Examples:
      geovlm index photos/ photos.index
      geovlm index scenes.csv scenes.index --column image=path --split test
      geovlm index naip/ naip.index --window 224 --store lance
      geovlm index photos/ photos.index --encoder georsclip-vit-b-32 --device cuda:0
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    place = IndexFolder(
        path=folder,
        encoder=_lasting(encoder),
        weights=None if weights is None else str(weights.expanduser().absolute()),
        architecture=architecture,
        store=store,
        source=_described(source, root=root, split=split, column=column, window=window),
    )
    records = open_source(source, root=root, split=split, columns=column, window=window)
    loaded = place.load_encoder(device=device, dtype=dtype)
    place.save()
    session.kept = place.path
    vectors = gv.embed(records, loaded, out=place.vectors, batch_size=batch_size, progress=session.progress)
    opened = place.open_store()
    gv.Index(loaded, opened).add(vectors, progress=session.progress)
    opened.close()
    write_report(vectors.report, format_, out, more={"index": str(place.path)})
    session.hint(f'Search it: geovlm search {folder} "a harbour with boats"')


def _lasting(encoder: str) -> str:
    """A name as it is, and a path from the root, so that it holds in another working directory."""
    path = Path(encoder).expanduser()
    return str(path.absolute()) if path.exists() else encoder


def _described(source: str, **options: object) -> dict[str, object]:
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items() if value}
    return {"place": _lasting(source), **given}
