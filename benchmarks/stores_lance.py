"""`LanceStore` on vectors of 512 numbers: taking them in, indexing them, finding the nearest, against exact search.

    python benchmarks/stores_lance.py [--rows 1000000] [--kinds random mixture reference] \
        [--out stores_lance.json]

Three kinds of vectors:

- `random`: unit vectors without any structure, and queries that are independent of them: no index can leave much out;
- `mixture`: 2,000 clusters in a narrow cone, like images in the space of a CLIP model; queries from the same clusters;
- `reference`: published embeddings of 1,005 scenes, each many times with noise; the queries are the published texts.

The peer, in the same process: a product with all vectors in memory by NumPy. Recall is the part of its ten nearest that
the store finds. A table in Markdown comes out, and everything as JSON with `--out`. A million rows of one kind take
five to ten minutes on two cores, most of them for the index, 6 GB of disk and 4 GB of memory; the kinds come one
after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
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
    """Milliseconds a query, one after the other, also of all cores together; and recall where the truth is known."""
    answers, times = list[Any](), list[float]()
    cpu = time.process_time()
    for query in queries:
        start = time.perf_counter()
        answers.append(search(query))
        times.append(1e3 * (time.perf_counter() - start))
    cpu = 1e3 * (time.process_time() - cpu) / len(times)
    figures = {"median_ms": statistics.median(times), "p95_ms": float(np.quantile(times, 0.95)), "cpu_ms": cpu}
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
    result["query_32_at_once_ms"] = round(1e3 * seconds(lambda: store.query(queries[:32], K)) / 32, 2)
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
    result["upsert_10000_seconds"] = round(seconds(lambda: store.upsert(again, late)), 2)
    result["query_with_10000_not_indexed"] = measured(partial(one, store, {}), queries[:50], None)
    result["flush_of_10000_seconds"] = round(seconds(store.flush), 1)
    result["load"] = [round(load, 1) for load in os.getloadavg()]
    result["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    return result


ROWS_OF_TABLE = {
    "ingest_rows_per_second": "rows written a second, into an empty store",
    "flush_with_index_seconds": "first flush, which makes the indexes, s",
    "first_query_seconds": "first query, s",
    "query": "one query",
    "query_32_at_once_ms": "32 queries at once, ms each",
    "query_filter_1 %": "one query, 1 % pass the filter",
    "query_filter_10 %": "one query, 10 % pass the filter",
    "query_exact": "one query, `exact=True`",
    "numpy_in_memory": "NumPy, all vectors in memory",
    "get_100": "`get` of 100 ids",
    "upsert_10000_seconds": "10,000 rows written, half of them there before, s",
    "query_with_10000_not_indexed": "one query after that",
    "flush_of_10000_seconds": "flush after that, s",
    "peak_memory_gb": "most memory of the process, with all vectors, GB",
    "load": "load of the machine in the last 1, 5, 15 minutes",
}


def cell(value: Any) -> str:
    if isinstance(value, dict):
        recall = f", recall {value['recall']:.3f}" if "recall" in value else ""
        return f"{value['median_ms']:.1f} ms (95 %: {value['p95_ms']:.1f}; CPU {value['cpu_ms']:.1f}){recall}"
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"


def markdown(results: list[dict[str, Any]]) -> str:
    heads = " | ".join(f"{result['kind']}, {result['rows']:,} rows" for result in results)
    lines = [f"| k = {K}, median | {heads} |", "| --- |" + " ---: |" * len(results)]
    for name, words in ROWS_OF_TABLE.items():
        lines.append(f"| {words} | {' | '.join(cell(result[name]) for result in results)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", help="where the stores are made; the system's temporary folder if not given")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    results = []
    for kind in chosen.kinds:
        if kind == "reference" and not REFERENCE.exists():
            print(f"left out: {kind}, because {REFERENCE.name} is not here")
            continue
        for rows in chosen.rows:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                results.append(measure(kind, rows, chosen.queries, Path(folder)))
            print(f"{kind}, {rows:,} rows: done", file=sys.stderr, flush=True)
    print(markdown(results))
    if chosen.out:
        machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
        text = json.dumps({"machine": machine, "results": results}, indent=2) + "\n"
        chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
