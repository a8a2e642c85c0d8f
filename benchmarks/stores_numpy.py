"""`NumpyStore` on vectors of 512 numbers, beside the exact searches of faiss and usearch in the same process.

    python benchmarks/stores_numpy.py [--rows 1000000] [--kinds random mixture reference] [--threads 2] [--out FILE]

The three kinds of vectors are those of `stores_lance.py`. Peers, which compare with every row: faiss `IndexFlatIP` and
`usearch.index.search(exact=True)`. All use the same number of threads; each is asked in turns, one query of each after
another, so that what else the machine does falls on all alike. Times are medians in milliseconds. Recall is the part
of a full scan's ten nearest that the store finds, over all queries. A filter is timed from its second use on, as the
first one makes its column; that first one is told apart. `open` is timed in a process of its own.

Needs `pip install faiss-cpu usearch` (the dependency group `benchmarks`) and 8 GB of memory for a million rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, default=1_000_000)
parser.add_argument("--kinds", nargs="+", choices=["random", "mixture", "reference"])
parser.add_argument("--queries", type=int, default=100, help="for recall; 20 of them are timed")
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--no-open", action="store_true", help="leave out saving and opening")
parser.add_argument("--out", type=Path, default=Path("stores_numpy.json"))
chosen = parser.parse_args()
# Libraries read these when they are imported.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(chosen.threads)
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])

import faiss  # noqa: E402
import numpy as np  # noqa: E402
from stores_lance import DIM, KINDS, REFERENCE, K, nearest_by_numpy  # noqa: E402
from usearch.index import MetricKind, search  # noqa: E402

from geovlm.stores import NumpyStore  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROWS_A_CALL = 20_000
TIMED, TOGETHER = 20, 32
OPEN = """
import sys, time
import numpy as np
from geovlm.stores import NumpyStore
start = time.perf_counter()
store = NumpyStore.open(sys.argv[1])
opened = time.perf_counter()
store.query(np.load(sys.argv[2]), 10)
queried = time.perf_counter()
own = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
print(opened - start, queried - opened, int(own.split()[1]) / 1e6)
"""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def filters(percents: NDArray[np.int64]) -> dict[str, tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Filters by name, each with the rows that pass."""
    hundredth = len(percents) // 100
    return {
        "filter_1%": ({"percent": 7}, percents == 7),
        "filter_1%_of_texts": ({"uri": {"$lt": f"scene-{hundredth:09d}"}}, np.arange(len(percents)) < hundredth),
        "filter_30%": ({"percent": {"$lt": 30}}, percents < 30),
    }


def fill(store: NumpyStore, vectors: NDArray[np.float32], percents: NDArray[np.int64]) -> None:
    for start in range(0, len(vectors), ROWS_A_CALL):
        numbers = range(start, min(start + ROWS_A_CALL, len(vectors)))
        rows = [{"uri": f"scene-{n:09d}", "percent": int(percents[n]), "sensor": f"S{n % 3}"} for n in numbers]
        store.upsert([row["uri"] for row in rows], vectors[numbers.start : numbers.stop], rows)


