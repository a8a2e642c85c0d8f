"""How samples become RGB and a mask: bands, nodata, alpha, palettes, and one stretch for all windows of a raster."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, frozen

from geovlm.errors import UsageError
from geovlm.imaging import MAX_SOFT_ALPHA, Stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Look", "look_at"]

EIGHT_BIT = Stretch(low=0, high=255)

# Names of bands as Sentinel-2, products of Landsat 8 and 9 and people write them.
COLOURS = {"red": r"b0?4|red", "green": r"b0?3|green", "blue": r"b0?2|blue"}
# 12 bands of 16 bits are Sentinel-2 at level 2A (without B10), 13 are level 1C; both begin with B1, B2, B3, B4.
SENTINEL_2, SENTINEL_2_RGB = (12, 13), (4, 3, 2)

# What a stretch and an alpha are judged by: all of a small raster or of an overview, else small windows all over it.
WHOLE_SIDE = 1024
WHOLE_PIXELS = 1 << 22
PLACES, PLACE_SIDE = 8, 128


@frozen(kw_only=True, eq=False)
class Look:
    """What is read of a raster, and what it means.

    Args:
        bands: Those shown as red, green and blue, or one as grey; from 1.
        reason: Why these.
        kind: Type of the samples.
        alpha: A band that is a believable alpha.
        opaque: Its value where nothing shines through.
        has_mask: Whether a mask lies beside the samples.
        nodata: The value without a meaning of each band, in the samples' type.
        palette: RGBA by value.
        stretch: From samples to 8 bits.
    """

    bands: tuple[int, ...]
    reason: str
    kind: str
    alpha: int | None = None
    opaque: float = 255
    has_mask: bool = False
    nodata: tuple[Any, ...] = ()
    palette: NDArray[np.uint8] | None = None
    stretch: Stretch = EIGHT_BIT

    @property
    def indexes(self) -> list[int]:
        """The bands to read."""
        return [*self.bands, *([self.alpha] if self.alpha else [])]

    @property
    def is_complex(self) -> bool:
        """Whether samples are complex; their magnitude is shown."""
        return self.kind.startswith("complex")

    @property
    def is_all_valid(self) -> bool:
        """Whether every sample has a meaning."""
        hides = self.has_mask or self.alpha is not None or self.palette is not None
        return not hides and self.kind[0] != "f" and all(value is None for value in self.nodata)

    @property
    def is_exact(self) -> bool:
        """Whether samples cannot be averaged: classes, and complex numbers, whose phases would cancel out."""
        return self.palette is not None or self.is_complex

    def to_rgb(
        self, samples: NDArray[Any], mask: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Samples `(bands, height, width)` as read to RGB `(height, width, 3)` and a mask of what is valid."""
        colours, valid = self._split(samples, mask)
        if self.palette is not None:
            values = np.clip(colours[0].astype(np.int64), 0, len(self.palette) - 1)
            shown = self.palette[values]
            return _blackened(shown[..., :3], valid & (shown[..., 3] > 0))
        return _blackened(np.moveaxis(_stretched(colours, self.stretch), 0, -1), valid)

    def _split(self, samples: NDArray[Any], mask: NDArray[np.uint8] | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        colours = samples[: len(self.bands)]
        if self.is_complex:
            colours = np.abs(colours)
        valid = np.ones(samples.shape[1:], dtype=bool)
        if any(value is not None for value in self.nodata):
            valid = np.zeros_like(valid)
            for band, value in zip(colours, self.nodata, strict=True):
                valid |= band != value if value is not None else True
        if colours.dtype.kind == "f":
            valid &= np.isfinite(colours).all(axis=0)
        if self.alpha is not None:
            valid &= samples[-1] >= self.opaque / 2
        if mask is not None:
            valid &= mask >= 128
        return colours, valid


def _stretched(colours: NDArray[Any], stretch: Stretch) -> NDArray[np.uint8]:
    if colours.dtype == np.uint8 and stretch == EIGHT_BIT:
        return colours
    if colours.dtype.kind in "iu" and colours.dtype.itemsize <= 2:
        shown: NDArray[np.uint8] = _table(colours.dtype.str, stretch)[colours]
        return shown
    return stretch.apply(colours)


@lru_cache(maxsize=64)
def _table(kind: str, stretch: Stretch) -> NDArray[np.uint8]:
    """The stretch of every value of 8 or 16 bits; negative ones are at the end, where negative indices find them."""
    values = np.arange(2 ** (8 * np.dtype(kind).itemsize), dtype=np.int64).astype(kind)
    return stretch.apply(values)


def _blackened(rgb: NDArray[np.uint8], valid: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))
    return np.ascontiguousarray(rgb if valid.all() else np.where(valid[..., None], rgb, 0)), valid


def look_at(dataset: Any, bands: Sequence[int] | None, stretch: Stretch | None) -> Look:
    """Decide how an open data set is to be shown.

    Raises:
        UsageError: There are no such bands.
    """
    chosen, reason = _choose_bands(dataset, bands)
    kinds = dataset.mask_flag_enums[chosen[0] - 1]
    names = {kind.name for kind in kinds}
    alpha, opaque = _believable_alpha(dataset, chosen)
    look = Look(
        bands=chosen,
        reason=reason,
        kind=dataset.dtypes[chosen[0] - 1],
        alpha=alpha,
        opaque=opaque,
        has_mask="per_dataset" in names and "alpha" not in names,
        nodata=tuple(_nodata(dataset, band) for band in chosen),
        palette=_palette(dataset, chosen) if stretch is None else None,
    )
    found = stretch or (EIGHT_BIT if look.palette is not None else _fit(dataset, look))
    return evolve(look, stretch=found)


