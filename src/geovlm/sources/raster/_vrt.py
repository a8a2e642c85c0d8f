"""Several files as one: GDAL's virtual rasters, written as XML that is opened from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np
from attrs import frozen

from geovlm.errors import UsageError
from geovlm.sources.raster._gdal import Place, reading
from geovlm.sources.raster._guard import check

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["mosaic", "stack"]

TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "float32": "Float32", "float64": "Float64", "complex64": "CFloat32", "complex128": "CFloat64",
    "complex_int16": "CInt16", "complex_int32": "CInt32",
}  # fmt: skip


@frozen(kw_only=True)
class _File:
    """What a VRT needs to know of one of its files."""

    place: Place
    width: int
    height: int
    count: int
    kind: str
    crs: str | None
    left: float
    top: float
    wide: float
    high: float
    colours: tuple[str, ...]
    palette: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def right(self) -> float:
        return self.left + self.wide * self.width

    @property
    def bottom(self) -> float:
        return self.top + self.high * self.height


def _look_into(place: Place) -> _File:
    with reading(place) as dataset:
        check(dataset, place)
        a, b, c, d, e, f = tuple(dataset.transform)[:6]
        if b or d or dataset.gcps[0]:
            raise UsageError(
                f"{place.name} is rotated or has control points; only files with upright grids make one raster."
            )
        is_palette = dataset.colorinterp[0].name == "palette"
        return _File(
            place=place, width=dataset.width, height=dataset.height, count=dataset.count, kind=dataset.dtypes[0],
            crs=dataset.crs.to_string() if dataset.crs else None, left=c, top=f, wide=a, high=e,
            colours=tuple(colour.name for colour in dataset.colorinterp),
            palette=tuple(dataset.colormap(1).items()) if is_palette else (),
        )  # fmt: skip


def mosaic(places: Sequence[Place]) -> Place:
    """Files side by side on the map as one raster; of two that overlap, the later one is seen.

    Raises:
        UsageError: They have different bands or coordinate reference systems, or none.
    """
    files = [_look_into(place) for place in places]
    first = files[0]
    for other in files[1:]:
        if (other.count, other.kind) != (first.count, first.kind):
            raise UsageError(
                f"{other.place.name} has {other.count} bands of {other.kind}, {first.place.name} {first.count} of"
                f" {first.kind}; files with the same bands make one raster."
            )
    _must_share_crs(files)
    bands = [[(file, band) for file in files] for band in range(1, first.count + 1)]
    return _as_place(files, bands, first.colours, first.palette)


def stack(places: Sequence[Place]) -> Place:
    """The first band of each file as the bands of one raster: red, green, blue.

    Raises:
        UsageError: They have different coordinate reference systems, or none.
    """
    files = [_look_into(place) for place in places]
    _must_share_crs(files)
    return _as_place(files, [[(file, 1)] for file in files], ("red", "green", "blue")[: len(files)], ())


def _must_share_crs(files: Sequence[_File]) -> None:
    first = files[0]
    for other in files:
        if other.crs is None or other.crs != first.crs:
            raise UsageError(
                f"{other.place.name} has {_name(other.crs)}, {first.place.name} {_name(first.crs)}; files of one"
                " coordinate reference system make one raster."
            )
        if np.sign(other.wide) != np.sign(first.wide) or np.sign(other.high) != np.sign(first.high):
            raise UsageError(f"{other.place.name} and {first.place.name} differ in which side is up.")


def _name(crs: str | None) -> str:
    return "no coordinate reference system" if crs is None else f"{crs:.60}"


def _as_place(
    files: Sequence[_File],
    bands: Sequence[Sequence[tuple[_File, int]]],
    colours: Sequence[str],
    palette: Sequence[tuple[int, tuple[int, ...]]],
) -> Place:
    return Place(
        _document(files, bands, colours, palette),
        files[0].place.name + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
        is_remote=any(file.place.is_remote for file in files),
        parts=tuple(file.place.path for file in files),
        state=tuple(number for file in files for number in file.place.state),
    )


@frozen(kw_only=True)
class _Grid:
    """The pixels of the VRT."""

    left: float
    top: float
    wide: float
    high: float
    width: int
    height: int


def _grid(files: Sequence[_File]) -> _Grid:
    """All extents together, at the resolution of the finest file."""
    wide, high = min((f.wide for f in files), key=abs), min((f.high for f in files), key=abs)
    left, right = _ends([x for f in files for x in (f.left, f.right)], wide)
    top, bottom = _ends([y for f in files for y in (f.top, f.bottom)], high)
    return _Grid(
        left=left,
        top=top,
        wide=wide,
        high=high,
        width=round((right - left) / wide),
        height=round((bottom - top) / high),
    )


def _ends(values: Sequence[float], step: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if step > 0 else (high, low)


def _document(
    files: Sequence[_File],
    bands: Sequence[Sequence[tuple[_File, int]]],
    colours: Sequence[str],
    palette: Sequence[tuple[int, tuple[int, ...]]],
) -> str:
    grid = _grid(files)
    lines = [
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">',
        f"<SRS>{escape(files[0].crs or '')}</SRS>",
        f"<GeoTransform>{grid.left!r}, {grid.wide!r}, 0.0, {grid.top!r}, 0.0, {grid.high!r}</GeoTransform>",
    ]
    for number, sources in enumerate(bands, 1):
        lines.append(f'<VRTRasterBand dataType="{_type(files)}" band="{number}">')
        if number <= len(colours):
            lines.append(f"<ColorInterp>{colours[number - 1].capitalize()}</ColorInterp>")
        lines += [_colour_table(palette), *(_source(file, str(band), grid) for file, band in sources)]
        lines.append("</VRTRasterBand>")
    masks = [_source(file, f"mask,{band}", grid) for file, band in bands[0]]
    lines += ['<MaskBand><VRTRasterBand dataType="Byte">', *masks, "</VRTRasterBand></MaskBand>", "</VRTDataset>"]
    return "".join(lines)


def _type(files: Sequence[_File]) -> str:
    kinds = {file.kind for file in files}
    if len(kinds) == 1:
        return TYPES[kinds.pop()]
    return TYPES[str(np.result_type(*[np.dtype(kind) for kind in kinds]))]


def _colour_table(palette: Sequence[tuple[int, tuple[int, ...]]]) -> str:
    if not palette:
        return ""
    colours = dict(palette)
    entries = [colours.get(value, (0, 0, 0, 0)) for value in range(max(colours) + 1)]
    rows = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in entries)
    return f"<ColorTable>{rows}</ColorTable>"


def _source(file: _File, band: str, grid: _Grid) -> str:
    """One file's part of a band; what its mask hides, or is 0 in a mask, lets an earlier file be seen."""
    is_mask = band.startswith("mask")
    x, y = (file.left - grid.left) / grid.wide, (file.top - grid.top) / grid.high
    width, height = file.width * file.wide / grid.wide, file.height * file.high / grid.high
    hides = "<NODATA>0</NODATA>" if is_mask else "<UseMaskBand>true</UseMaskBand>"
    return (
        f'<ComplexSource><SourceFilename relativeToVRT="0">{escape(file.place.path)}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SourceProperties RasterXSize="{file.width}" RasterYSize="{file.height}"'
        f' DataType="{"Byte" if is_mask else TYPES[file.kind]}"/>'
        f'<SrcRect xOff="0" yOff="0" xSize="{file.width}" ySize="{file.height}"/>'
        f'<DstRect xOff="{x!r}" yOff="{y!r}" xSize="{width!r}" ySize="{height!r}"/>'
        f"{hides}</ComplexSource>"
    )
