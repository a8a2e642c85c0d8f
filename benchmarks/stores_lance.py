"""LanceStore on rows of 512 numbers: how fast it takes them in, indexes them and finds the nearest, against exact search.

    python benchmarks/stores_lance.py                         # a million rows of each kind: some ten minutes
    python benchmarks/stores_lance.py --rows 20000 --out small.json

Three kinds of vectors:

- `random`: unit vectors without structure, and queries that are independent of them. No index can leave anything out.
- `mixture`: 2,000 clusters in a cone, as the images in the space of a CLIP model; queries from the same clusters.
- `reference`: the published embeddings of 1,005 scenes, each copied with noise; queries are the published texts.

The peer, in the same process: a product with all vectors in memory by NumPy. Recall is the part of its 10 nearest that
the store finds. Files go to a temporary folder (about 6 GB for a million rows of one kind).
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
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from geovlm.stores import LanceStore

DIM, K = 512, 10
ROWS_A_CALL = 20_000
REFERENCE = Path(__file__).parents[2] / "shared/data/clip_reference_embeddings/whu_rs19__CLIP_ViT-B-32.npz"
FILTERS = {"1 %": ({"percent": 7}, 7, 8), "10 %": ({"percent": {"$lt": 10}}, 0, 10)}


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_vectors(rng):
    return lambda count: unit(rng.standard_normal((count, DIM), dtype=np.float32)), None


def mixture_vectors(rng):
    mean = 0.8 * unit(rng.standard_normal((1, DIM), dtype=np.float32))
    centres = mean + rng.standard_normal((2000, DIM), dtype=np.float32) * np.float32(0.6 / DIM**0.5)

    def draw(count):
        noise = rng.standard_normal((count, DIM), dtype=np.float32) * np.float32(0.7 / DIM**0.5)
        return unit(centres[rng.integers(len(centres), size=count)] + noise)

    return draw, None


def reference_vectors(rng):
    with np.load(REFERENCE, allow_pickle=False) as published:
        scenes = published["image_embeddings"].astype(np.float32)
        texts = unit(published["text_embeddings"].astype(np.float32).reshape(-1, DIM))

    def draw(count):
        noise = rng.standard_normal((count, DIM), dtype=np.float32) * np.float32(0.5 / DIM**0.5)
        return unit(scenes[rng.integers(len(scenes), size=count)] + noise)

    return draw, texts


KINDS = {"random": random_vectors, "mixture": mixture_vectors, "reference": reference_vectors}


class Timer:
    seconds = 0.0

    @contextmanager
    def __call__(self):
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


def fill(store, vectors, percents):
    """Rows a second, in calls of `ROWS_A_CALL`."""
    timer = Timer()
    for start in range(0, len(vectors), ROWS_A_CALL):
        block = vectors[start : start + ROWS_A_CALL]
        ids = [f"scene-{i:09d}" for i in range(start, start + len(block))]
        rows = [
            {"uri": f"/archive/{key}.tif", "percent": int(percents[start + i]), "sensor": f"S{i % 3}"}
            for i, key in enumerate(ids)
        ]
        with timer():
            store.upsert(ids, block, rows)
    return len(vectors) / timer.seconds


def nearest_by_numpy(vectors, queries, kept=None):
    """The places of the 10 nearest of each query, by a product with all vectors in blocks."""
    places = np.arange(len(vectors)) if kept is None else np.flatnonzero(kept)
    best = np.zeros((len(queries), 0), dtype=np.float32)
    found = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(places), 50_000):
        some = places[start : start + 50_000]
        scores = np.concatenate([best, queries @ vectors[some].T], axis=1)
        where = np.concatenate([found, np.broadcast_to(some, (len(queries), len(some)))], axis=1)
        top = np.argpartition(scores, -min(K, scores.shape[1]), axis=1)[:, -K:]
        best, found = np.take_along_axis(scores, top, 1), np.take_along_axis(where, top, 1)
    return found


def one_by_one(search, queries):
    """The answers, and milliseconds a query: median and 95th percentile."""
    answers, times = [], []
    for query in queries:
        start = time.perf_counter()
        answers.append(search(query))
        times.append(1e3 * (time.perf_counter() - start))
    return answers, {"median_ms": round(statistics.median(times), 2), "p95_ms": round(float(np.quantile(times, 0.95)), 2)}


def recall(answers, truth):
    hits = [len({int(key[6:]) for key in answer.ids} & set(best.tolist())) for answer, best in zip(answers, truth)]
    return round(sum(hits) / truth.size, 4)


def numpy_search(vectors):
    def search(query):
        scores = vectors @ query
        top = np.argpartition(scores, -K)[-K:]
        return top[np.argsort(-scores[top])]

    return search


def measure(kind, rows, queries_asked, folder):
    rng = np.random.default_rng(0)
    draw, texts = KINDS[kind](rng)
    vectors = np.empty((rows, DIM), dtype=np.float32)
    for start in range(0, rows, 50_000):
        vectors[start : start + 50_000] = draw(len(vectors[start : start + 50_000]))
    queries = draw(queries_asked) if texts is None else texts[rng.choice(len(texts), queries_asked, replace=False)]
    percents = rng.integers(100, size=rows)

    store = LanceStore(Path(folder) / f"{kind}.lance")
    result = {"kind": kind, "rows": rows, "queries": len(queries)}
    result["ingest_rows_per_second"] = round(fill(store, vectors, percents))
    flushing = Timer()
    with flushing():
        store.flush()
    result["flush_with_index_seconds"] = round(flushing.seconds, 1)

    truth = nearest_by_numpy(vectors, queries)
    store.query(queries[:8], K)
    answers, times = one_by_one(lambda query: store.query(query[None], K)[0], queries)
    result["query"] = {"recall": recall(answers, truth), **times}
    together = Timer()
    with together():
        store.query(queries[:32], K)
    result["query_32_at_once_ms_each"] = round(1e3 * together.seconds / 32, 2)
    answers, times = one_by_one(lambda query: store.query(query[None], K, exact=True)[0], queries[:10])
    result["query_exact"] = {"recall": recall(answers, truth[:10]), **times}
    _, result["numpy_in_memory"] = one_by_one(numpy_search(vectors), queries[:50])

    for name, (where, low, high) in FILTERS.items():
        truth = nearest_by_numpy(vectors, queries, (percents >= low) & (percents < high))
        store.query(queries[:2], K, where=where)
        answers, times = one_by_one(lambda query, where=where: store.query(query[None], K, where=where)[0], queries)
        result[f"query_filter_{name}"] = {"recall": recall(answers, truth), **times}

    _, times = one_by_one(lambda _: store.get([f"scene-{i:09d}" for i in rng.integers(rows, size=100)]), range(20))
    result["get_100"] = times
    ids = [f"scene-{i:09d}" for i in rng.integers(2 * rows, size=10_000)]
    again = Timer()
    with again():
        store.upsert(ids, draw(len(ids)))
    result["upsert_10000_half_replaced_seconds"] = round(again.seconds, 2)
    answers, times = one_by_one(lambda query: store.query(query[None], K)[0], queries[:50])
    result["query_with_rows_not_indexed_yet"] = times
    result["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", help="where the stores are made; the system's folder for temporary files if not given")
    parser.add_argument("--out", type=Path, default=Path("stores_lance.json"))
    chosen = parser.parse_args()
    results = []
    for kind in chosen.kinds:
        if kind == "reference" and not REFERENCE.exists():
            print(f"left out: {kind}, because {REFERENCE.name} is not here")
            continue
        for rows in chosen.rows:
            with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
                results.append(measure(kind, rows, chosen.queries, folder))
            print(json.dumps(results[-1], indent=2), flush=True)
    machine = {"cores": os.cpu_count(), "processor": platform.processor(), "python": platform.python_version()}
    chosen.out.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
