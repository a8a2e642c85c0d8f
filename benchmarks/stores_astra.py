"""`AstraStore` and astrapy's `Collection.insert_many` writing the same documents, and `AstraStore` when requests fail.

    python benchmarks/stores_astra.py [--documents 2000] [--rounds 10] [--with-faults 100000] [--out FILE]

The Data API is the emulator of `geovlm.testing`, in a process of its own, so that the processor time of this process
is the client's. Both write vectors of 512 numbers (random unit vectors, float32, as an encoder gives them) with five
fields of metadata, and take turns in one run. Both start from the array that an encoder gives. `insert_many` gets its
vectors as lists, as its users write them, with its own 20 threads and 50 documents a request, and also with our 8
threads and our 100 documents; `as arrays` spares it the lists by `DataAPIVector(array)`. Sending the same bytes through
the same client is most of what is left.

With faults, requests fail in seven ways, one of twenty in each way, so that a third fails in all; what was written is
then read back and compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astrapy import DataAPIClient
from astrapy.data_types import DataAPIVector

from geovlm.stores import AstraStore
from geovlm.testing.data_api import DataAPIEmulator, Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

DIM = 512
WORKERS = 8
FAULTS = [
    Fault.rate_limited(retry_after=0.05),
    Fault.unavailable(),
    Fault.slow(2.0),
    Fault.dropped(),
    Fault.timed_out(),
    Fault.timed_out(written=True),
    Fault.acknowledgement_lost(),
]


def serve(pipe: Connection) -> None:
    """Run an emulator; a share that comes through the pipe sets how often each fault comes, `None` ends it."""
    with DataAPIEmulator() as api:
        pipe.send((api.endpoint, api.token))
        while (share := pipe.recv()) is not None:
            api.faults.clear()
            if share:
                api.faults.at_random(FAULTS, share=share * len(FAULTS), seed=0)
            pipe.send((len(api.log), {fault.name: api.log.count(fault=fault.name) for fault in FAULTS}))


def documents(count: int, seed: int = 0) -> tuple[list[str], np.ndarray, list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    metadata = [
        {"uri": f"scenes/{i % 30:02d}/{i:07d}.jpg", "label": "Beach", "year": 2000 + i % 25, "gsd": 0.5, "cloud": i / 7}
        for i in range(count)
    ]
    return [f"scene-{seed}-{i:07d}" for i in range(count)], vectors, metadata


def cpu_of(work: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def insert_many(
    collection: Any, rows: Any, vector_of: Callable[[Any], Any], threads: int | None, chunk: int | None
) -> None:
    made = [{"_id": key, "$vector": vector_of(vector), "metadata": row} for key, vector, row in zip(*rows, strict=True)]
    collection.insert_many(made, concurrency=threads, chunk_size=chunk, general_method_timeout_ms=600_000)


def compare(database: Any, connection: dict[str, str], count: int, rounds: int) -> dict[str, dict[str, float]]:
    store = AstraStore("ours", workers=WORKERS, **connection)
    store.bind(dim=DIM, fingerprint="benchmark")
    definition = {"vector": {"dimension": DIM, "metric": "cosine"}, "indexing": {"allow": ["metadata"]}}
    off = {"lexical": {"enabled": False}, "rerank": {"enabled": False}}
    peers: dict[str, tuple[Callable[[Any], Any], int | None, int | None]] = {
        "insert_many": (lambda vector: vector.tolist(), None, None),
        "insert_many, 8 x 100": (lambda vector: vector.tolist(), WORKERS, 100),
        "as arrays, 8 x 100": (DataAPIVector, WORKERS, 100),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("AstraStore.upsert", *peers)}
    for turn in range(rounds):
        rows = documents(count, seed=turn)
        for name, settings in peers.items():
            collection = database.create_collection("theirs", definition=definition | off)
            times[name].append(cpu_of(partial(insert_many, collection, rows, *settings)))
            database.drop_collection("theirs")
        times["AstraStore.upsert"].append(cpu_of(partial(store.upsert, *rows)))
        store.delete(where={})
    ours = [cpu for _, cpu in times["AstraStore.upsert"]]
    figures = {}
    for name, taken in times.items():
        # The least of all turns, as what else runs on the machine only adds to it; shares turn by turn, for the same.
        wall, cpu = (min(column) for column in zip(*taken, strict=True))
        share = statistics.median(mine / theirs for mine, (_, theirs) in zip(ours, taken, strict=True))
        figures[name] = {"cpu_ms_a_thousand": 1e6 * cpu / count, "documents_a_second": count / wall, "share": share}
        print(
            f"{name:21} {1e6 * cpu / count:6.1f} ms of CPU per 1,000 documents, {count / wall:6.0f} documents/s;"
            f" AstraStore takes {share:4.2f} of its CPU (median)",
            flush=True,
        )
    return figures


def with_faults(pipe: Connection, connection: dict[str, str], count: int) -> dict[str, Any]:
    store = AstraStore("faulty", workers=WORKERS, timeout=1.0, attempts=12, pause=0.05, **connection)
    store.bind(dim=DIM, fingerprint="benchmark")
    ids, vectors, metadata = documents(count)
    pipe.send(0.05)
    before, _ = pipe.recv()
    outcomes: list[str] = []

    def write() -> None:
        for start in range(0, count, 10_000):
            part = slice(start, start + 10_000)
            outcomes.extend(store.upsert(ids[part], vectors[part], metadata[part]))

    wall, cpu = cpu_of(write)
    pipe.send(0.0)
    after, faults = pipe.recv()
    print(f"{count:,} documents in {wall:.0f} s, {cpu:.0f} s of CPU, {after - before:,} requests; faults: {faults}")
    seen: dict[str, int] = dict.fromkeys(ids, 0)
    wrong = 0
    place = {key: row for row, key in enumerate(ids)}
    reader = AstraStore("faulty", **connection)
    for keys, read, rows in reader.scan():
        for key, vector, row in zip(keys, read, rows, strict=True):
            seen[key] = seen.get(key, 0) + 1
            wrong += not np.allclose(vector, vectors[place[key]], atol=1e-6) or row != metadata[place[key]]
    told = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    lost, twice = (sum(times == 0 for times in seen.values()), sum(times > 1 for times in seen.values()))
    print(f"told: {told}; lost {lost}, twice {twice}, unknown {len(seen) - count}, with other content {wrong}")
    return {"documents": count, "seconds": wall, "lost": lost, "twice": twice, "with other content": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000, help="in each turn")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--with-faults", type=int, default=0, metavar="DOCUMENTS")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    pipe, other = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(other,), daemon=True)
    server.start()
    endpoint, token = pipe.recv()
    connection = {"endpoint": endpoint, "token": token}
    figures: dict[str, Any] = {}
    if options.rounds:
        database = DataAPIClient().get_database(endpoint, token=token)
        figures |= compare(database, connection, options.documents, options.rounds)
    if options.with_faults:
        figures["with faults"] = with_faults(pipe, connection, options.with_faults)
    pipe.send(None)
    server.join()
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
