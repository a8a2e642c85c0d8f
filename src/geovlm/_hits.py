"""What a search found: `Hit` and `Hits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd
from attrs import field, frozen

from geovlm._html import Section, card_strip, results_page
from geovlm.records import Footprint

if TYPE_CHECKING:
    import os

    from geovlm.protocols import Matches

PICTURES_IN_A_NOTEBOOK = 48


@frozen(kw_only=True)
class Hit:
    """One scene that fits.

    Args:
        id: Its name in the store.
        score: Cosine between the query and the scene, −1 to 1.
        uri: Where its image is, when that is known.
        label: Its class, when it has one.
        footprint: Where it lies on the Earth, when that is known.
        metadata: All that the store keeps of it.
    """

    id: str
    score: float
    uri: str | None = None
    label: str | None = None
    footprint: Footprint | None = None
    metadata: Mapping[str, Any] = field(factory=dict, repr=False)


@frozen(repr=False)
class Hits(Sequence[Hit]):
    """What a search found, best first: a sequence of `Hit`, shown as pictures in a notebook.

    Args:
        items: The hits.
        query: What was asked, in words.
    """

    items: tuple[Hit, ...]
    query: str = field(default="", kw_only=True)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> Hits: ...
    def __getitem__(self, place: int | slice) -> Hit | Hits:
        return Hits(self.items[place], query=self.query) if isinstance(place, slice) else self.items[place]

    def __repr__(self) -> str:
        head = f"{len(self)} hits for {self.query}"
        return "\n".join([head, *(f"{hit.score:8.4f}  {hit.id}  {hit.label or ''}".rstrip() for hit in self)])

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row a hit: id, score, uri, label, footprint, then the rest of the metadata by name."""
        return pd.DataFrame([_to_row(hit) for hit in self], columns=None if len(self) else list(_COLUMNS))

    def save_html(self, path: str | os.PathLike[str]) -> Path:
        """Write a page with the pictures inside it, to look at or to pass on.

        Raises:
            StorageError: It cannot be written.
        """
        out = Path(path).expanduser()
        results_page(f"Search: {self.query}", [Section(heading=f"{len(self)} hits", hits=self)], out=out)
        return out

    def _repr_html_(self) -> str:
        rest = len(self) - PICTURES_IN_A_NOTEBOOK
        more = f"<p>… and {rest} more; save_html() shows all.</p>" if rest > 0 else ""
        return f"<p>{len(self)} hits for {escape(self.query)}</p>{card_strip(self[:PICTURES_IN_A_NOTEBOOK])}{more}"


_COLUMNS = ("id", "score", "uri", "label", "footprint")


def _to_row(hit: Hit) -> dict[str, Any]:
    own = {"id": hit.id, "score": hit.score, "uri": hit.uri, "label": hit.label, "footprint": hit.footprint}
    kept_apart = {"id": "metadata_id", "score": "metadata_score"}
    rest = {
        kept_apart.get(name, name): value
        for name, value in hit.metadata.items()
        if name not in ("uri", "label", "footprint")
    }
    return own | rest


def to_hits(found: Matches, query: str) -> Hits:
    """What a store found, as hits."""
    rows = zip(found.ids, found.scores, found.metadata, strict=True)
    return Hits(tuple(_to_hit(key, score, metadata) for key, score, metadata in rows), query=query)


def _to_hit(key: str, score: float, metadata: Mapping[str, Any]) -> Hit:
    return Hit(
        id=key,
        score=score,
        uri=metadata.get("uri"),
        label=metadata.get("label"),
        footprint=_to_footprint(metadata.get("footprint")),
        metadata=metadata,
    )


def _to_footprint(bounds: Any) -> Footprint | None:
    """A footprint as `to_metadata` writes it; other things under that name are just metadata."""
    if not isinstance(bounds, list) or len(bounds) != 4:
        return None
    try:
        west, south, east, north = bounds
        return Footprint(west=west, south=south, east=east, north=north)
    except (TypeError, ValueError):
        return None
