"""What a search found: `Hit` and `Hits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd
from attrs import field, frozen

from geovlm._geojson import Feature, feature, to_frame, write_features
from geovlm._html import Section, card_strip, results_page
from geovlm._markup import lines, panel
from geovlm._places import Place, Places
from geovlm._regions import geometry_of, regions
from geovlm.records import Footprint

if TYPE_CHECKING:
    import os

    import geopandas as gpd

    from geovlm.protocols import Matches

PICTURES_IN_A_NOTEBOOK = 48


@frozen(kw_only=True)
class Hit:
    """One scene that fits.

    Args:
        id: Its name in the store.
        score: Cosine between the query and the scene, −1 to 1.
        probability: Of the query among the texts that it was held against, 0 to 1; `None` if it was held against none.
        uri: Where its image is, when that is known.
        label: Its class, when it has one.
        footprint: Where it lies on the Earth, when that is known.
        metadata: All that the store keeps of it.

    Examples:
        >>> hit = Hit(id="a.jpg", score=0.31, metadata={"year": 2024})
        >>> hit.score, hit.metadata["year"]
        (0.31, 2024)
    """

    id: str
    score: float
    probability: float | None = None
    uri: str | None = None
    label: str | None = None
    footprint: Footprint | None = None
    metadata: Mapping[str, Any] = field(factory=dict, repr=False)

    def _repr_html_(self) -> str:
        return panel(f"{self.score:.4f}", card_strip([self]))


@frozen(repr=False)
class Hits(Sequence[Hit]):
    """What a search found, best first: a sequence of `Hit`, shown as pictures in a notebook.

    Args:
        items: The hits.
        query: What was asked, in words.

    Examples:
        >>> from PIL import Image
        >>> from geovlm import Index, Record
        >>> from geovlm.testing import HashEncoder
        >>> index = Index(HashEncoder())
        >>> report = index.add([Record(id=name, image=Image.new("RGB", (8, 8), name)) for name in ("red", "blue")])
        >>> hits = index.search("a blue lake", limit=2)
        >>> [hit.id for hit in hits], hits.to_pandas().shape[0]
        (['blue', 'red'], 2)
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
        return "\n".join([head, *map(_line, self)])

    def to_pandas(self) -> pd.DataFrame:
        """A table with one row a hit: id, score, uri, label, footprint, then the rest of the metadata by name.

        Hits that have a probability have it beside the score.
        """
        return pd.DataFrame([_to_row(hit) for hit in self], columns=None if len(self) else list(_COLUMNS))

    def to_geojson(self, path: str | os.PathLike[str]) -> Path:
        """Write the hits as GeoJSON, each its footprint; the geometry of a hit without one is null.

        Raises:
            StorageError: It cannot be written.
        """
        return write_features(path, map(_to_feature, self))

    def to_geodataframe(self) -> gpd.GeoDataFrame:
        """The table of `to_pandas` as a `geopandas.GeoDataFrame` in WGS 84, with footprints as geometries.

        Raises:
            MissingExtra: geopandas is not installed.
        """
        return to_frame([_to_feature(hit) for hit in self], [name for name in _COLUMNS if name != "footprint"])

    def places(self) -> Places:
        """The hits on the map: footprints that overlap or touch are one place.

        Raises:
            MissingExtra: shapely is not installed.

        Examples:
            >>> boxes = {"a": (0, 0, 1, 1), "b": (5, 0, 6, 1), "c": (1, 0, 2, 1)}
            >>> found = {key: Footprint(west=w, south=s, east=e, north=n) for key, (w, s, e, n) in boxes.items()}
            >>> hits = Hits(tuple(Hit(id=key, score=0.3, footprint=box) for key, box in found.items()), query="“sand”")
            >>> print(hits.places())
            2 places of 3 hits for “sand”
              0.3000  24,616,927,788 m²  2 hits at    1.00000    0.50000  a, c
              0.3000  12,308,463,894 m²  1 hit  at    5.50000    0.50000  b
        """
        placed = tuple(hit for hit in self if hit.footprint is not None)
        found = regions([hit.footprint for hit in placed if hit.footprint is not None])
        return Places(
            tuple(
                Place(
                    geometry=region.geometry,
                    footprint=region.footprint,
                    area=region.area,
                    hits=Hits(tuple(placed[member] for member in region.members), query=self.query),
                )
                for region in found
            ),
            query=self.query,
            unplaced=len(self) - len(placed),
        )

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
        more = lines([f"… and {rest} more; save_html() shows all."] if rest > 0 else [])
        return panel(f"{len(self)} hits for {self.query}", card_strip(self[:PICTURES_IN_A_NOTEBOOK]), more)


def _line(hit: Hit) -> str:
    sure = "" if hit.probability is None else f"  {hit.probability:6.1%}"
    return f"{hit.score:8.4f}{sure}  {hit.id}  {hit.label or ''}".rstrip()


_COLUMNS = ("id", "score", "uri", "label", "footprint")


def _to_row(hit: Hit) -> dict[str, Any]:
    own: dict[str, Any] = {"id": hit.id, "score": hit.score}
    if hit.probability is not None:
        own["probability"] = hit.probability
    own |= {"uri": hit.uri, "label": hit.label, "footprint": hit.footprint}
    kept_apart = {str(name): f"metadata_{name}" for name in ("id", "score", "probability") if name in own}
    rest = {
        kept_apart.get(name, name): value
        for name, value in hit.metadata.items()
        if name not in ("uri", "label", "footprint")
    }
    return own | rest


def _to_feature(hit: Hit) -> Feature:
    properties = {name: value for name, value in _to_row(hit).items() if name != "footprint"}
    if hit.footprint is None:
        return feature(None, properties, None)
    return feature(geometry_of(hit.footprint), properties, hit.footprint.bounds)


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
