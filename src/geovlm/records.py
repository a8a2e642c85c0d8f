"""The values that travel through geovlm: small, immutable, keyword-only."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve, field, frozen

from geovlm._markup import guarded, lines, listing, panel, table
from geovlm.errors import ImageError, UsageError
from geovlm.imaging import ImageLike, open_image, to_data_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from PIL import Image

__all__ = ["Failure", "Footprint", "Record", "Report"]

THUMBNAIL_SIDE = 320
CAPTIONS_SHOWN, SHOWN = 8, 20


@frozen(kw_only=True)
class Footprint:
    """A box on the Earth in WGS 84 degrees; `west > east` means that it crosses the antimeridian.

    Args:
        west: Longitude of the western edge, −180 to 180.
        south: Latitude of the southern edge, −90 to 90.
        east: Longitude of the eastern edge, −180 to 180.
        north: Latitude of the northern edge, at least `south`.

    Examples:
        >>> Footprint(west=8.5, south=47.0, east=9.0, north=47.5).center
        (8.75, 47.25)
        >>> Footprint(west=179.0, south=-18.0, east=-179.0, north=-17.0).center
        (180.0, -17.5)
    """

    west: float = field(converter=float)
    south: float = field(converter=float)
    east: float = field(converter=float)
    north: float = field(converter=float)

    def __attrs_post_init__(self) -> None:
        if not (-180 <= self.west <= 180 and -180 <= self.east <= 180):
            raise UsageError(f"Longitudes lie between -180 and 180 degrees, not {self.west} and {self.east}.")
        if not -90 <= self.south <= self.north <= 90:
            raise UsageError(f"Latitudes need -90 <= south <= north <= 90, not {self.south} and {self.north}.")

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """`(west, south, east, north)`, the order of GeoJSON's `bbox`."""
        return self.west, self.south, self.east, self.north

    @property
    def center(self) -> tuple[float, float]:
        """`(longitude, latitude)` of the middle."""
        width = self.east - self.west if self.west <= self.east else self.east + 360 - self.west
        longitude = self.west + width / 2
        return (longitude - 360 if longitude > 180 else longitude), (self.south + self.north) / 2


def _captions(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


@frozen(kw_only=True)
class Record:
    """One image and what is known of it: what a source yields.

    Args:
        id: Its name, unique within a source.
        image: Where the pixels come from: a path, encoded bytes, a PIL image, an array, or a function that
            returns one of these. `None` for a record that is only text.
        captions: Sentences that describe it; one string is taken as one caption.
        label: Its class, when it has one.
        footprint: Where it lies on the Earth, when that is known.
        meta: Anything else, JSON-like, by name; filters see these names.

    Examples:
        >>> record = Record(id="a", image="scenes/a.jpg", captions="a small harbour", meta={"year": 2024})
        >>> record.uri, record.captions
        ('scenes/a.jpg', ('a small harbour',))
    """

    id: str
    image: ImageLike | None = field(default=None, repr=lambda value: type(value).__name__, eq=False)
    captions: tuple[str, ...] = field(default=(), converter=_captions)
    label: str | None = None
    footprint: Footprint | None = None
    meta: Mapping[str, Any] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise UsageError(f"A record's id is a string of at least one character, not {self.id!r}.")

    @property
    def uri(self) -> str | None:
        """The path of the image, when it has one."""
        return os.fspath(self.image) if isinstance(self.image, str | Path) else None

    def open(self, *, size_hint: int | None = None) -> Image.Image:
        """Decode the image as 8-bit RGB.

        Args:
            size_hint: The smaller side in pixels that is enough; see `geovlm.imaging.open_image`.

        Raises:
            ImageError: There is no image, or it cannot be read.
        """
        if self.image is None:
            raise ImageError(f"the record {self.id!r} has no image")
        return open_image(self.image, size_hint=size_hint)

    def with_captions(self, captions: str | Iterable[str]) -> Self:
        """A copy with other captions."""
        return evolve(self, captions=_captions(captions))

    @guarded
    def _repr_html_(self) -> str:
        """The picture with what is known of it, for a notebook."""
        place = None if self.footprint is None else ", ".join(f"{value:.6g}" for value in self.footprint.bounds)
        known = {"label": self.label, "footprint": place, **self.meta}
        return panel(self.id, self._thumbnail(), lines(self.captions[:CAPTIONS_SHOWN]), listing(known))

    def _thumbnail(self) -> str:
        if self.image is None:
            return ""
        try:
            url = to_data_url(self.open(size_hint=THUMBNAIL_SIDE), max_side=THUMBNAIL_SIDE)
        except Exception as error:  # noqa: BLE001 - an image may be a function of the user's; the rest is still shown
            return lines([f"no picture: {error}"])
        return f'<img src="{url}" alt="">'


@frozen(kw_only=True)
class Failure:
    """One input that could not be used, and why.

    Args:
        id: The record's id.
        stage: What was being done: `"read"`, `"decode"`, `"caption"`, …
        reason: What went wrong, in words.
        uri: Where the input is, when it has a place.

    Examples:
        >>> Failure(id="a.jpg", stage="decode", reason="the file is empty").stage
        'decode'
    """

    id: str
    stage: str
    reason: str
    uri: str | None = None

    def __str__(self) -> str:
        return f"{self.uri or self.id}: {self.stage}: {self.reason}"


def _failures(value: Iterable[Failure]) -> tuple[Failure, ...]:
    return tuple(value)


@frozen(kw_only=True)
class Report:
    """What became of every input of a long call: each is in exactly one of the three states.

    Args:
        done: Inputs finished by this call.
        skipped: Inputs found finished by an earlier call.
        failures: Inputs that could not be used.
        stage: What was done, for reading.
        seconds: Wall-clock time of this call.

    Examples:
        >>> report = Report(stage="embed", done=2, failures=[Failure(id="x", stage="decode", reason="empty file")])
        >>> report.total, report.failed
        (3, 1)
        >>> print(report)
        embed: 2 done, 0 skipped, 1 failed of 3
          x: decode: empty file
    """

    stage: str = "run"
    done: int = 0
    skipped: int = 0
    failures: tuple[Failure, ...] = field(default=(), converter=_failures)
    seconds: float = field(default=math.nan, eq=False)

    @property
    def failed(self) -> int:
        """How many inputs could not be used."""
        return len(self.failures)

    @property
    def total(self) -> int:
        """How many inputs there were."""
        return self.done + self.skipped + self.failed

    def __str__(self) -> str:
        shown = 10
        lines = [f"{self.stage}: {self.done} done, {self.skipped} skipped, {self.failed} failed of {self.total}"]
        lines += [f"  {failure}" for failure in self.failures[:shown]]
        if self.failed > shown:
            lines.append(f"  … and {self.failed - shown} more in .failures")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        shown = [(failure.uri or failure.id, failure.stage, failure.reason) for failure in self.failures[:SHOWN]]
        head = str(self).split("\n", 1)[0]
        return panel(head, table(("input", "stage", "reason"), shown, total=self.failed))
