"""From whatever holds an image to 8-bit RGB, and from RGB to small JPEGs.

One function, `open_image`, takes every path: EXIF rotation, palettes, grey, CMYK, CIELAB, transparency, 16-bit and
float samples, decompression bombs and truncated files. It ends in an RGB picture or in an `ImageError` with the
reason; it never returns half an image.
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from attrs import field, frozen
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from geovlm._workers import claim
from geovlm.errors import ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["MAX_PIXELS", "ImageLike", "Stretch", "as_rgb", "open_image", "to_data_url", "to_jpeg"]

# Twice Pillow's warning threshold, which is also where Pillow itself refuses: 537 MB as RGB.
MAX_PIXELS = 178_956_970

# A true mask is nearly binary. NAIP stores near-infrared as the fourth band and labels it alpha, so the label alone
# cannot be believed: of the two NAIP scenes tried all "alpha" lies strictly between 0 and 255, of real masks at most
# 27 %.
MAX_SOFT_ALPHA = 0.5

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Callable[[], Any]"
"""What an image can be given as: a path, encoded bytes, a PIL image, an array `(height, width[, bands])`, or a
function that returns one of these when it is called."""


@frozen(kw_only=True)
class Stretch:
    """A linear map from sample values to 0–255, the same for every band so that colours keep their ratios.

    Args:
        low: The value shown as 0.
        high: The value shown as 255; more than `low`.

    Examples:
        >>> samples = np.array([[0, 1000], [2000, 3000]], dtype=np.uint16)
        >>> stretch = Stretch.fit(samples, percentiles=(0, 100))
        >>> stretch
        Stretch(low=0.0, high=3000.0)
        >>> stretch.apply(samples).tolist()
        [[0, 85], [170, 255]]
    """

    low: float = field(converter=float)
    high: float = field(converter=float)

    def __attrs_post_init__(self) -> None:
        if not self.high > self.low:
            raise UsageError(f"A stretch needs low < high, not {self.low} and {self.high}.")

    @classmethod
    def fit(
        cls,
        samples: NDArray[Any],
        *,
        valid: NDArray[np.bool_] | None = None,
        percentiles: tuple[float, float] = (2.0, 98.0),
    ) -> Stretch:
        """Choose the range from the valid, finite samples of all bands together.

        Args:
            samples: Values of any real type and shape.
            valid: `True` where a sample counts; the shape of `samples` or its first two axes.
            percentiles: Which share of the values lies below `low` and below `high`.

        Returns:
            The stretch. Constant or empty input gives a range of width one, so that it stays constant.
        """
        usable = np.isfinite(samples)
        if valid is not None:
            usable &= valid if valid.shape == samples.shape else valid[..., None]
        values = samples[usable]
        if values.size == 0:
            return cls(low=0.0, high=1.0)
        low, high = (float(v) for v in np.percentile(values, percentiles))
        # A constant needs some width: one, or more where one is below the resolution of so large a number.
        return cls(low=low, high=high if high > low else low + max(1.0, abs(low) * 1e-6))

    def apply(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Map samples to 8 bits; values outside the range are clipped, NaN becomes 0."""
        # 16-bit samples fit float32 exactly; wider ones need double, or large offsets eat the contrast.
        precision = np.float32 if samples.dtype.itemsize <= 2 else np.float64
        clipped = np.clip(samples.astype(precision), self.low, self.high)
        share = (clipped - self.low) / (self.high - self.low)
        rounded: NDArray[np.uint8] = np.nan_to_num(share * 255.0, nan=0.0).round().astype(np.uint8)
        return rounded


