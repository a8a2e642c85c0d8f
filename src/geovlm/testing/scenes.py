"""Synthetic overhead scenes: drawn, not photographed; for trying things out where no imagery is at hand.

A scene is a textured ground with a few kinds of objects on it, and its tags are exactly what was drawn. Models trained
on these learn nothing about the real Earth, and a number measured on them says only that the machinery works.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from geovlm._files import write_atomically
from geovlm.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = ["OBJECTS", "draw_scene", "write_scenes"]

Rng = np.random.Generator
Draw = ImageDraw.ImageDraw
Colour = tuple[int, int, int]
Point = tuple[float, float]

GROUNDS: dict[str, Colour] = {
    "meadow": (96, 132, 72),
    "bare soil": (158, 128, 96),
    "desert sand": (208, 184, 138),
    "dry grass": (150, 148, 92),
}


def _noise(rng: Rng, side: int, scale: int) -> np.ndarray:
    """Smooth noise of shape `(side, side)` in about [-1, 1], with features of `scale` pixels."""
    coarse = rng.normal(size=(max(2, side // scale), max(2, side // scale))).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def draw_ground(rng: Rng, side: int, colour: Colour) -> Image.Image:
    """Textured ground `(side, side)` of about this colour."""
    texture = 9 * _noise(rng, side, 16) + 6 * _noise(rng, side, 4) + rng.normal(scale=4, size=(side, side))
    tint = np.asarray(colour, dtype=np.float32) + rng.normal(scale=6, size=3)
    return Image.fromarray((tint + texture[..., None]).clip(0, 255).astype(np.uint8))


def _box(draw: Draw, x: float, y: float, w: float, h: float, fill: Colour, outline: Colour | None = None) -> None:
    draw.rectangle((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=fill, outline=outline)


def _line(rng: Rng, draw: Draw, side: int, width: float, fill: Colour, bend: float) -> list[tuple[float, float]]:
    """A band right across the scene, along either axis."""
    along = np.linspace(-0.1, 1.1, 24) * side
    across = rng.uniform(0.25, 0.75) * side + bend * side * np.sin(along / side * rng.uniform(2, 6) + rng.uniform(0, 6))
    points = list(zip(along.tolist(), across.tolist(), strict=True))
    if rng.random() < 0.5:
        points = [(b, a) for a, b in points]
    draw.line(points, fill=fill, width=max(1, round(width)), joint="curve")
    return points


def _river(rng: Rng, draw: Draw, side: int, _: Point) -> None:
    _line(rng, draw, side, rng.uniform(0.1, 0.17) * side, (48, 88, 128), bend=0.13)


def _road(rng: Rng, draw: Draw, side: int, _: Point) -> None:
    points = _line(rng, draw, side, 0.07 * side, (96, 96, 100), bend=0.02)
    draw.line(points, fill=(222, 222, 210), width=max(1, side // 96))


def _roofs(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            u, v = x + column * 0.16 * side, y + row * 0.16 * side
            red = int(rng.integers(150, 190))
            _box(draw, u + 2, v + 2, 0.1 * side, 0.1 * side, (40, 42, 40))
            _box(draw, u, v, 0.1 * side, 0.1 * side, (red, 76, 58))
            draw.line((u - 0.05 * side, v, u + 0.05 * side, v), fill=(red - 50, 50, 40))


def _tanks(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    for u, v in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        cx, cy, r = x + u * 0.12 * side, y + v * 0.12 * side, 0.09 * side
        draw.ellipse((cx - r + 3, cy - r + 3, cx + r + 3, cy + r + 3), fill=(52, 52, 50))
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(232, 232, 226), outline=(170, 170, 168))


def _court(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    w, h = (0.34 * side, 0.2 * side) if rng.random() < 0.5 else (0.2 * side, 0.34 * side)
    _box(draw, x, y, w, h, (46, 110, 74))
    _box(draw, x, y, 0.76 * w, 0.72 * h, (58, 92, 160), (240, 240, 240))
    ends = (x, y - 0.36 * h, x, y + 0.36 * h) if w > h else (x - 0.38 * w, y, x + 0.38 * w, y)
    draw.line(ends, fill=(240, 240, 240))


def _trees(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    for _ in range(38):
        u, v = rng.normal(scale=0.13 * side, size=2)
        r = rng.uniform(0.02, 0.045) * side
        shade = int(rng.integers(44, 84))
        draw.ellipse((x + u - r, y + v - r, x + u + r, y + v + r), fill=(shade - 22, shade, shade - 20))


def _crops(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    w, h, step = 0.5 * side, 0.4 * side, max(3, side // 24)
    _box(draw, x, y, w, h, (190, 170, 82))
    for offset in np.arange(-w / 2, w / 2, step):
        draw.line((x + offset, y - h / 2, x + offset, y + h / 2), fill=(122, 142, 60), width=max(1, step // 2))


def _parking(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    w, h = 0.44 * side, 0.3 * side
    _box(draw, x, y, w, h, (84, 84, 88))
    for row in (-0.3, 0.3):
        for column in np.linspace(-0.44, 0.44, 9):
            if rng.random() < 0.75:
                colour = ((220, 220, 224), (150, 30, 34), (32, 48, 110), (24, 24, 26))[int(rng.integers(4))]
                _box(draw, x + column * w, y + row * h, 0.03 * side, 0.07 * side, colour)


def _pond(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    radii = 0.17 * side * (1 + 0.16 * np.sin(3 * angles + rng.uniform(0, 6)))
    outline = [(x + r * np.cos(a), y + 0.8 * r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]
    draw.polygon(outline, fill=(52, 92, 118), outline=(122, 132, 100))


def _panels(rng: Rng, draw: Draw, side: int, at: Point) -> None:
    x, y = at
    for row in np.linspace(-0.18, 0.18, 6):
        _box(draw, x, y + row * side, 0.44 * side, 0.042 * side, (28, 40, 86), (150, 156, 178))


OBJECTS: dict[str, Callable[[Rng, Draw, int, Point], None]] = {
    "river": _river,
    "road": _road,
    "red roofs": _roofs,
    "storage tanks": _tanks,
    "tennis court": _court,
    "trees": _trees,
    "crop field": _crops,
    "parking lot": _parking,
    "pond": _pond,
    "solar panels": _panels,
}
"""Tag → function that draws it; bands come first where several meet, so that objects lie on top."""


def _places(rng: Rng, side: int) -> list[Point]:
    """The middles of the four quarters in random order, each moved a little, so that objects seldom overlap."""
    middles = rng.permutation([(0.29, 0.29), (0.71, 0.29), (0.29, 0.71), (0.71, 0.71)])
    jittered = side * (middles + rng.uniform(-0.06, 0.06, size=(4, 2)))
    return [(float(x), float(y)) for x, y in jittered]


def draw_scene(rng: Rng, *, side: int = 128) -> tuple[Image.Image, list[str]]:
    """Draw one synthetic scene.

    Args:
        rng: Where all choices come from; equal states draw equal scenes.
        side: Width and height in pixels.

    Returns:
        The RGB image and its tags: one to three objects, then the ground.

    Examples:
        >>> image, tags = draw_scene(np.random.default_rng(0), side=64)
        >>> image.size, tags[-1] in GROUNDS
        ((64, 64), True)
    """
    ground = str(rng.choice(list(GROUNDS)))
    count = int(rng.integers(1, 4))
    chosen = set(rng.choice(list(OBJECTS), size=count, replace=False).tolist())
    names = [name for name in OBJECTS if name in chosen]
    canvas = draw_ground(rng, side * 2, GROUNDS[ground])
    draw = ImageDraw.Draw(canvas)
    for name, at in zip(names, _places(rng, side * 2), strict=False):
        OBJECTS[name](rng, draw, side * 2, at)
    small = canvas.resize((side, side), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.4))
    return small, [*names, ground]


def write_scenes(out: str | os.PathLike[str], n: int = 600, *, side: int = 128, seed: int = 0) -> Path:
    """Write synthetic scenes as JPEGs with a table of their tags.

    Scenes that are there already are left alone, so an interrupted call can be repeated.

    Args:
        out: The folder; gets `scenes/00000.jpg` … and `scenes.csv` with the columns `filepath`, `label` (the first
            object) and `tags` (separated by semicolons).
        n: How many scenes.
        side: Width and height in pixels.
        seed: Equal seeds write equal scenes.

    Returns:
        The path of the table, ready for `geovlm.TableSource`.

    Raises:
        UsageError: `n` is not at least 1.

    Examples:
        >>> import tempfile
        >>> table = write_scenes(tempfile.mkdtemp(), 3, side=32)
        >>> table.read_text().splitlines()[0]
        'filepath,label,tags'
    """
    if n < 1:
        raise UsageError(f"n is the number of scenes, at least 1, not {n}.")
    folder = Path(out)
    rows = []
    for number in range(n):
        name = f"scenes/{number:05d}.jpg"
        image, tags = draw_scene(np.random.default_rng([seed, number]), side=side)
        if not (folder / name).exists():
            write_atomically(folder / name, partial(image.save, format="JPEG", quality=92))
        rows.append((name, tags[0], ";".join(tags)))

    def write_table(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("filepath", "label", "tags"), *rows])

    write_atomically(folder / "scenes.csv", write_table)
    return folder / "scenes.csv"
