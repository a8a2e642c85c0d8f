"""Did something get much slower? Costs of geovlm over those of plain code for the same work, held to bounds.

    python benchmarks/guard.py [--only NAME …] [--turns 5] [--out guard.json]

Each guard is a *ratio* of processor times of one process: both sides do the same work, in turns, and the least time of
each counts, because other programs only ever add to it. No time by the clock is compared with anything, so that the
machine and its load do not matter. Bounds are at least twice what was measured when they were set (`usual`): they catch
a stage that has become quadratic, a copy for every row, a cache that is made anew; not five per cent. A guard that is
above its bound after a few turns gets more of them before it fails. Exit status 1 says which has failed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Libraries read these when they are imported; the sum over threads that wait for each other is no cost of the work.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from attrs import frozen  # noqa: E402
from PIL import Image  # noqa: E402

import geovlm as gv  # noqa: E402
from geovlm.testing.scenes import draw_scene  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Work = Callable[[], object]

SIDE, DIM, ROWS, CODED = 64, 128, 20_000, 200_000


@frozen(kw_only=True)
class Guard:
    """One ratio.

    Attributes:
        name: As `--only` takes it.
        what: Ours over theirs, in words.
        make: Makes both, ready to run.
        usual: The ratio when the bound was set.
        most: The bound.
    """

    name: str
    what: str
    make: Callable[[Path], tuple[Work, Work]]
    usual: float
    most: float


class Projection:
    """A `PixelEncoder` of one small matrix, so that nearly all of the time is the pipeline's."""

    name, dim, fingerprint, logit_scale, image_size = "projection", DIM, "guard", 100.0, SIDE

    def __init__(self) -> None:
        self.matrix = np.random.default_rng(0).normal(size=(SIDE * 3, DIM)).astype(np.float32)

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """The small image."""
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Floats:
        """Means of columns, turned at random."""
        rows = pixels.mean(axis=1, dtype=np.float32).reshape(len(pixels), -1) @ self.matrix
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_images(self, images: Sequence[Image.Image]) -> Floats:
        """Both steps."""
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Vectors that mean nothing."""
        rows = np.random.default_rng(len(texts)).normal(size=(len(texts), DIM)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@cache
def jpegs(number: int, side: int) -> list[bytes]:
    """Drawn scenes as JPEG files, each another one."""
    pictures = [
        draw_scene(np.random.default_rng(seed), side=min(side, 200))[0].resize((side, side)) for seed in range(8)
    ]
    files = []
    for place in range(number):
        file = io.BytesIO()
        pictures[place % len(pictures)].rotate(place).save(file, "JPEG", quality=80)
        files.append(file.getvalue())
    return files


@cache
def vectors(rows: int) -> Floats:
    """Unit vectors about 50 middles."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(50, DIM)).astype(np.float32)
    found = middles[rng.integers(50, size=rows)] + rng.normal(size=(rows, DIM), scale=0.7).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@cache