def in_turns(calls: dict[str, Callable[[NDArray[np.float32]], object]], batches: list[Any]) -> dict[str, float]:
    """The median milliseconds of each call, each batch of queries being asked of all of them in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for batch in batches:
        for name, call in calls.items():
            times[name].append(1e3 * seconds(partial(call, batch)))
    return {name: round(statistics.median(each), 2) for name, each in times.items()}


def recall(store: NumpyStore, queries: NDArray[np.float32], truth: NDArray[np.int64], where: Any = None) -> float:
    hits = 0
    for query, best in zip(queries, truth.tolist(), strict=True):
        hits += len({int(key[6:]) for key in store.query(query[None], K, where=where)[0].ids} & set(best))
    return round(hits / truth.size, 4)


def opened(store: NumpyStore, queries: NDArray[np.float32]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        place, asked = Path(folder) / "store", Path(folder) / "queries.npy"
        saved = seconds(lambda: store.save(place))
        np.save(asked, queries[:1])
        command = [sys.executable, "-c", OPEN, str(place), str(asked)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, query, memory = (round(float(word), 2) for word in done.stdout.split())
    return {"save_s": round(saved, 2), "open_s": first, "first_query_s": query, "memory_of_opener_gb": memory}


def measure(kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    draw, texts = KINDS[kind](rng)
    vectors = np.concatenate([draw(min(50_000, chosen.rows - n)) for n in range(0, chosen.rows, 50_000)])
    queries = draw(chosen.queries) if texts is None else texts[: chosen.queries]
    percents = rng.integers(100, size=len(vectors))

    store = NumpyStore()
    result: dict[str, Any] = {"kind": kind, "rows": len(vectors)}
    result["fill_rows_per_s"] = round(len(vectors) / seconds(lambda: fill(store, vectors, percents)))
    result["make_codes_s"] = round(seconds(lambda: store.query(queries[:1], K)), 2)
    truth = nearest_by_numpy(vectors, queries)
    result["recall"] = recall(store, queries, truth)

    index = faiss.IndexFlatIP(DIM)
    index.add(vectors)
    calls: dict[str, Callable[[NDArray[np.float32]], object]] = {
        "geovlm": lambda asked: store.query(asked, K),
        "faiss": lambda asked: index.search(asked, K),
        "usearch": lambda asked: search(vectors, asked, K, MetricKind.IP, exact=True, threads=chosen.threads),
    }
    full_scan = {"geovlm_exact": lambda asked: store.query(asked, K, exact=True)}
    result["one_query_ms"] = in_turns(calls | full_scan, [queries[n : n + 1] for n in range(min(TIMED, len(queries)))])
    result["32_queries_ms"] = in_turns(calls, [np.resize(queries, (TOGETHER, DIM))] * 3)
    for name, (where, kept) in filters(percents).items():
        first = seconds(partial(store.query, queries[:1], K, where=where))
        asked = [queries[n : n + 1] for n in range(10)]
        result[f"{name}_ms"] = in_turns({"geovlm": partial(store.query, k=K, where=where)}, asked)["geovlm"]
        result[f"{name}_first_s"] = round(first, 2)
        result[f"{name}_recall"] = recall(store, queries[:20], nearest_by_numpy(vectors, queries[:20], kept), where)
    many = {"percent": {"$in": list(range(0, 50_000, 10))}}
    result["filter_in_5000_ms"] = round(1e3 * min(seconds(lambda: store.count(many)) for _ in range(3)), 1)
    if not chosen.no_open:
        result |= opened(store, queries)
    result["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    return result


def table(results: list[dict[str, Any]]) -> str:
    head = "| vectors | asked | geovlm | faiss | usearch | × faiss | × usearch | recall@10 |"
    lines = [head, "|---|---|" + "---:|" * 6]
    for result in results:
        for asked, key in (("one query", "one_query_ms"), ("32 queries", "32_queries_ms")):
            ours, flat, exact = (result[key][name] for name in ("geovlm", "faiss", "usearch"))
            shown = f"{result['recall']:.4f}" if key == "one_query_ms" else "exact"
            cells = f"{ours:.1f} ms | {flat:.1f} ms | {exact:.1f} ms | {flat / ours:.1f} | {exact / ours:.1f} | {shown}"
            lines.append(f"| {result['kind']} | {asked} | {cells} |")
        filtered, found = result["filter_1%_ms"], result["filter_1%_recall"]
        lines.append(f"| {result['kind']} | one query, 1 % filter | {filtered:.1f} ms | | | | | {found:.4f} |")
    return "\n".join(lines)


def main() -> None:
    faiss.omp_set_num_threads(chosen.threads)
    results = []
    for kind in chosen.kinds or KINDS:
        if kind == "reference" and not REFERENCE.exists():
            print(f"left out: {kind}, because {REFERENCE.name} is not here")
            continue
        results.append(measure(kind))
        print(json.dumps(results[-1], indent=2), flush=True)
    machine = {"threads": chosen.threads, "processor": platform.machine(), "python": platform.python_version()}
    versions = {"numpy": np.__version__, "faiss": faiss.__version__}
    told = {"machine": machine, "versions": versions, "results": results}
    chosen.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(f"\n{chosen.rows:,} × {DIM}, {chosen.threads} threads\n\n{table(results)}")


if __name__ == "__main__":
    main()
