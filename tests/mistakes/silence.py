"""What goes wrong without an error: the page says so."""

from __future__ import annotations

import numpy as np

import geovlm as gv
from geovlm.testing import HashEncoder
from tests.mistakes.kit import filled, quiet, scenes


@quiet(
    "Blue and red are exchanged (BGR, as OpenCV reads)",
    "Nothing: a picture does not say in which order its channels are.",
    "`array[..., ::-1]`, or let geovlm read the file.",
)
def _():
    return gv.open_image(np.full((2, 2, 3), (200, 0, 0), np.uint8)).getpixel((0, 0)) == (200, 0, 0)


@quiet(
    "An array of floats, or of 16 bits",
    "Nothing: each is stretched by its own 2nd and 98th percentile.",
    "For the same brightness everywhere: `gv.Stretch(low=0, high=1).apply(array)` first.",
)
def _():
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    return gv.open_image(ramp).getextrema() == gv.open_image(ramp * 1000).getextrema()


@quiet(
    "A typo in a name that `where` asks for",
    "Nothing: no row has that name, so there are no hits.",
    "Look at a row: `next(iter(store.scan()))`.",
)
def _():
    return len(filled().search("a beach", where={"yaer": 2024})) == 0


@quiet(
    "A search before anything was added",
    "Nothing: an empty store has no hits.",
    "`index.store.count()` tells how many rows there are.",
)
def _():
    return len(gv.Index(HashEncoder()).search("a beach")) == 0


@quiet(
    "A generator that was read before",
    "Nothing: it yields no records, and the report has 0 of them.",
    "Pass a list or a source; a generator can be read once.",
)
def _():
    records = iter(list(scenes()))
    list(records)
    return gv.embed(records, HashEncoder()).report.total == 0
