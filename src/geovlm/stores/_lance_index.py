"""When a `LanceStore` gets its indexes, of which kind, and how they are asked.

The index over the vectors (IVF_RQ) sorts them into partitions and keeps a code of 4 bits a number (RaBitQ, Gao and Long
2024; Gao et al. 2025). A query reads the codes of the nearest `PROBED` partitions, which are all of them up to a
million rows. Fewer would do where the query lies among the vectors, as an image among images. Texts lie apart from
images in the space of a CLIP model, and the images nearest to one are spread over half of the partitions.
"""

from __future__ import annotations

from datetime import timedelta
from math import isqrt
from typing import TYPE_CHECKING, Any

from geovlm._optional import require
from geovlm.stores._lance_search import Probe

if TYPE_CHECKING:
    from geovlm.stores._lance_table import About, LanceTable

# With fewer rows, comparing with every vector takes less than some fifty milliseconds.
INDEX_FROM = 20_000
# The index is made anew for this many times the rows, because its partitions follow from the rows at the time. It is
# extended by parts, each of which a query looks into, and made anew where it would have more than so many.
GROWTH, PARTS = 4, 5
ROWS_A_PARTITION = 4000
BITS = 4
PROBED = 256

# Below these, tidying costs more than it saves: files of less than 100,000 rows, which are joined sooner if an index is
# to be made anyway, because it must learn where rows have gone; rows that the index does not know, which cost a query a
# microsecond or two each; rows that were removed or replaced. The parts are one in so many of all rows.
SMALL_FILES, SMALL_FILES_TO_INDEX = 100, 8
WAITING_ROWS, WAITING_PART = 10_000, 50
STALE_ROWS, STALE_PART = 20_000, 5
# Versions are kept this long for those who still read them.
KEEP_VERSIONS = timedelta(hours=1)

# A column's values are looked at in this many rows. They are held in bitmaps if each comes ten times. Long texts get no
# index: nobody asks for them whole.
SAMPLE = 10_000
REPEATED = 10
LONG_TEXT = 200
MAX_COLUMNS = 64

INDEX = "vector_idx"
ROWS_KEY, PARTITIONS_KEY = "geovlm.indexed_rows", "geovlm.partitions"


def probe_of(about: About) -> Probe | None:
    """How a query uses the index; `None` if there is none."""
    if PARTITIONS_KEY not in about.settings:
        return None
    return Probe(partitions=PROBED, all_of_them=int(about.settings[PARTITIONS_KEY]) <= PROBED)


def tidy(place: LanceTable, table: Any, *, stale: int) -> None:
    """Join small files, let the indexes know new rows, make them when it pays; only inside `writing`.

    Args:
        place: Where the table is.
        table: The `lancedb` table.
        stale: How many rows were removed or replaced since the last time.
    """
    rows, index = table.count_rows(), table.index_stats(INDEX)
    indexed = int(place.about(table).settings.get(ROWS_KEY, 0)) if index else 0
    waiting = index.num_unindexed_rows if index else 0
    due = waiting >= max(WAITING_ROWS, rows // WAITING_PART)
    outgrown = rows >= max(INDEX_FROM, GROWTH * indexed) or (due and index.num_indices >= PARTS)
    if (
        _small_files(table) >= (SMALL_FILES_TO_INDEX if outgrown else SMALL_FILES)
        or (due and not outgrown)
        or stale >= max(STALE_ROWS, rows // STALE_PART)
    ):
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
    if outgrown:
        build(place, table)


def _small_files(table: Any) -> int:
    return int(table.stats()["fragment_stats"]["num_small_fragments"])


def build(place: LanceTable, table: Any) -> None:
    """Index the vectors, the ids and the metadata; only inside `writing`."""
    rows = table.count_rows()
    if not rows:
        return
    kinds, about = require("lancedb.index", extra="lance"), place.about(table)
    settings: dict[str, Any] = {"distance_type": "cosine", "num_partitions": partitions_for(rows)}
    # RaBitQ wants whole bytes.
    config = kinds.IvfSq(**settings) if about.dim % 8 else kinds.IvfRq(**settings, num_bits=BITS)
    table.create_index("vector", config=config, name=INDEX, replace=True)
    place.describe(table, {ROWS_KEY: str(rows), PARTITIONS_KEY: str(settings["num_partitions"])})
    for column, kind in {"id": "BTree", **_kinds_of_index(table, about)}.items():
        table.create_index(column, config=getattr(kinds, kind)(), replace=True)


def partitions_for(rows: int) -> int:
    """How many partitions an index has: of 4,000 rows up to a million, of more beyond, for the sake of the build."""
    return max(1, min(rows // ROWS_A_PARTITION, isqrt(rows) // 4))


def _kinds_of_index(table: Any, about: About) -> dict[str, str]:
    """The columns of metadata that are worth an index, and its kind, by a sample of the rows."""
    columns = sorted(column for column in about.layout.columns if column[0] in "ntbid")[:MAX_COLUMNS]
    if not columns:
        return {}
    sample = table.search().select(columns).limit(SAMPLE).to_arrow()
    kinds = {column: _kind_of_index(column[0], sample[column].drop_null()) for column in columns}
    return {column: kind for column, kind in kinds.items() if kind}


def _kind_of_index(kind: str, values: Any) -> str | None:
    if kind in "nbd":
        return "Bitmap" if kind == "b" else "BTree"
    texts = values.combine_chunks().flatten() if kind == "i" else values
    if texts.nbytes > LONG_TEXT * max(1, len(texts)):
        return None
    repeated = len(texts.unique()) * REPEATED <= len(texts)
    if kind == "i":
        return "LabelList" if repeated else None
    return "Bitmap" if repeated else "BTree"
