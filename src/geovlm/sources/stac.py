"""`StacSource`: windows of the rasters that STAC items point to, as records."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from geovlm._files import must_exist
from geovlm._optional import require
from geovlm.errors import ImageError, ServiceError, ServiceUnavailable, UsageError
from geovlm.sources.raster._cutting import Cutting, failed
from geovlm.sources.raster._paths import locate
from geovlm.sources.raster._vrt import stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from geovlm.imaging import Stretch
    from geovlm.records import Record
    from geovlm.sources.raster.raster import Raster

__all__ = ["StacSource"]

# What catalogues call pictures that can be shown as they are, and colours.
PICTURES = ("visual", "image", "rendered_preview", "data", "analytic")
COLOURS = ("red", "green", "blue")
RASTERS = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/vnd.gdal")

# A catalogue that does not answer in so many seconds; the client itself would wait for ever.
SECONDS = 60.0


class StacSource:
    """Windows of rasters that STAC items point to, with the item's date and names as metadata.

    An item whose raster cannot be opened is yielded as one record that fails with the reason. Ids begin with the
    item's id; see `RasterSource` for the rest of them, and for what is done with pixels.

    Args:
        items: Items of pystac, or mappings as they are in JSON; an `ItemCollection`; or the path of a JSON file with an
            item or an item collection. For a search in a catalogue, use `StacSource.search`. What can be gone through
            once, like a generator, can be used once.
        assets: The key of one asset, or three for red, green and blue, whose first bands are stacked. `None` takes an
            asset for the eye (`"visual"`, `"image"`, …), else assets named red, green and blue, else the only raster.
        sign: Changes an item before its assets are read: `planetary_computer.sign`, for example.
        window: As `RasterSource` has it.
        size_m: As `RasterSource` has it.
        overlap: As `RasterSource` has it.
        gsd: As `RasterSource` has it.
        bands: As `RasterSource` has it.
        stretch: As `RasterSource` has it.
        min_valid: As `RasterSource` has it.

    Attributes:
        skipped: Windows left out as empty by the last pass.

    Raises:
        MissingExtra: pystac, rasterio or pyproj is not installed.
        UsageError: An argument cannot be right.

    Examples:
        >>> item = {
        ...     "type": "Feature", "stac_version": "1.0.0", "id": "scene", "geometry": None, "links": [],
        ...     "properties": {"datetime": "2024-05-01T10:00:00Z"},
        ...     "assets": {"visual": {"href": "/nowhere/scene.tif"}},
        ... }
        >>> [record] = StacSource([item])
        >>> record.id, record.meta["datetime"]
        ('scene', '2024-05-01T10:00:00Z')
    """

    def __init__(
        self,
        items: Iterable[Any] | Mapping[str, Any] | str | os.PathLike[str],
        *,
        assets: str | Sequence[str] | None = None,
        sign: Callable[[Any], Any] | None = None,
        window: int | None = None,
        size_m: float | None = None,
        overlap: float = 0,
        gsd: float | None = None,
        bands: Sequence[int] | None = None,
        stretch: Stretch | None = None,
        min_valid: float = 0.1,
    ) -> None:
        _pystac()
        self._cutting = Cutting(
            window=window, size_m=size_m, overlap=overlap, gsd=gsd, bands=bands, stretch=stretch, min_valid=min_valid
        )
        keys = (assets,) if isinstance(assets, str) else None if assets is None else tuple(assets)
        if keys is not None and len(keys) not in (1, 3):
            raise UsageError(f"assets is one key, or three for red, green and blue, not {list(keys)}.")
        self._assets, self._sign, self._items = keys, sign, _items(items)
        self.skipped = 0

    @classmethod
    def search(
        cls,
        url: str,
        *,
        collections: Sequence[str] | None = None,
        bbox: Sequence[float] | None = None,
        intersects: Mapping[str, Any] | None = None,
        datetime: str | None = None,
        query: Mapping[str, Any] | None = None,
        max_items: int | None = None,
        assets: str | Sequence[str] | None = None,
        sign: Callable[[Any], Any] | None = None,
        window: int | None = None,
        size_m: float | None = None,
        overlap: float = 0,
        gsd: float | None = None,
        bands: Sequence[int] | None = None,
        stretch: Stretch | None = None,
        min_valid: float = 0.1,
    ) -> StacSource:
        """The items that a STAC API finds, page by page; every pass over the source asks it again.

        Args:
            url: Of the catalogue.
            collections: Ids of collections.
            bbox: `(west, south, east, north)` in degrees.
            intersects: A GeoJSON geometry, in place of `bbox`.
            datetime: A time or an interval, as STAC writes them: `"2024-05-01/2024-06-01"`.
            query: Conditions on properties: `{"eo:cloud_cover": {"lt": 10}}`.
            max_items: Stop after so many items.
            assets: As above; so are all that follow.
            sign: As above.
            window: As above.
            size_m: As above.
            overlap: As above.
            gsd: As above.
            bands: As above.
            stretch: As above.
            min_valid: As above.

        Raises:
            MissingExtra: pystac-client is not installed.
            ServiceError: The catalogue refused or did not answer; raised when the source is gone through.
        """
        require("pystac_client", extra="stac", purpose="searches in STAC catalogues")
        found = _Search(
            url=url, collections=collections, bbox=bbox, intersects=intersects, datetime=datetime, query=query,
            max_items=max_items,
        )  # fmt: skip
        return cls(
            found, assets=assets, sign=sign, window=window, size_m=size_m, overlap=overlap, gsd=gsd, bands=bands,
            stretch=stretch, min_valid=min_valid,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Record]:
        self.skipped = 0
        for item in self._items:
            yield from self._records(item)

    def _records(self, item: Any) -> Iterator[Record]:
        meta: dict[str, Any] = {}
        name = str(item.get("id") if isinstance(item, Mapping) else item.id)
        try:
            parsed = _parsed(item)
            meta = _meta(parsed)
            raster, keys = self._open(self._sign(parsed) if self._sign else parsed)
            shares = self._cutting.shares(raster)
        except (ImageError, UsageError) as error:
            yield failed(name, error, meta)
            return
        self.skipped += int((~self._cutting.is_kept(shares)).sum())
        yield from self._cutting.records(raster, name, shares, {**meta, "assets": list(keys)})

    def _open(self, item: Any) -> tuple[Raster, tuple[str, ...]]:
        keys = _chosen(item) if self._assets is None else self._assets
        places = [locate(_href(item, key)) for key in keys]
        return self._cutting.open(stack(places) if len(places) > 1 else places[0]), keys


@frozen(kw_only=True)
class _Search:
    """A question to a STAC API that is asked whenever it is gone through."""

    url: str
    collections: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    intersects: Mapping[str, Any] | None = None
    datetime: str | None = None
    query: Mapping[str, Any] | None = None
    max_items: int | None = field(default=None)

    def __iter__(self) -> Iterator[Any]:
        import requests
        from pystac_client import Client
        from pystac_client.exceptions import APIError

        try:
            client = Client.open(self.url, timeout=SECONDS)
            search = client.search(
                collections=None if self.collections is None else list(self.collections),
                bbox=None if self.bbox is None else list(self.bbox),
                intersects=None if self.intersects is None else dict(self.intersects),
                datetime=self.datetime,
                query=None if self.query is None else dict(self.query),
                max_items=self.max_items,
            )
            yield from search.items()
        except APIError as error:
            raise _service_error(self.url, error) from error
        except requests.RequestException as error:
            raise ServiceUnavailable(f"{self.url} did not answer ({type(error).__name__}: {error!s:.200}).") from error


def _service_error(url: str, error: Any) -> ServiceError:
    status = getattr(error, "status_code", None)
    is_down = status is None or status >= 500
    kind = ServiceUnavailable if is_down else ServiceError
    return kind(f"{url} answered with an error ({status or 'no status'}: {error!s:.200}).", status=status)


def _pystac() -> ModuleType:
    return require("pystac", extra="stac", purpose="STAC items")


def _items(items: Any) -> Iterable[Any]:
    if isinstance(items, str | os.PathLike):
        path = os.fspath(items)
        if path.startswith(("http://", "https://")):
            raise UsageError(f"StacSource.search({path!r}, …) asks a catalogue.")
        return _read(Path(path).expanduser())
    if isinstance(items, Mapping):
        return _in_document(items, "the mapping")
    return [items] if isinstance(items, _pystac().Item) else items


def _read(path: Path) -> Iterable[Any]:
    must_exist(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}).") from error
    found = _in_document(document, str(path))
    return [_at(item, path) for item in found]


def _in_document(document: Any, name: str) -> list[Any]:
    kind = document.get("type") if isinstance(document, Mapping) else type(document).__name__
    if kind == "Feature":
        return [document]
    if kind == "FeatureCollection":
        return list(document["features"])
    raise UsageError(f"{name} holds a {kind}, not a STAC item or an item collection.")


def _at(item: Any, path: Path) -> Any:
    """An item that knows where it lies, so that relative places of its assets are found."""
    parsed = _parsed(item)
    if parsed.get_self_href() is None:
        parsed.set_self_href(str(path.absolute()))
    return parsed


def _parsed(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    try:
        return _pystac().Item.from_dict(dict(item))
    except Exception as error:  # pystac raises anything on what is no item
        raise UsageError(f"no STAC item ({type(error).__name__}: {error!s:.200})") from error


def _meta(item: Any) -> dict[str, Any]:
    """What is worth filtering by, where an item tells it."""
    properties = item.properties
    told = {
        "item": item.id,
        "collection": item.collection_id,
        "datetime": properties.get("datetime") or properties.get("start_datetime"),
        "platform": properties.get("platform"),
        "cloud_cover": properties.get("eo:cloud_cover"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _chosen(item: Any) -> tuple[str, ...]:
    assets = item.assets
    for key in PICTURES[:3]:
        if key in assets:
            return (key,)
    by_colour = {colour: key for key in assets for colour in _colours(assets[key], key)}
    if all(colour in by_colour for colour in COLOURS):
        return tuple(by_colour[colour] for colour in COLOURS)
    for key in PICTURES[3:]:
        if key in assets:
            return (key,)
    rasters = [key for key, asset in assets.items() if (asset.media_type or "").startswith(RASTERS)]
    if len(rasters) == 1:
        return (rasters[0],)
    raise UsageError(f"none of its assets is surely a picture; name one, assets=…, of {', '.join(assets) or 'none'}")


def _colours(asset: Any, key: str) -> list[str]:
    """The colours that an asset of one band shows."""
    bands = asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands") or []
    names = [band.get("common_name") or band.get("eo:common_name") or band.get("name") for band in bands]
    return [key] if key in COLOURS else names if len(names) == 1 and names[0] in COLOURS else []


def _href(item: Any, key: str) -> str:
    if key not in item.assets:
        from difflib import get_close_matches

        near = get_close_matches(key, item.assets, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(item.assets) or 'none'}"
        raise UsageError(f"no asset is called {key!r}; {hint}")
    asset = item.assets[key]
    return str(asset.get_absolute_href() or asset.href)
