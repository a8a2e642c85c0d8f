"""When a `LanceStore` gets its indexes, of which kind, and how they are asked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import frozen

from geovlm._optional import require
from geovlm.stores._lance_search import Probe

if TYPE_CHECKING:
    from geovlm.stores._lance_table import About, LanceTable

# Below this a query that compares with every vector takes some ten milliseconds.
INDEX_FROM = 100_000
ROWS_A_PARTITION = 1000
# Partitions follow from the rows at the time of the build; the index is made anew when there are this many times more.
GROWTH = 4
# Rows that the index does not know are compared with directly; this part of the table may wait, and this many rows.
UNINDEXED_PART, UNINDEXED_ROWS = 20, 20_000
SMALL_FILES = 32
# Versions are kept this long for those who still read them.
KEEP_VERSIONS = timedelta(hours=1)

ROWS_KEY = "geovlm.indexed_rows"
INDEX = "vector_idx"
SAMPLE = 10_000
FEW_VALUES = 1000
LONG_TEXT = 256
MAX_COLUMNS = 64


def probe_of(about: About) -> Probe | None:
    """How a query uses the index; `None` if there is none."""
    if ROWS_KEY not in about.settings:
        return None
    return Probe(partitions=64, refine=8)


def tidy(place: LanceTable, table: Any) -> None:
    """Join small files, let the indexes know new rows, make them when it pays; only inside `writing`."""
    rows = table.count_rows()
    indexed = int(place.about(table).settings.get(ROWS_KEY, 0))
    waiting = table.index_stats(INDEX).num_unindexed_rows if indexed else 0
    small = table.stats()["fragment_stats"]["num_small_fragments"]
    if small >= SMALL_FILES or waiting >= max(UNINDEXED_ROWS, rows // UNINDEXED_PART):
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
    if rows >= max(INDEX_FROM, GROWTH * indexed):
        build(place, table)


def build(place: LanceTable, table: Any) -> None:
    """Index the vectors, the ids and the metadata; only inside `writing`."""
    rows = table.count_rows()
    if not rows:
        return
    kinds = require("lancedb.index", extra="lance")
    about = place.about(table)
    # Codes of one bit a number; Lance makes them of vectors whose length is a multiple of 8.
    kind = kinds.IvfSq if about.dim % 8 else kinds.IvfRq
    config = kind(distance_type="cosine", num_partitions=max(1, rows // ROWS_A_PARTITION))
    table.create_index("vector", config=config, name=INDEX, replace=True)
    place.describe(table, {ROWS_KEY: str(rows)})
    for column, scalar in _worth_indexing(table, about).items():
        table.create_index(column, config=getattr(kinds, scalar)(), replace=True)


def _worth_indexing(table: Any, about: About) -> dict[str, str]:
    """The columns to index, and the kind of index of each: by looking at a sample of the rows."""
    chosen = {"id": "BTree"}
    columns = sorted(column for column in about.layout.columns if column[0] in "ntbi")
    sample = table.search().select(columns).limit(SAMPLE).to_arrow() if columns else None
    for column in columns[:MAX_COLUMNS]:
        values = sample[column].drop_null()
        if column[0] in "nb":
            chosen[column] = "BTree" if column[0] == "n" else "Bitmap"
    return chosen
