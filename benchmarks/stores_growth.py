"""What one query and an upsert of 1,000 rows cost as a store grows: `NumpyStore`, `LanceStore`, `AstraStore`.

    python benchmarks/stores_growth.py [--sizes 10000 100000 1000000] [--stores numpy lance astra] [--out stores_growth]

Each store starts empty and is filled to one size after the other with vectors of 512 numbers (the `mixture` of
`stores_lance.py`) and three fields of metadata. At each size it is flushed; then 50 single queries for the ten nearest
are asked, and 1,000 new rows are written, five times, and removed again. Milliseconds are medians over these. A store
is left out beyond the size that it is for: see `LARGEST`. `AstraStore` talks to the emulator of `geovlm.testing` in a
process of its own, so that its line shows the client and the loopback, and no server's search.

The numbers go to `<out>.json`, a plot with logarithmic axes to `<out>.png`. Ten million rows of `LanceStore` need about
60 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stores_lance import K, mixture_vectors

from geovlm.stores import AstraStore, LanceStore, NumpyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from geovlm.protocols import VectorStore

LARGEST = {"numpy": 1_000_000, "lance": 10_000_000, "astra": 10_000}
ROWS_A_CALL, ROWS_AN_UPSERT = 20_000, 1000
QUERIES, UPSERTS = 50, 5


@contextmanager
def opened(name: str, folder: str | None) -> Iterator[VectorStore]:
    """An empty store."""
    if name == "numpy":
        yield NumpyStore()
    elif name == "lance":
        with tempfile.TemporaryDirectory(dir=folder) as place:
            yield LanceStore(Path(place) / "growth.lance")
    else:
        from stores_astra import serve

        processes = multiprocessing.get_context("spawn")
        pipe, other = processes.Pipe()
        server = processes.Process(target=serve, args=(other,), daemon=True)
        server.start()
        endpoint, token = pipe.recv()
        yield AstraStore("growth", endpoint=endpoint, token=token)
        pipe.send(None)
        server.join()


def new_rows(draw: Callable[[int], Any], start: int, stop: int) -> tuple[list[str], Any, list[dict[str, Any]]]:
    """Ids, vectors and metadata of the rows that are numbered from `start` up to `stop`."""
    numbers = range(start, stop)
    metadata = [{"uri": f"{row:09d}.tif", "year": 2000 + row % 25, "sensor": f"S{row % 3}"} for row in numbers]
    return [f"scene-{row:09d}" for row in numbers], draw(len(numbers)), metadata


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def cost(store: VectorStore, draw: Callable[[int], Any], rows: int) -> dict[str, float]:
    """What a query and an upsert cost a store that has been filled with rows."""
    queries = draw(QUERIES + 1)
    store.query(queries[-1:], K)
    asked = [milliseconds(lambda one=query: store.query(one[None], K)) for query in queries[:QUERIES]]
    starts = range(rows, rows + UPSERTS * ROWS_AN_UPSERT, ROWS_AN_UPSERT)
    late = [new_rows(draw, start, start + ROWS_AN_UPSERT) for start in starts]
    written = [milliseconds(lambda some=some: store.upsert(*some)) for some in late]
    store.delete([key for ids, _, _ in late for key in ids])
    return {
        "query_ms": round(statistics.median(asked), 3),
        "query_p95_ms": round(float(np.quantile(asked, 0.95)), 3),
        "upsert_1000_ms": round(statistics.median(written), 2),
    }


def growth(name: str, sizes: list[int], folder: str | None) -> Iterator[dict[str, Any]]:
    """The costs of one store at sizes in ascending order."""
    draw, _ = mixture_vectors(np.random.default_rng(0))
    with opened(name, folder) as store:
        rows = 0
        for size in sizes:
            while rows < size:
                stop = min(rows + ROWS_A_CALL, size)
                store.upsert(*new_rows(draw, rows, stop))
                rows = stop
            store.flush()
            yield {"store": name, "rows": rows, **cost(store, draw, rows)}
        store.close()


def plot(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    panels = {"query_ms": "one query, k = 10", "upsert_1000_ms": "upsert of 1,000 rows"}
    for axis, (figure_name, title) in zip(axes, panels.items(), strict=True):
        for name in dict.fromkeys(result["store"] for result in results):
            mine = [result for result in results if result["store"] == name]
            axis.loglog([one["rows"] for one in mine], [one[figure_name] for one in mine], marker="o", label=name)
        axis.set(title=title, xlabel="rows in the store (512 numbers each)", ylabel="milliseconds, median")
        axis.grid(which="both", alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--stores", nargs="+", choices=list(LARGEST), default=list(LARGEST))
    parser.add_argument("--folder", help="where the Lance store is made; the system's temporary folder if not given")
    parser.add_argument("--out", type=Path, default=Path("stores_growth"))
    chosen = parser.parse_args()
    results = list[dict[str, Any]]()
    print("| store | rows | one query | 1,000 rows written |\n| --- | ---: | ---: | ---: |")
    for name in chosen.stores:
        sizes = sorted(size for size in chosen.sizes if size <= LARGEST[name])
        for one in growth(name, sizes, chosen.folder):
            results.append(one)
            print(
                f"| {name} | {one['rows']:,} | {one['query_ms']:.2f} ms | {one['upsert_1000_ms']:.1f} ms |", flush=True
            )
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    text = json.dumps({"machine": machine, "results": results}, indent=2) + "\n"
    chosen.out.with_suffix(".json").write_text(text, encoding="utf-8")
    plot(results, chosen.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
