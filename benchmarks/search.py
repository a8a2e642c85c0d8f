"""Real-time search: text in, ranked records out, over a million stored vectors, by one caller and by many at once.

    python benchmarks/search.py [--rows 1000000] [--queries 200] [--callers 1 8] [--folder DIR --keep] [--out FILE]

`Index.search` from `NumpyStore` and `LanceStore`, each query another text of seven words and a number. The text tower
is a ViT-B/32 of real size with random weights, in the precision that geovlm chooses here. Callers are threads, each
asking its next question when it has the answer to the last. Times are of the whole call, from text to hits with
metadata, in milliseconds: the median and the 99th of 100. CPU is that of all threads, a query: it depends less on what
else the machine does. Each condition is asked some queries before it is timed.

The vectors are the `mixture` of `stores_lance.py`. A random tower knows nothing of them, so that there are two kinds of
queries: `near`, which are the tower's vectors moved beside a cluster, as those of a trained tower are; and `far`, the
tower's vectors as they are, from which a million rows look much alike, the worst case for every kind of short code.
`recall` is the part of the ten nearest by `exact=True` that is found, over 20 queries.

The peer, asked by one caller in the same process: the same tower by open_clip in float32, and NumPy's product with all
vectors in memory. With `--keep`, the folder's stores are made once and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, default=1_000_000)
parser.add_argument("--queries", type=int, default=200)
parser.add_argument("--callers", type=int, nargs="+", default=[1, 8])
parser.add_argument("--kinds", nargs="+", choices=["near", "far"], default=["near", "far"])
parser.add_argument("--stores", nargs="+", choices=["numpy", "lance"], default=["numpy", "lance"])
parser.add_argument("--backend", choices=["torch", "openvino"], default="openvino", help="of the text tower")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--folder", type=Path, help="where the stores are made; a temporary folder if not given")
parser.add_argument("--keep", action="store_true", help="leave the stores in the folder for the next time")
parser.add_argument("--out", type=Path)
chosen = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(chosen.threads)  # libraries read it when they are imported
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])

import numpy as np  # noqa: E402
import open_clip  # noqa: E402
import torch  # noqa: E402
from stores_lance import DIM, mixture_vectors, unit  # noqa: E402

import geovlm as gv  # noqa: E402
from geovlm.encoders import new_encoder  # noqa: E402
from geovlm.stores import LanceStore, NumpyStore  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    Floats = NDArray[np.float32]
    Store = NumpyStore | LanceStore

FINGERPRINT = "benchmark-of-search"
ROWS_A_CALL = 20_000
WARM_UP, FOR_RECALL = 10, 20
FILTERS: dict[str, dict[str, Any]] = {"none": {}, "1 %": {"percent": 7}, "10 %": {"percent": {"$lt": 10}}}
THINGS = ("harbour", "river", "vineyard", "forest", "bridge", "runway", "stadium", "quarry", "orchard", "railway")
LOOKS = ("dense", "sparse", "wide", "narrow", "old", "new", "green", "brown", "flooded", "burnt", "snowy", "dry")


class Tower:
    """An encoder of texts at its real cost, whose vectors may be moved beside stored ones."""

    name, dim, fingerprint, logit_scale = "ViT-B-32", DIM, FINGERPRINT, 100.0

    def __init__(self, encoder: Any, anchors: Floats | None) -> None:
        self._encoder, self._anchors = encoder, anchors

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Vectors `(len(texts), 512)`."""
        vectors: Floats = self._encoder.encode_texts(texts)
        if self._anchors is None:
            return vectors
        chosen = [sum(map(ord, text)) % len(self._anchors) for text in texts]
        moved: Floats = unit(self._anchors[chosen] + np.float32(0.5) * vectors)
        return moved

    def encode_images(self, images: Sequence[Image.Image]) -> Floats:
        """Not asked for here."""
        found: Floats = self._encoder.encode_images(images)
        return found


def texts_of(count: int, seed: int) -> list[str]:
    """So many different texts."""
    rng = np.random.default_rng(seed)
    looks, things = rng.choice(LOOKS, size=(count, 2)), rng.choice(THINGS, size=(count, 2))
    rows = zip(looks, things, strict=True)
    return [f"a {a} {one} beside a {b} {other} {seed}-{n}" for n, ((a, b), (one, other)) in enumerate(rows)]


def metadata(row: int) -> dict[str, Any]:
    west = row % 3600 / 10 - 180
    name = {"uri": f"scenes/{row:09d}.tif", "label": f"class {row % 30}", "year": 2015 + row % 10}
    return {**name, "percent": row * 7919 % 100, "footprint": [west, 0.5, west + 0.1, 0.6]}