def open_image(
    source: ImageLike,
    *,
    size_hint: int | None = None,
    bands: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Read an image as 8-bit RGB, upright.

    Transparent pixels become black, as nodata is in overhead imagery. Samples of more than 8 bits are shown through a
    2–98 % `Stretch` over all bands. TIFFs that Pillow cannot read (several bands of 16 bits, floats, WebP inside) are
    read by rasterio when it is installed.

    Args:
        source: A path, encoded bytes, a PIL image, an array `(height, width)` or `(height, width, bands)`, or a
            function returning one of these.
        size_hint: The smaller side in pixels that is enough. A larger JPEG is then decoded at a half, a quarter or
            an eighth of its size, never below the hint, which is several times faster.
        bands: For TIFFs, which bands (from 1) are red, green and blue.
        max_pixels: Refuse larger images, in pixels; a guard against decompression bombs.

    Raises:
        ImageError: The image is missing, broken, too large or not an image; says which.

    Examples:
        >>> open_image(np.zeros((4, 6), dtype=np.uint8)).size
        (6, 4)
        >>> open_image(b"no image")
        Traceback (most recent call last):
        ...
        geovlm.errors.ImageError: not an image, or of a format that Pillow does not know.
    """
    source = resolve(source)
    uri = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    try:
        if isinstance(source, np.ndarray):
            return _array_to_rgb(source)
        if isinstance(source, Image.Image):
            return as_rgb(source)
        if isinstance(source, str | os.PathLike | bytes):
            return _decode(source, size_hint=size_hint, bands=bands, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(error.reason, uri=uri) from error
    except Exception as error:  # decoders raise anything on hostile bytes: struct.error, IndexError …
        raise ImageError(_reason(error), uri=uri) from error
    raise ImageError(
        f"cannot take an image from a {type(source).__name__}; give a path, bytes, an array or a PIL image"
    )


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn any PIL mode into RGB, with EXIF rotation applied; an RGB image that is upright comes back as it is.

    Args:
        image: Of any mode, 16 and 32 bits included.

    Examples:
        >>> as_rgb(Image.new("LA", (2, 1), (200, 0))).getpixel((0, 0))
        (0, 0, 0)
    """
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _array_to_rgb(np.asarray(image))
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        return _flatten(image.convert("RGBA"))
    return image.convert("RGB")


def to_jpeg(image: Image.Image, *, max_side: int | None = None, quality: int = 85) -> bytes:
    """Encode as JPEG, scaled down so that neither side is longer than `max_side` pixels.

    Args:
        image: RGB, or of another mode that `as_rgb` turns into it.
        max_side: Most pixels of the longer side; `None` keeps the size.
        quality: Of JPEG, 1 to 95.

    Examples:
        >>> small = Image.open(io.BytesIO(to_jpeg(Image.new("RGB", (400, 200)), max_side=100)))
        >>> small.size, small.format
        ((100, 50), 'JPEG')
    """
    image = as_rgb(image)
    if max_side is not None and max(image.size) > max_side:
        image = image.copy()
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def to_data_url(image: Image.Image, *, max_side: int | None = None, quality: int = 85) -> str:
    """Encode as a `data:image/jpeg;base64,…` URL, as web pages and vision-language services take it.

    Args:
        image: As for `to_jpeg`.
        max_side: Most pixels of the longer side; `None` keeps the size.
        quality: Of JPEG, 1 to 95.

    Examples:
        >>> to_data_url(Image.new("RGB", (8, 8)))[:23]
        'data:image/jpeg;base64,'
    """
    payload = base64.b64encode(to_jpeg(image, max_side=max_side, quality=quality)).decode("ascii")
    return f"data:image/jpeg;base64,{payload}"


def resolve(source: ImageLike) -> Any:
    """What a function hands out when it is called; anything else as it is."""
    if not callable(source):
        return source
    try:
        return source()
    except ImageError:
        raise
    except Exception as error:  # a reader that fails is one image that failed
        raise ImageError(_reason(error)) from error


def _decode(
    source: str | os.PathLike[str] | bytes, *, size_hint: int | None, bands: Sequence[int] | None, max_pixels: int
) -> Image.Image:
    if _is_empty(source):
        raise ImageError("the file is empty")
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        image = Image.open(stream)
    except UnidentifiedImageError:
        if _looks_like_tiff(source):
            return _read_tiff(source, size_hint=size_hint, bands=bands, max_pixels=max_pixels)
        raise
    with image:
        if image.width * image.height > max_pixels:
            raise ImageError(
                f"{image.width}x{image.height} pixels are more than the limit of {max_pixels:,}; cut it into windows"
            )
        if image.format == "TIFF" and (bands is not None or _loses_samples(image)):
            return _read_tiff(source, size_hint=size_hint, bands=bands, max_pixels=max_pixels)
        if size_hint is not None and image.format == "JPEG":
            image.draft("RGB" if image.mode != "L" else "L", (size_hint, size_hint))
        claim(image.width * image.height)
        try:
            image.load()
        except OSError:
            # libtiff inside Pillow lacks compressions that GDAL has (WebP); a broken file fails there as well.
            if image.format != "TIFF":
                raise
            return _read_tiff(source, size_hint=size_hint, bands=bands, max_pixels=max_pixels)
        if image.format == "TIFF" and image.mode == "RGBA" and _alpha_is_a_band(image):
            return Image.merge("RGB", image.split()[:3])
        return as_rgb(image)


def _is_empty(source: str | os.PathLike[str] | bytes) -> bool:
    return len(source) == 0 if isinstance(source, bytes) else Path(source).stat().st_size == 0


def _looks_like_tiff(source: str | os.PathLike[str] | bytes) -> bool:
    if isinstance(source, bytes):
        head = source[:4]
    else:
        with Path(source).open("rb") as file:
            head = file.read(4)
    return head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _loses_samples(image: Image.Image) -> bool:
    """Whether Pillow would cut 16-bit colours to their upper byte, or show one band of several."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits, samples = max(tags.get(258, (1,))), tags.get(277, 1)
    return bool(bits > 8 and samples > 1)


def _read_tiff(source: str | os.PathLike[str] | bytes, **options: Any) -> Image.Image:
    from geovlm._tiff import read_tiff

    return read_tiff(source, **options)


def _alpha_is_a_band(image: Image.Image) -> bool:
    counts = np.asarray(image.getchannel("A").histogram())
    return bool(counts[1:255].sum() > MAX_SOFT_ALPHA * counts.sum())


def _upright(image: Image.Image) -> Image.Image:
    try:
        # Asked first, because Pillow copies an image that is upright, which takes a third as long as decoding it.
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return image if upright else ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - broken EXIF must not cost a good image
        return image


def _flatten(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(canvas, image).convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ImageError("CIELAB colours could not be converted to RGB")
    return converted


def _array_to_rgb(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        hint = "; move the bands last: array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (3, 4) else ""
        raise ImageError(f"an array must be (height, width) or (height, width, 3 or 4), not {array.shape}{hint}")
    if array.size == 0:
        raise ImageError(f"an array of shape {array.shape} has no pixels")
    if np.iscomplexobj(array) or array.dtype.kind not in "biuf":
        hint = "; take their magnitude first" if np.iscomplexobj(array) else ""
        raise ImageError(f"samples of type {array.dtype} have no brightness{hint}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8:
        array = (
            Stretch.fit(array[..., :3]).apply(array[..., :3]) if array.ndim == 3 else Stretch.fit(array).apply(array)
        )
    return as_rgb(Image.fromarray(np.ascontiguousarray(array)))


REASONS: dict[type[Exception], str] = {
    UnidentifiedImageError: "not an image, or of a format that Pillow does not know",
    FileNotFoundError: "the file does not exist",
    IsADirectoryError: "a folder, not a file",
    PermissionError: "the file may not be read; check its permissions",
    MemoryError: "not enough memory to decode it",
}


def _reason(error: Exception) -> str:
    for kind, reason in REASONS.items():
        if isinstance(error, kind):
            return reason
    if isinstance(error, Image.DecompressionBombError):
        return f"too large, perhaps a decompression bomb ({error})"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
