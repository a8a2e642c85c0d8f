"""What a scan found: places with scores, and the scores of every cell behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from attrs import evolve, field, frozen

from geovlm._markup import guarded, image, listing, panel, table
from geovlm.errors import UnknownName, UsageError
from geovlm.records import Report

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Detection", "Detections", "HeatMap"]

SHOWN = 10


@frozen(kw_only=True)
class Detection:
    """One place that answers a query.

    Args:
        query: The text that was looked for.
        score: The probability, 0 to 1, that the place shows it rather than one of the contrasts.
        polygon: A shapely `Polygon` or `MultiPolygon` in the raster's CRS, or in pixels where it has none.
        area_m2: Its area in square metres, when that is known.
        peak: `(x, y)` of the largest score, in the coordinates of the polygon.
        raster: The path or the id of the image.

    Examples:
        >>> from shapely import box
        >>> pond = Detection(query="a pond", score=0.9, polygon=box(0, 0, 4, 2), peak=(1, 1), raster="region.tif")
        >>> pond.box, pond.point
        ((0.0, 0.0, 4.0, 2.0), (2.0, 1.0))
    """

    query: str
    score: float = field(converter=float)
    polygon: Any = field(repr=False)
    area_m2: float | None = None
    peak: tuple[float, float] = field(repr=False)
    raster: str = field(default="", repr=False)

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise UsageError(f"A detection's score is a probability between 0 and 1, not {self.score}.")
        kind = getattr(self.polygon, "geom_type", type(self.polygon).__name__)
        if kind not in ("Polygon", "MultiPolygon") or self.polygon.is_empty:
            raise UsageError(f"A detection is a polygon of shapely that is not empty, not {kind}.")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """`(left, bottom, right, top)`: the smallest and the largest coordinates of the polygon."""
        left, bottom, right, top = self.polygon.bounds
        return left, bottom, right, top

    @property
    def point(self) -> tuple[float, float]:
        """`(x, y)` of a place in the polygon: its centre of mass, or near that where it is hollow or bent."""
        middle = self.polygon.centroid
        inside = middle if self.polygon.covers(middle) else self.polygon.representative_point()
        return inside.x, inside.y

    def _repr_html_(self) -> str:
        known = {"score": f"{self.score:.3f}", "m²": _area(self.area_m2) or None, "x, y": _point(self)}
        return panel(self.query, listing({**known, "raster": self.raster or None}))


@frozen(kw_only=True, eq=False)
class HeatMap:
    """The scores of one query on the cells of a raster.

    Args:
        query: The text that was looked for.
        scores: `(rows, columns)` float32 probabilities, NaN where there is no data; may lie on disk.
        transform: `(a, b, c, d, e, f)` with `x = a·column + b·row + c` and `y = d·column + e·row + f`, from the
            corners of cells to the CRS.
        crs: The coordinate system, such as `"EPSG:32633"`; `None` for pixels.

    Examples:
        >>> import numpy as np
        >>> scores, transform = np.array([[0.1, 0.9]], dtype="float32"), (50, 0, 500000, 0, -50, 5300000)
        >>> HeatMap(query="a pond", scores=scores, transform=transform, crs="EPSG:32632").scores.shape
        (1, 2)
    """

    query: str
    scores: NDArray[np.float32] = field(repr=lambda scores: f"{scores.shape[0]} × {scores.shape[1]} cells")
    transform: tuple[float, ...] = field(repr=False)
    crs: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.scores.ndim != 2 or 0 in self.scores.shape:
            raise UsageError(f"A heat map has rows and columns of cells, not the shape {self.scores.shape}.")
        if len(self.transform) != 6:
            raise UsageError(f"A heat map's transform has six numbers, a to f, not {len(self.transform)}.")

    @guarded
    def _repr_html_(self) -> str:
        from geovlm.detection._map import thumbnail

        rows, columns = self.scores.shape
        known = {"cells": f"{rows:,} × {columns:,}", "in": self.crs or "pixels"}
        return panel(f"Heat map: {self.query}", image(thumbnail(self.scores), self.query), listing(known))


def _best_first(items: Iterable[Detection]) -> tuple[Detection, ...]:
    return tuple(sorted(items, key=lambda item: -item.score))


@frozen(kw_only=True, eq=False, repr=False)
class Detections(Sequence[Detection]):
    """The places that were found, best first, with what is needed to judge them.

    Args:
        items: The places, in any order; equal scores keep theirs.
        crs: The coordinate system of the polygons, as a name or WKT; `None` for pixels.
        raster: The path or the id of the image that was scanned.
        heat_maps: The scores of every cell, by query.
        report: What became of every window.
        settings: What was asked, and of which encoder; JSON-like.

    Examples:
        >>> from shapely import box
        >>> ponds = [Detection(query="a pond", score=s, polygon=box(0, 0, 4, 2), peak=(1, 1)) for s in (0.6, 0.9)]
        >>> found = Detections(items=ponds, crs="EPSG:32633")
        >>> found[0].score, len(found.filter(min_score=0.8))
        (0.9, 1)
        >>> found
        Detections(2 places in EPSG:32633)
          a pond: 2, scores 0.60 to 0.90
    """

    items: tuple[Detection, ...] = field(default=(), converter=_best_first)
    crs: str | None = None
    raster: str = ""
    heat_maps: Mapping[str, HeatMap] = field(factory=dict)
    report: Report = field(factory=Report)
    settings: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def merge(cls, parts: Iterable[Detections]) -> Self:
        """The places of several scans in one: as they are, without joining what overlaps.

        Parts of one CRS keep it; of several, all become WGS 84 longitudes and latitudes. The heat map of a query that
        several parts have is named `query (raster)`.

        Raises:
            UsageError: There are none, or some have a CRS and others have not.
        """
        several = list(parts)
        if not several:
            raise UsageError("There are no detections to merge; give at least one scan's.")
        systems = {part.crs for part in several}
        if None in systems and len(systems) > 1:
            without = next(part.raster for part in several if part.crs is None)
            raise UsageError(f"{without or 'One scan'} has no CRS, so its places cannot be merged with those on a map.")
        if len(systems) > 1:
            several = [part.to_wgs84() for part in several]
        rasters = {part.raster for part in several}
        return cls(
            items=[item for part in several for item in part],
            crs=several[0].crs,
            raster=rasters.pop() if len(rasters) == 1 else "",
            heat_maps=_named_maps(several),
            report=_joined_report([part.report for part in several]),
            settings={**several[0].settings, "queries": _unique(query for part in several for query in part.queries)},
        )

    @overload
    def __getitem__(self, place: int) -> Detection: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Detection | Self:
        return evolve(self, items=self.items[place]) if isinstance(place, slice) else self.items[place]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def queries(self) -> tuple[str, ...]:
        """What was looked for, found or not."""
        mapped = (heat.query for heat in self.heat_maps.values())
        return tuple(_unique([*self.settings.get("queries", ()), *mapped, *(item.query for item in self)]))

    def filter(self, *, min_score: float = 0.0, query: str | Iterable[str] | None = None) -> Self:
        """The places of at least a score, and of some queries only.

        Raises:
            UnknownName: A query was not looked for.
        """
        wanted = self.queries if query is None else (query,) if isinstance(query, str) else tuple(query)
        for name in wanted:
            if name not in self.queries:
                raise UnknownName("query of these detections", name, self.queries)
        kept = [item for item in self if item.score >= min_score and item.query in wanted]
        maps = {key: heat for key, heat in self.heat_maps.items() if heat.query in wanted}
        return evolve(self, items=kept, heat_maps=maps, settings={**self.settings, "queries": list(wanted)})

    def lonlat(self, detection: Detection) -> Any:
        """The polygon of a detection in WGS 84, cut in two where it crosses the antimeridian.

        Raises:
            UsageError: The raster has no CRS, or one that is not of the Earth.
        """
        from geovlm.detection._lonlat import Placer

        return Placer.of(self.crs, "Places in degrees").geometry(detection.polygon)

    def to_wgs84(self) -> Self:
        """The same places with polygons in WGS 84; heat maps stay as they are.

        Raises:
            UsageError: The raster has no CRS, or one that is not of the Earth.
        """
        from geovlm.detection._lonlat import Placer

        placer = Placer.of(self.crs, "Places in degrees")
        moved = [evolve(item, polygon=placer.geometry(item.polygon), peak=placer.point(item.peak)) for item in self]
        return evolve(self, items=moved, crs="EPSG:4326")

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """A GeoJSON FeatureCollection, as `geopandas.GeoDataFrame.from_features` and other libraries take it."""
        from geovlm.detection._export import feature_collection

        return feature_collection(self)

    def to_geojson(self, path: str | os.PathLike[str]) -> Path:
        """Write GeoJSON as RFC 7946 asks: WGS 84 with seven decimals, cut at the antimeridian, with boxes.

        Raises:
            UsageError: The raster has no CRS; `to_geodataframe` gives the places in pixels.
            StorageError: The disk refused.
        """
        from geovlm.detection._export import write_geojson

        return write_geojson(self, _target(path))

    def to_geodataframe(self) -> Any:
        """A `geopandas.GeoDataFrame` in the raster's CRS, one row a place, best first.

        Raises:
            MissingExtra: geopandas is not installed.
        """
        from geovlm.detection._export import to_frame

        return to_frame(self)

    def to_geoparquet(self, path: str | os.PathLike[str]) -> Path:
        """Write GeoParquet 1.1 in the raster's CRS, with the box of every place for readers that skip by region.

        Raises:
            MissingExtra: geopandas is not installed.
            StorageError: The disk refused.
        """
        from geovlm.detection._export import write_geoparquet

        return write_geoparquet(self, _target(path))

    def to_heatmap(self, path: str | os.PathLike[str], query: str | None = None) -> Path:
        """Write the scores as a Cloud Optimized GeoTIFF: float32, NaN where there is no data, a band a query.

        Args:
            path: The file.
            query: The one to write; `None` writes all.

        Raises:
            UnknownName: There is no heat map of that query.
            UsageError: There is none at all, or those of several rasters would be one file.
            StorageError: The disk refused.
        """
        from geovlm.detection._export import write_heat_maps

        return write_heat_maps(self.heat_maps, _target(path), query=query)

    def save_map(
        self, path: str | os.PathLike[str], *, raster: Any = None, max_side: int = 1500, tiles: str | None = None
    ) -> Path:
        """Write a map as one HTML page: the imagery, heat maps, the places, and a slider for the score.

        The page needs no network. Places without longitudes and latitudes (no CRS, another planet) and those around a
        pole are shown on the raster as it lies in its file.

        Args:
            path: The file.
            raster: What to show below: a path or a `Raster`; `None` takes the one that was scanned, if it is there.
            max_side: Longest side of the pictures, in pixels.
            tiles: A base map of folium, such as `"OpenStreetMap"`; it is fetched when the page is opened.

        Raises:
            MissingExtra: folium or rasterio is not installed.
            ImageError: The raster that was given cannot be read.
            UsageError: It lies in another CRS than the places.
            StorageError: The disk refused.
        """
        from geovlm.detection._map import write_map

        return write_map(self, _target(path), raster=raster, max_side=max_side, tiles=tiles)

    def plot(self, *, query: str | None = None, raster: Any = None, max_side: int = 1000) -> Any:
        """A `matplotlib.figure.Figure`: the imagery, the heat map, the places and a scale bar.

        Args:
            query: What to show; `None` shows the places of all queries, and the heat map if there is one only.
            raster: What to show below: a path or a `Raster`; `None` takes the one that was scanned, if it is there.
            max_side: Longest side of the picture, in pixels.

        Raises:
            MissingExtra: matplotlib or rasterio is not installed.
            UnknownName: The query was not looked for.
        """
        from geovlm.detection._plot import draw

        return draw(self if query is None else self.filter(query=query), raster=raster, max_side=max_side)

    def __repr__(self) -> str:
        where = f"in {self.crs:.60}" if self.crs else "in pixels"
        lines = [f"Detections({_count(len(self))} {where})"]
        lines += [f"  {name}: {number}, scores {low:.2f} to {high:.2f}" for name, number, low, high in self._summary()]
        return "\n".join(lines)

    def _summary(self) -> list[tuple[str, int, float, float]]:
        by_query = {name: [item.score for item in self if item.query == name] for name in self.queries}
        return [(name, len(found), min(found), max(found)) for name, found in by_query.items() if found]

    @guarded
    def _repr_html_(self) -> str:
        from geovlm.detection._plot import picture

        rows = [(item.query, f"{item.score:.3f}", _area(item.area_m2), _point(item)) for item in self.items[:SHOWN]]
        places = table(("query", "score", "m²", "x, y"), rows, total=len(self))
        return panel(repr(self).split("\n", 1)[0], picture(self), places)


def _target(path: str | os.PathLike[str]) -> Path:
    return Path(path).expanduser()


def _count(number: int) -> str:
    return f"{number} place" if number == 1 else f"{number} places"


def _area(square_metres: float | None) -> str:
    return "" if square_metres is None else f"{square_metres:,.0f}"


def _point(item: Detection) -> str:
    return f"{item.point[0]:.7g}, {item.point[1]:.7g}"


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _named_maps(parts: Sequence[Detections]) -> dict[str, HeatMap]:
    names = [heat.query for part in parts for heat in part.heat_maps.values()]
    return {
        heat.query if names.count(heat.query) == 1 else f"{heat.query} ({part.raster})": heat
        for part in parts
        for heat in part.heat_maps.values()
    }


def _joined_report(reports: Sequence[Report]) -> Report:
    return Report(
        stage=reports[0].stage,
        done=sum(report.done for report in reports),
        skipped=sum(report.skipped for report in reports),
        failures=[failure for report in reports for failure in report.failures],
        seconds=sum(report.seconds for report in reports),
    )