def fill(folder: Path) -> None:
    """Write both stores and the vectors, unless they are there."""
    if (folder / "vectors.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    draw, _ = mixture_vectors(np.random.default_rng(0))
    numpy, lance = NumpyStore(), LanceStore(folder / "lance")
    vectors = np.empty((chosen.rows, DIM), dtype=np.float32)
    for store in (numpy, lance):
        store.bind(dim=DIM, fingerprint=FINGERPRINT)
    for start in range(0, chosen.rows, ROWS_A_CALL):
        rows = range(start, min(start + ROWS_A_CALL, chosen.rows))
        vectors[rows.start : rows.stop] = draw(len(rows))
        for store in (numpy, lance):
            store.upsert([f"scene-{n:09d}" for n in rows], vectors[rows.start : rows.stop], [metadata(n) for n in rows])
    numpy.query(vectors[:1])  # makes the codes, which are saved with the rest
    numpy.save(folder / "numpy")
    lance.flush()
    np.save(folder / "vectors.npy", vectors)


def timed(search: Callable[[str], object], texts: Sequence[str], callers: int) -> dict[str, float]:
    """Milliseconds a query as callers see it, and of CPU."""

    def one(text: str) -> float:
        start = time.perf_counter()
        search(text)
        return 1e3 * (time.perf_counter() - start)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(one, texts[:WARM_UP]))
        wall, cpu = time.perf_counter(), time.process_time()
        each = list(pool.map(one, texts[WARM_UP:]))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    p50, p99 = np.quantile(each, [0.5, 0.99])
    figures = {"p50_ms": p50, "p99_ms": p99, "cpu_ms": 1e3 * cpu / len(each), "queries_per_s": len(each) / wall}
    return {name: round(float(figure), 1) for name, figure in figures.items()}


def recall(store: Store, tower: Tower, where: dict[str, Any]) -> float:
    vectors = tower.encode_texts(texts_of(FOR_RECALL, seed=99))
    exact = store.query(vectors, exact=True, where=where)
    found = [store.query(vector[None], where=where)[0] for vector in vectors]
    return round(float(np.mean([len({*a.ids} & {*b.ids}) / 10 for a, b in zip(exact, found, strict=True)])), 4)


def measure(name: str, store: Store, kind: str, tower: Tower) -> list[dict[str, Any]]:
    results = []
    for number, (passing, where) in enumerate(FILTERS.items()):
        found = recall(store, tower, where)
        for callers in chosen.callers:
            index = gv.Index(tower, store)  # it keeps the vectors of texts
            texts = texts_of(WARM_UP + chosen.queries, seed=1000 * number + callers)
            figures = timed(partial(index.search, where=where), texts, callers)
            results.append({"store": name, "queries": kind, "filter": passing, "callers": callers, "recall": found})
            results[-1] |= figures
            print(json.dumps(results[-1]), flush=True)
    return results


def peer(folder: Path, encoder: Any) -> dict[str, Any]:
    """What one would write by hand."""
    vectors = np.load(folder / "vectors.npy")
    model, tokenize = encoder.model, encoder.tokenize

    def search(text: str) -> object:
        with torch.inference_mode():
            asked = model.encode_text(tokenize([text]), normalize=True).numpy()[0]
        scores = vectors @ asked
        best = np.argpartition(scores, -10)[-10:]
        return [metadata(int(row)) for row in best[np.argsort(-scores[best])]]

    figures = timed(search, texts_of(WARM_UP + min(50, chosen.queries), seed=7), 1)
    result = {"store": "open_clip and NumPy", "queries": "any", "filter": "none", "callers": 1, "recall": 1.0}
    return result | figures


def table(results: list[dict[str, Any]]) -> str:
    names = ["store", "queries", "filter", "callers", "p50_ms", "p99_ms", "cpu_ms", "queries_per_s", "recall"]
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|" + " --- |" * 4 + " ---: |" * 5]
    return "\n".join([*lines, *(f"| {' | '.join(str(row[name]) for name in names)} |" for row in results)])


def run(folder: Path) -> list[dict[str, Any]]:
    fill(folder)
    torch.set_num_threads(chosen.threads)
    fast, exact = (
        new_encoder(open_clip.get_model_config("ViT-B-32"), device="cpu", dtype=d) for d in (None, "float32")
    )
    fast = fast.with_backend(chosen.backend)
    anchors, results = np.load(folder / "vectors.npy", mmap_mode="r")[::997].copy(), list[dict[str, Any]]()
    opened: dict[str, Callable[[], Store]] = {
        "numpy": lambda: NumpyStore.open(folder / "numpy"),
        "lance": lambda: LanceStore(folder / "lance"),
    }
    for name in chosen.stores:
        store = opened[name]()
        for kind in chosen.kinds:
            results += measure(name, store, kind, Tower(fast, anchors if kind == "near" else None))
    return [*results, peer(folder, exact)]


def main() -> None:
    with tempfile.TemporaryDirectory(dir=None if chosen.keep else chosen.folder) as temporary:
        kept = chosen.folder if chosen.keep and chosen.folder else None
        results = run(kept or Path(temporary))
    print(
        f"\n{chosen.rows:,} rows of {DIM} numbers, {chosen.threads} threads, load {os.getloadavg()}\n\n{table(results)}"
    )
    if chosen.out:
        machine = {"threads": chosen.threads, "processor": platform.machine(), "load": os.getloadavg()}
        told = {"machine": machine, "rows": chosen.rows, "results": results}
        chosen.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
