"""Where hits lie: `Place` and `Places`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from attrs import evolve, field, frozen

from geovlm._geojson import Feature, feature, to_frame, write_features
from geovlm._markup import panel, table

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import geopandas as gpd

    from geovlm._hits import Hits
    from geovlm.records import Footprint

COLUMNS = ("score", "probability", "area_m2", "hits", "ids", "query")

SHOWN = 20


@frozen(kw_only=True)
class Place:
    """A part of the Earth that hits cover together.

    Args:
        geometry: Its outline in GeoJSON (RFC 7946): WGS 84, cut at the antimeridian.
        footprint: The smallest box around it.
        area: In m², on the ellipsoid.
        hits: The hits in it, best first.

    Examples:
        >>> from geovlm import Footprint, Hit, Hits
        >>> near = Footprint(west=8.0, south=47.0, east=8.1, north=47.1)
        >>> beside = Footprint(west=8.1, south=47.0, east=8.2, north=47.1)
        >>> hits = Hits(tuple(Hit(id=name, score=0.3, footprint=box) for name, box in (("a", near), ("b", beside))))
        >>> [place] = hits.places()
        >>> place.footprint.bounds, [hit.id for hit in place.hits]
        ((8.0, 47.0, 8.2, 47.1), ['a', 'b'])
    """

    geometry: Mapping[str, Any] = field(repr=False)
    footprint: Footprint
    area: float
    hits: Hits = field(repr=False)

    @property
    def score(self) -> float:
        """The best cosine of its hits."""
        return max(hit.score for hit in self.hits)

    @property
    def probability(self) -> float | None:
        """The largest probability of its hits; `None` if they have none."""
        return max((hit.probability for hit in self.hits if hit.probability is not None), default=None)


@frozen(repr=False)
class Places(Sequence[Place]):
    """Where hits lie: a sequence of `Place`, in the order of their first hits.

    Args:
        items: The places.
        query: What was asked, in words.
        unplaced: How many hits have no footprint, and are in no place.

    Examples:
        >>> from geovlm import Footprint, Hit, Hits
        >>> near = Footprint(west=8.0, south=47.0, east=8.1, north=47.1)
        >>> beside = Footprint(west=8.1, south=47.0, east=8.2, north=47.1)
        >>> hits = Hits(tuple(Hit(id=name, score=0.3, footprint=box) for name, box in (("a", near), ("b", beside))))
        >>> places = hits.places()
        >>> len(places), places.unplaced
        (1, 0)
    """

    items: tuple[Place, ...]
    query: str = field(default="", kw_only=True)
    unplaced: int = field(default=0, kw_only=True)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, place: int) -> Place: ...
    @overload
    def __getitem__(self, place: slice) -> Places: ...
    def __getitem__(self, place: int | slice) -> Place | Places:
        return evolve(self, items=self.items[place]) if isinstance(place, slice) else self.items[place]

    def __repr__(self) -> str:
        hits = sum(len(place.hits) for place in self)
        lost = f", {self.unplaced} more without a footprint" if self.unplaced else ""
        return "\n".join([f"{len(self)} places of {hits} hits for {self.query}{lost}", *map(_line, self)])

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{place.score:.4f}",
                "" if place.probability is None else f"{place.probability:.1%}",
                f"{place.area:,.0f}",
                ", ".join(f"{degrees:.5f}" for degrees in place.footprint.center),
                ", ".join(hit.id for hit in place.hits),
            )
            for place in self.items[:SHOWN]
        ]
        head = ("score", "probability", "m²", "longitude, latitude", "hits")
        return panel(repr(self).split("\n", 1)[0], table(head, rows, total=len(self)))

    def to_geojson(self, path: str | os.PathLike[str]) -> Path:
        """Write the places as GeoJSON, with `score`, `probability`, `area_m2`, `hits`, `ids` and `query` of each.

        Raises:
            StorageError: It cannot be written.
        """
        return write_features(path, [_to_feature(place) for place in self])

    def to_geodataframe(self) -> gpd.GeoDataFrame:
        """The same as a `geopandas.GeoDataFrame` in WGS 84, one row a place.

        Raises:
            MissingExtra: geopandas is not installed.
        """
        return to_frame([_to_feature(place) for place in self], COLUMNS)


def _line(place: Place) -> str:
    sure = "" if place.probability is None else f"  {place.probability:6.1%}"
    count = f"{len(place.hits)} hit{'s' if len(place.hits) > 1 else ' '}"
    ids = ", ".join(hit.id for hit in place.hits)
    longitude, latitude = place.footprint.center
    return f"{place.score:8.4f}{sure}  {place.area:14,.0f} m²  {count} at {longitude:10.5f} {latitude:10.5f}  {ids:.60}"


def _to_feature(place: Place) -> Feature:
    values = (
        *(place.score, place.probability, place.area),
        *(len(place.hits), [hit.id for hit in place.hits], place.hits.query),
    )
    return feature(place.geometry, dict(zip(COLUMNS, values, strict=True)), place.footprint.bounds)
