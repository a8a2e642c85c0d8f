"""`RasterSource`: windows of georeferenced rasters as records."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from geovlm.errors import ImageError, UsageError
from geovlm.sources.raster._cutting import Cutting, failed
from geovlm.sources.raster._paths import locate, rasters_in
from geovlm.sources.raster.raster import Raster

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geovlm.imaging import Stretch
    from geovlm.records import Record

__all__ = ["RasterSource"]

# What is known of these is kept, so that remote ones are not asked again.
MOST_OPENED = 256


class RasterSource:
    """Windows of GeoTIFFs, COGs, VRTs and remote rasters, each with its footprint, row by row.

    Windows cover every pixel; the last one of a row or a column is moved inwards. Pixels are read when a record is
    opened, in any thread. A record's id is the raster's name, the window's row and column and its size:
    `"naip.tif/448_0_224x224"`, with `"@2m"` after the name where a ground sample distance was asked for. A raster that
    cannot be opened is yielded as one record that fails with the reason, a window that cannot be read fails alone.
    Each raster has one stretch for all its windows.

    Args:
        paths: A raster, a folder (all rasters in it and below), or several of both; URLs (`https://`, `s3://`, `gs://`,
            `az://`) and `/vsi…` paths of GDAL as well. For several files as one raster, pass a `Raster` of them.
        window: Side of a window in pixels; 224 where `size_m` does not say.
        size_m: Side of a window in metres on the ground. With `window`, the raster is read at the resolution that makes
            the two agree.
        overlap: What neighbours share at least: pixels as a whole number, or a share of the side below 1.
        gsd: Metres that a pixel is to measure; overviews are used where there are any.
        bands: Those shown as red, green and blue, or one as grey, from 1; see `Raster`.
        stretch: From samples to 8 bits; see `Raster`.
        min_valid: Windows with a smaller share of valid pixels are left out and counted; so are those without any.

    Raises:
        MissingExtra: rasterio or pyproj is not installed.
        UsageError: An argument cannot be right; a file does not exist; a folder holds no raster.

    Examples:
        >>> import tempfile, numpy as np, rasterio
        >>> from rasterio.transform import from_origin
        >>> profile = dict(driver="GTiff", width=500, height=300, count=3, dtype="uint8", crs="EPSG:32614", nodata=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path, corner = f"{folder}/a.tif", from_origin(486000, 5209000, 2, 2)
        ...     with rasterio.open(path, "w", transform=corner, **profile) as file:
        ...         file.write(np.full((3, 300, 150), 90, dtype=np.uint8), window=((0, 300), (0, 150)))
        ...     source = RasterSource(folder, window=200)
        ...     records = list(source)
        >>> [(record.id, record.meta["valid"]) for record in records], source.skipped
        ([('a.tif/0_0_200x200', 0.75), ('a.tif/100_0_200x200', 0.75)], 4)
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Raster | Sequence[str | os.PathLike[str] | Raster],
        *,
        window: int | None = None,
        size_m: float | None = None,
        overlap: float = 0,
        gsd: float | None = None,
        bands: Sequence[int] | None = None,
        stretch: Stretch | None = None,
        min_valid: float = 0.1,
    ) -> None:
        self._cutting = Cutting(
            window=window, size_m=size_m, overlap=overlap, gsd=gsd, bands=bands, stretch=stretch, min_valid=min_valid
        )
        several = [paths] if isinstance(paths, str | os.PathLike | Raster) else list(paths)
        self._places = _named([place for one in several for place in _expanded(one)])
        if not self._places:
            raise UsageError("RasterSource needs at least one raster.")
        if any(isinstance(one, Raster) for one in several) and self._cutting.shows_otherwise:
            raise UsageError("A Raster has its gsd, bands and stretch already; give them there, or pass its path.")
        # Of each raster that was looked at, four bytes a window; `None` for one that cannot be opened.
        self._shares: dict[str, NDArray[np.float32] | None] = {}
        self._opened: OrderedDict[str, Raster] = OrderedDict()

    def __iter__(self) -> Iterator[Record]:
        for name in self._places:
            try:
                raster, shares = self._look_at(name)
            except (ImageError, UsageError) as error:
                self._shares[name] = None
                yield failed(name, error, {"raster": name})
            else:
                yield from self._cutting.records(raster, name, shares, {})

    def __len__(self) -> int:
        """How many records there are; opens the rasters that were not looked at yet."""
        for name in self._places:
            if name not in self._shares:
                with suppress(ImageError, UsageError):
                    self._shares[name] = None
                    self._look_at(name)
        return sum(1 if shares is None else self._kept(shares) for shares in self._shares.values())

    def __repr__(self) -> str:
        names = list(self._places)
        return f"RasterSource({names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "") + ")"

    @property
    def skipped(self) -> int:
        """Windows left out as empty, of the rasters that were looked at so far: of all after a pass or a `len`."""
        return sum(shares.size - self._kept(shares) for shares in self._shares.values() if shares is not None)

    def _kept(self, shares: NDArray[np.float32]) -> int:
        return int(self._cutting.is_kept(shares).sum())

    def _look_at(self, name: str) -> tuple[Raster, NDArray[np.float32]]:
        raster = self._open(name)
        shares = self._shares.get(name)
        if shares is None:
            shares = self._shares[name] = self._cutting.shares(raster)
        return raster, shares

    def _open(self, name: str) -> Raster:
        place = self._places[name]
        if isinstance(place, Raster):
            return place
        if name not in self._opened:
            self._opened[name] = self._cutting.open(place)
            if len(self._opened) > MOST_OPENED:
                self._opened.popitem(last=False)
        return self._opened[name]


def _expanded(path: str | os.PathLike[str] | Raster) -> list[tuple[str, str | Raster]]:
    """`(name, place)` of a raster, or of all in a folder; names are short and may be the same."""
    if isinstance(path, Raster):
        return [(PurePath(path.path).name, path)]
    text = os.fspath(path)
    place = locate(text) if not Path(text).expanduser().is_dir() else None
    if place is None:
        folder = Path(text).expanduser()
        return [(found.relative_to(folder).as_posix(), str(found)) for found in rasters_in(folder)]
    name = PurePath(place.name.partition("?")[0]).name or place.name
    return [(name, text)]


def _named(places: Sequence[tuple[str, str | Raster]]) -> dict[str, str | Raster]:
    """Places by a name of their own: the whole path where two files are called the same."""
    counts = Counter(name for name, _ in places)
    named: dict[str, str | Raster] = {}
    for name, place in places:
        whole = place.path if isinstance(place, Raster) else place
        key = name if counts[name] == 1 else whole
        if key in named:
            raise UsageError(f"{whole} is there twice.")
        named[key] = place
    return named