def _choose_bands(dataset: Any, wanted: Sequence[int] | None) -> tuple[tuple[int, ...], str]:
    if wanted is not None:
        return _checked(tuple(wanted), dataset.count), "asked for"
    colours = [colour.name for colour in dataset.colorinterp]
    if all(name in colours for name in COLOURS):
        return tuple(colours.index(name) + 1 for name in COLOURS), "marked red, green, blue"
    names = [name or "" for name in dataset.descriptions]
    found = [[place for place, name in enumerate(names, 1) if _is_named(name, pattern)] for pattern in COLOURS.values()]
    if all(found):
        return tuple(places[0] for places in found), "named red, green, blue"
    if dataset.count in SENTINEL_2 and dataset.dtypes[0] in ("uint16", "int16"):
        return SENTINEL_2_RGB, f"{dataset.count} bands of 16 bits: Sentinel-2"
    is_grey = dataset.count < 3
    return ((1,), "the first as grey") if is_grey else ((1, 2, 3), "the first three")


def _is_named(name: str, pattern: str) -> bool:
    return re.fullmatch(pattern, name.strip(), flags=re.IGNORECASE) is not None


def _checked(bands: tuple[int, ...], count: int) -> tuple[int, ...]:
    if len(bands) not in (1, 3) or not all(isinstance(band, int) and 1 <= band <= count for band in bands):
        raise UsageError(
            f"bands names three bands as red, green, blue, or one as grey, each from 1 to {count}, not {list(bands)}."
        )
    return bands


def _believable_alpha(dataset: Any, bands: tuple[int, ...]) -> tuple[int | None, float]:
    """The band marked alpha, if it is nearly binary as masks are; NAIP's near-infrared comes with that mark as well."""
    colours = [colour.name for colour in dataset.colorinterp]
    if "alpha" not in colours or colours.index("alpha") + 1 in bands:
        return None, 255
    band = colours.index("alpha") + 1
    kind = np.dtype(dataset.dtypes[band - 1])
    values = sampled(dataset, [band])
    opaque = float(np.iinfo(kind).max) if kind.kind in "iu" else float(values.max(initial=1.0))
    if kind == np.uint16 and values.max(initial=0) <= 255:  # 8 bits in a wider type
        opaque = 255.0
    soft = np.mean((values > 0) & (values < opaque))
    return (band, opaque) if soft <= MAX_SOFT_ALPHA else (None, 255)


def _nodata(dataset: Any, band: int) -> Any:
    value, kind = dataset.nodatavals[band - 1], dataset.dtypes[band - 1]
    if value is None or "complex" in kind:
        return None
    kind = np.dtype(kind)
    if kind.kind == "f":
        return kind.type(value)
    fits = float(value).is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max
    return kind.type(int(value)) if fits else None


def _palette(dataset: Any, bands: tuple[int, ...]) -> NDArray[np.uint8] | None:
    if len(bands) > 1 or dataset.colorinterp[bands[0] - 1].name != "palette":
        return None
    entries = dataset.colormap(bands[0])
    # One more than there are, transparent, for values beyond the last.
    palette = np.zeros((max(entries, default=0) + 2, 4), dtype=np.uint8)
    for value, colour in entries.items():
        palette[value] = colour
    return palette


def _fit(dataset: Any, look: Look) -> Stretch:
    """The range of 8 bits as it is; of others 2 to 98 % of the valid samples."""
    kind = dataset.dtypes[look.bands[0] - 1]
    bits = int(dataset.tags(look.bands[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if kind == "uint8":
        return EIGHT_BIT if bits >= 8 else Stretch(low=0, high=2**bits - 1)
    for whole in (None, True):
        samples = sampled(dataset, look.indexes, whole=whole)
        # A mask beside the samples is not looked at: what it hides is mostly nodata or zero, and rarely many pixels.
        colours, valid = look._split(samples, None)  # noqa: SLF001 - its own module
        if valid.any():
            break
    return Stretch.fit(np.moveaxis(colours, 0, -1), valid=valid)


def sampled(dataset: Any, bands: Sequence[int], *, whole: bool | None = None) -> NDArray[Any]:
    """Samples `(bands, rows, columns)` from all over a raster, without reading all of a large one."""
    from rasterio.windows import Window as Region

    if whole or (whole is None and (dataset.overviews(bands[0]) or dataset.width * dataset.height <= WHOLE_PIXELS)):
        share = max(1.0, max(dataset.width, dataset.height) / WHOLE_SIDE)
        shape = (len(bands), max(1, int(dataset.height / share)), max(1, int(dataset.width / share)))
        return np.asarray(dataset.read(list(bands), out_shape=shape))
    wide, high = min(PLACE_SIDE, dataset.width), min(PLACE_SIDE, dataset.height)
    columns = np.linspace(0, dataset.width - wide, PLACES).astype(int).tolist()
    rows = np.linspace(0, dataset.height - high, PLACES).astype(int).tolist()
    return np.concatenate(
        [dataset.read(list(bands), window=Region(col, row, wide, high)) for row in rows for col in columns], axis=1
    )
