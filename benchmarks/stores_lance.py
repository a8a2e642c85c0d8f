"""`LanceStore` on vectors of 512 numbers: taking them in, indexing them, finding the nearest, against exact search.

    python benchmarks/stores_lance.py [--rows 1000000] [--kinds random mixture reference] [--out stores_lance.json]

Three kinds of vectors:

- `random`: unit vectors without any structure, and queries that are independent of them: no index can leave much out;
- `mixture`: 2,000 clusters in a narrow cone, like images in the space of a CLIP model; queries from the same clusters;
- `reference`: published embeddings of 1,005 scenes, each many times with noise; the queries are the published texts.

The peer, in the same process: a product with all vectors in memory by NumPy. Recall is the part of its ten nearest that
the store finds. The stores take about 6 GB on disk for a million rows, one kind after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.stores import LanceStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Draw = Callable[[int], Floats]

DIM, K = 512, 10
ROWS_A_CALL = 20_000
REFERENCE = Path(__file__).parents[2] / "shared/data/clip_reference_embeddings/whu_rs19__CLIP_ViT-B-32.npz"
FILTERS: dict[str, tuple[dict[str, Any], range]] = {
    "1 %": ({"percent": 7}, range(7, 8)),
    "10 %": ({"percent": {"$lt": 10}}, range(10)),
}


def unit(vectors: Floats) -> Floats:
    norms: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms


def random_vectors(rng: np.random.Generator) -> tuple[Draw, Floats | None]:
    return lambda count: unit(rng.standard_normal((count, DIM), dtype=np.float32)), None


def around(centres: Floats, noise: float, rng: np.random.Generator) -> Draw:
    """Copies of centres with noise of a length that does not depend on the dimension."""

    def draw(count: int) -> Floats:
        away = rng.standard_normal((count, DIM), dtype=np.float32) * np.float32(noise / DIM**0.5)
        return unit(centres[rng.integers(len(centres), size=count)] + away)

    return draw


def mixture_vectors(rng: np.random.Generator) -> tuple[Draw, Floats | None]:
    mean = 0.8 * unit(rng.standard_normal((1, DIM), dtype=np.float32))
    return around(mean + 0.6 / DIM**0.5 * rng.standard_normal((2000, DIM), dtype=np.float32), 0.7, rng), None


def reference_vectors(rng: np.random.Generator) -> tuple[Draw, Floats | None]:
    with np.load(REFERENCE, allow_pickle=False) as published:
        scenes = published["image_embeddings"].astype(np.float32)
        texts = published["text_embeddings"].astype(np.float32).reshape(-1, DIM)
    return around(scenes, 0.5, rng), unit(rng.permutation(texts))


KINDS = {"random": random_vectors, "mixture": mixture_vectors, "reference": reference_vectors}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fill(store: LanceStore, vectors: Floats, percents: NDArray[np.int64]) -> float:
    """Write all rows; returns how many a second."""
    taken = 0.0
    for start in range(0, len(vectors), ROWS_A_CALL):
        block = vectors[start : start + ROWS_A_CALL]
        ids = [f"scene-{row:09d}" for row in range(start, start + len(block))]
        chosen = percents[start : start + len(block)].tolist()
        rows = [
            {"uri": f"{key}.tif", "percent": percent, "sensor": f"S{percent % 3}"}
            for key, percent in zip(ids, chosen, strict=True)
        ]
        start_of_call = time.perf_counter()
        store.upsert(ids, block, rows)
        taken += time.perf_counter() - start_of_call
    return len(vectors) / taken


def nearest_by_numpy(vectors: Floats, queries: Floats, kept: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """The rows of the ten nearest of each query, by products with blocks of vectors."""
    rows = np.arange(len(vectors)) if kept is None else np.flatnonzero(kept)
    best, found = np.zeros((len(queries), 0), dtype=np.float32), np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(rows), 50_000):
        some = rows[start : start + 50_000]
        best = np.concatenate([best, queries @ vectors[some].T], axis=1)
        found = np.concatenate([found, np.broadcast_to(some, (len(queries), len(some)))], axis=1)
        top = np.argpartition(-best, K - 1, axis=1)[:, :K]
        best, found = np.take_along_axis(best, top, 1), np.take_along_axis(found, top, 1)
    return found


def measured(search: Callable[[Any], Any], queries: Iterable[Any], truth: NDArray[np.int64] | None) -> dict[str, float]:
    """Milliseconds a query, one after the other, and recall where the truth is known."""
    answers, times = list[Any](), list[float]()
    for query in queries:
        start = time.perf_counter()
        answers.append(search(query))
        times.append(1e3 * (time.perf_counter() - start))
    figures = {"median_ms": statistics.median(times), "p95_ms": float(np.quantile(times, 0.95))}
    if truth is not None:
        pairs = zip(answers, truth[: len(answers)].tolist(), strict=True)
        hits = sum(len({int(key[6:]) for key in answer.ids} & set(best)) for answer, best in pairs)
        figures["recall"] = hits / (K * len(answers))
    return {name: round(value, 4) for name, value in figures.items()}


def one(store: LanceStore, where: dict[str, Any], query: Floats) -> Any:
    return store.query(query[None], K, where=where)[0]


def measure(kind: str, rows: int, asked: int, folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    draw, texts = KINDS[kind](rng)
    vectors = np.empty((rows, DIM), dtype=np.float32)
    for start in range(0, rows, 50_000):
        vectors[start : start + 50_000] = draw(min(50_000, rows - start))
    queries = draw(asked) if texts is None else texts[:asked]
    percents = rng.integers(100, size=rows)

    store = LanceStore(folder / f"{kind}.lance")
    result: dict[str, Any] = {"kind": kind, "rows": rows, "queries": len(queries)}
    result["ingest_rows_per_second"] = round(fill(store, vectors, percents))
    result["flush_with_index_seconds"] = round(seconds(store.flush), 1)
    truth = nearest_by_numpy(vectors, queries)
    result["first_query_seconds"] = round(seconds(lambda: store.query(queries[:1], K)), 2)
    result["query"] = measured(partial(one, store, {}), queries, truth)
    result["query_32_at_once_ms_each"] = round(1e3 * seconds(lambda: store.query(queries[:32], K)) / 32, 2)
    result["query_exact"] = measured(lambda query: store.query(query[None], K, exact=True)[0], queries[:10], truth)
    result["numpy_in_memory"] = measured(lambda query: np.argpartition(vectors @ query, -K)[-K:], queries[:50], None)
    for name, (where, values) in FILTERS.items():
        truth = nearest_by_numpy(vectors, queries, np.isin(percents, values))
        store.query(queries[:1], K, where=where)
        result[f"query_filter_{name}"] = measured(partial(one, store, where), queries, truth)
    hundreds = [[f"scene-{row:09d}" for row in rng.integers(rows, size=100)] for _ in range(20)]
    result["get_100"] = measured(store.get, hundreds, None)
    again = [f"scene-{row:09d}" for row in rng.permutation(2 * rows)[:10_000]]
    late = draw(len(again))
    result["upsert_10000_half_replaced_seconds"] = round(seconds(lambda: store.upsert(again, late)), 2)
    result["query_with_10000_not_indexed"] = measured(partial(one, store, {}), queries[:50], None)
    result["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", help="where the stores are made; the system's temporary folder if not given")
    parser.add_argument("--out", type=Path, default=Path("stores_lance.json"))
    chosen = parser.parse_args()
    results = []
    for kind in chosen.kinds:
        if kind == "reference" and not REFERENCE.exists():
            print(f"left out: {kind}, because {REFERENCE.name} is not here")
            continue
        for rows in chosen.rows:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                results.append(measure(kind, rows, chosen.queries, Path(folder)))
            print(json.dumps(results[-1], indent=2), flush=True)
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    chosen.out.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