def rows_of(rows: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Ids and metadata."""
    return [f"scene-{n:09d}" for n in range(rows)], [
        {"year": 2000 + n % 25, "sensor": f"S{n % 3}"} for n in range(rows)
    ]


@cache
def filled(rows: int) -> gv.NumpyStore:
    """A store with codes and columns, as the first queries make them."""
    store, (ids, metadata) = gv.NumpyStore(), rows_of(rows)
    store.upsert(ids, vectors(rows), metadata)
    store.query(vectors(rows)[:1], 10, where={"year": 2003})
    return store


def plain_loop(files: list[bytes], encoder: Projection, batch: int = 64) -> Floats:
    found = []
    for start in range(0, len(files), batch):
        images = [Image.open(io.BytesIO(file)) for file in files[start : start + batch]]
        found.append(encoder.encode_images(images))
    return np.concatenate(found)


def embedding(_: Path) -> tuple[Work, Work]:
    files, encoder = jpegs(256, 100), Projection()
    records = [gv.Record(id=f"{place:05d}", image=file) for place, file in enumerate(files)]
    return lambda: gv.embed(records, encoder, progress=False), lambda: plain_loop(files, encoder)


def parts(folder: Path) -> tuple[Work, Work]:
    files, encoder, numbers = jpegs(256, 100), Projection(), count()
    records = [gv.Record(id=f"{place:05d}", image=file) for place, file in enumerate(files)]

    def on_disk() -> object:
        return gv.embed(records, encoder, out=folder / f"parts-{next(numbers)}", progress=False)

    return on_disk, lambda: gv.embed(records, encoder, progress=False)


def reading(folder: Path) -> tuple[Work, Work]:
    files, encoder = jpegs(256, 100), Projection()
    records = [gv.Record(id=f"{n:05d}", image=files[n % len(files)]) for n in range(1024)]
    found = gv.embed(records, encoder, out=folder / "to-read", progress=False)
    paths = sorted((folder / "to-read").glob("*.parquet"))

    def plainly() -> object:
        tables = [pq.read_table(path) for path in paths]
        return [(table.to_pylist(), np.array(table["vector"].to_pylist())) for table in tables]

    return found.to_numpy, plainly


def drafts(_: Path) -> tuple[Work, Work]:
    files = jpegs(16, 800)
    records = [gv.Record(id=str(place), image=file) for place, file in enumerate(files)]

    def plainly() -> object:
        return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]

    return lambda: [record.open(size_hint=SIDE) for record in records], plainly


def brute(rows: int, query: Floats) -> list[tuple[str, float]]:
    ids, _ = rows_of(rows)
    scores = vectors(rows) @ query
    best = np.argpartition(-scores, 10)[:10]
    return [(ids[row], float(scores[row])) for row in best[np.argsort(-scores[best])]]


def query(_: Path) -> tuple[Work, Work]:
    store, asked = filled(ROWS), vectors(ROWS)[:30]
    return (
        lambda: [store.query(one[None], 10) for one in asked],
        lambda: [brute(ROWS, one) for one in asked],
    )


def coded_query(_: Path) -> tuple[Work, Work]:
    store, asked = filled(CODED), vectors(CODED)[:8]
    return (
        lambda: [store.query(one[None], 10) for one in asked],
        lambda: [brute(CODED, one) for one in asked],
    )


def filtering(_: Path) -> tuple[Work, Work]:
    store, (_, metadata), asked = filled(ROWS), rows_of(ROWS), vectors(ROWS)[:3]

    def plainly() -> object:
        for one in asked:
            kept = np.array([row["year"] >= 2020 and row["sensor"] == "S1" for row in metadata])
            np.where(kept, vectors(ROWS) @ one, -2).argsort()[-10:]

    where = {"year": {"$gte": 2020}, "sensor": "S1"}
    return lambda: [store.query(one[None], 10, where=where) for one in asked], plainly


def upsert(_: Path) -> tuple[Work, Work]:
    (ids, metadata), matrix = rows_of(ROWS), vectors(ROWS)

    def ours() -> object:
        return gv.NumpyStore().upsert(ids, matrix, metadata)

    def plainly() -> object:
        return dict(zip(ids, range(ROWS), strict=True)), matrix.copy(), [json.dumps(row) for row in metadata]

    return ours, plainly


def searching(_: Path) -> tuple[Work, Work]:
    encoder, store = Projection(), gv.NumpyStore()
    store.bind(dim=DIM, fingerprint=encoder.fingerprint)
    ids, metadata = rows_of(ROWS)
    store.upsert(ids, vectors(ROWS), metadata)
    index, texts = gv.Index(encoder, store), [f"scene {n}" for n in range(30)]
    return (
        lambda: [list(index.search(text)) for text in texts],
        lambda: [store.query(encoder.encode_texts([text]), 10) for text in texts],
    )


GUARDS = (
    Guard(name="embed", what="`embed` over a plain batch loop, a tiny encoder", make=embedding, usual=1.25, most=2.5),
    Guard(name="parts", what="`embed` with parts on disk over in memory", make=parts, usual=1.1, most=2.5),
    Guard(
        name="reading",
        what="`Embeddings.to_numpy` over reading the parts by pyarrow",
        make=reading,
        usual=0.5,
        most=1.2,
    ),
    Guard(
        name="drafts",
        what="opening for a small model over opening whole, JPEGs of 800 px",
        make=drafts,
        usual=0.22,
        most=0.6,
    ),
    Guard(name="query", what="`NumpyStore.query` over a product by NumPy, 20,000 rows", make=query, usual=1.3, most=3),
    Guard(name="codes", what="… 200,000 rows, which have codes", make=coded_query, usual=0.5, most=1.2),
    Guard(
        name="filter", what="a filtered query over a list comprehension and NumPy", make=filtering, usual=0.5, most=1.5
    ),
    Guard(name="upsert", what="`NumpyStore.upsert` over copying the same to lists", make=upsert, usual=1.6, most=4),
    Guard(name="search", what="`Index.search` over the store's own query", make=searching, usual=0.95, most=2.5),
)


def processor_seconds(work: Work) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def ratio(guard: Guard, folder: Path, turns: int) -> float:
    """Ours over theirs: the least of each over the turns, of which there are three times as many if it looks bad."""
    ours, theirs = guard.make(folder)
    ours(), theirs()  # what is made once, is made now
    mine, other = [], []
    for turn in range(3 * turns):
        mine.append(processor_seconds(ours))
        other.append(processor_seconds(theirs))
        if turn + 1 >= turns and min(mine) / min(other) <= guard.most:
            break
    return min(mine) / min(other)


def run(guards: Sequence[Guard], turns: int) -> dict[str, float]:
    """The ratio of each guard."""
    with tempfile.TemporaryDirectory() as folder:
        return {guard.name: round(ratio(guard, Path(folder), turns), 3) for guard in guards}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[guard.name for guard in GUARDS], metavar="NAME")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the ratios as JSON")
    arguments = parser.parse_args()
    chosen = [guard for guard in GUARDS if not arguments.only or guard.name in arguments.only]
    found = run(chosen, arguments.turns)
    print("| guard | ratio | usual | bound | |\n| --- | ---: | ---: | ---: | --- |")
    for guard in chosen:
        verdict = "" if found[guard.name] <= guard.most else "**slower than it may be**"
        print(
            f"| {guard.name}: {guard.what} | {found[guard.name]:.2f} | {guard.usual:g} | {guard.most:g} | {verdict} |"
        )
    print(f"\n{time.process_time():.1f} s of CPU")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return int(any(found[guard.name] > guard.most for guard in chosen))


if __name__ == "__main__":
    sys.exit(main())
