"""`geovlm search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import asdict

import geovlm as gv
from geovlm.cli import options as o
from geovlm.cli.folders import IndexFolder
from geovlm.cli.output import Result, write_through
from geovlm.cli.questions import read_area, read_filters
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from geovlm.index import Hits
    from geovlm.protocols import VectorStore

INDEX = Annotated[
    Path,
    typer.Argument(metavar="INDEX", show_default=False, help="Folder of geovlm index, or a store with --encoder."),
]
QUERY = Annotated[str | None, typer.Argument(metavar="QUERY", show_default=False, help="What to look for, in words.")]
IMAGE = Annotated[Path | None, typer.Option(help="Look for scenes like this picture.")]
LIMIT = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]
WHERE = Annotated[
    list[str] | None, typer.Option(help='A comparison ("year>=2024") or a filter in JSON; all that are given hold.')
]
WITHIN = Annotated[str | None, typer.Option(help="Only in west,south,east,north (degrees), or in a GeoJSON polygon.")]
AGAINST = Annotated[
    list[str] | None, typer.Option(help="What else it may show: each hit is told a probability. May be repeated.")
]
DIVERSITY = Annotated[float, typer.Option(min=0, max=1, help="Towards 1, hits differ more from each other.")]


def search(
    index: INDEX,
    query: QUERY = None,
    *,
    image: IMAGE = None,
    limit: LIMIT = 10,
    where: WHERE = None,
    within: WITHIN = None,
    against: AGAINST = None,
    diversity: DIVERSITY = 0.0,
    encoder: o.OtherEncoder = None,
    weights: o.Weights = None,
    architecture: o.Architecture = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    format_: o.MapFormat = None,
    out: o.Out = None,
) -> None:
    """Find the scenes that fit words or a picture best.

    The score is the cosine between query and scene. Filters see the labels and the other columns of the table that was
    indexed; --within needs images with a place on the Earth.

    \b
    Examples:
      geovlm search photos.index "a harbour with boats"
      geovlm search photos.index "vineyards" --where "year>=2024" --where label=Farmland
      geovlm search photos.index --image example.jpg --limit 50 --out hits.html
      geovlm search naip.index "solar panels" --against forest --against "bare soil" --within 8.4,47.3,8.7,47.5
      geovlm search photos.index "a bridge" --format json | jq -r ".hits[].uri"
    """  # noqa: D301 - \b keeps lines apart
    asked = _question(query, image)
    filters, area = read_filters(where), read_area(within)
    place = _index_folder(index, encoder, weights, architecture)
    store = _finished(place) if IndexFolder.is_in(index) else gv.load_store(index)
    loaded = place.load_encoder(device=device, dtype=dtype)
    hits = gv.Index(loaded, store).search(
        asked, limit=limit, where=filters, within=area, against=against or False, diversity=diversity
    )
    _as_result(hits).write(format_, out)


def _question(query: str | None, image: Path | None) -> str | Path:
    if (query is None) == (image is None):
        raise typer.BadParameter("say what to look for: words, or --image, and not both", param_hint="QUERY")
    return image.expanduser() if image is not None else query or ""


def _index_folder(path: Path, encoder: str | None, weights: Path | None, architecture: str | None) -> IndexFolder:
    if IndexFolder.is_in(path):
        if weights is not None or architecture is not None:
            raise UsageError(f"{path} knows its encoder; leave --weights and --architecture out.")
        return IndexFolder.open(path)
    if encoder is None:
        raise UsageError(f"{path} is no folder of geovlm index; if it is a store, tell its encoder with --encoder.")
    return IndexFolder(
        path=path, encoder=encoder, weights=None if weights is None else str(weights), architecture=architecture
    )


def _finished(place: IndexFolder) -> "VectorStore":
    store = place.open_store()
    if not store.count():
        raise UsageError(f"The index in {place.path} is not finished: repeat the command that began it.")
    return store


def _as_result(hits: "Hits") -> Result:
    from geovlm._html import Section, results_page

    return Result(
        table=lambda: str(hits),
        json=lambda: {"query": hits.query, "hits": [asdict(hit) for hit in hits]},
        html=lambda: results_page(f"Search: {hits.query}", [Section(heading=f"{len(hits)} hits", hits=hits)]),
        more={"geojson": lambda: write_through(hits.to_geojson)},
    )
