"""Rows of a `LanceStore`: what becomes of each on its way in, as Arrow, and read back by id."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from attrs import frozen

from geovlm.errors import StoreError, UsageError
from geovlm.stores._lance_columns import KINDS, Layout, is_utf8, shred
from geovlm.stores._lance_sql import in_list

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

Outcome = Literal["inserted", "replaced", "skipped"]

# Ids that one condition of SQL names; where there are more, those of the whole table are read.
IDS_A_CONDITION = 1000
# Where ids are indexed, finding one costs as much as reading this many in a row.
COST_OF_FINDING = 64
ROWS_A_READ = 16_384
# Ids alone are short, and larger reads of them take half the time.
IDS_A_READ = 65_536


@frozen(kw_only=True)
class Rows:
    """Checked rows on their way in.

    Args:
        ids: Text that UTF-8 can write.
        vectors: `(n, dim)`, L2-normalised.
        metadata: JSON values.
    """

    ids: list[str]
    vectors: Vectors
    metadata: list[dict[str, Any]]

    def at(self, positions: list[int]) -> Rows:
        """Some of the rows."""
        if len(positions) == len(self.ids):
            return self
        return Rows(
            ids=[self.ids[i] for i in positions],
            vectors=self.vectors[positions],
            metadata=[self.metadata[i] for i in positions],
        )

    def to_arrow(self, layout: Layout) -> pa.Table:
        """As a table with all columns of a layout, and those that these rows need beside."""
        cells, count = shred(self.metadata, layout), len(self.ids)
        columns: dict[str, Any] = {
            "id": pa.array(self.ids, type=pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.reshape(-1)), self.vectors.shape[1]),
            "metadata": pa.array([json.dumps(row) for row in self.metadata], type=pa.string()),
        }
        for column in sorted(cells.keys() | layout.columns):
            kind = KINDS[column[0]]
            columns[column] = pa.array(cells[column], type=kind) if column in cells else pa.nulls(count, kind)
        return pa.table(columns)


def writable(ids: list[str]) -> list[str]:
    """The ids.

    Raises:
        UsageError: One cannot be written.
    """
    for key in ids:
        if not is_utf8(key):
            raise UsageError(f"The id {key!r:.80} has half of a character (a lone surrogate) and cannot be written.")
    return ids


def outcomes(ids: Sequence[str], known: Collection[str], *, replace: bool) -> list[Outcome]:
    """What becomes of rows that are written one after the other, into a table that has the `known` ids."""
    seen, result = set(known), list[Outcome]()
    for key in ids:
        result.append("inserted" if key not in seen else "replaced" if replace else "skipped")
        seen.add(key)
    return result


def to_write(ids: Sequence[str], results: Sequence[Outcome]) -> list[int]:
    """The positions of the rows that are in the table in the end: of each id the last that is not skipped."""
    last = {key: position for position, key in enumerate(ids) if results[position] != "skipped"}
    return list(last.values())


def refuse_known(ids: Sequence[str], known: Collection[str]) -> None:
    """Raise a `StoreError` if an id is known or comes twice."""
    wrong = [key for key, times in Counter(ids).items() if times > 1 or key in known]
    if wrong:
        raise StoreError(
            f"{len(wrong)} ids are in the store already or come twice, the first is {wrong[0]!r:.80}; nothing was"
            " written. on_conflict='replace' or 'skip' says what to do with them."
        )


def find(table: Any, ids: Sequence[str], columns: list[str]) -> Iterator[Any]:
    """The rows of some ids, as batches in no order: by conditions on ids if they are few, else by reading all ids."""
    keys, total = [key for key in dict.fromkeys(ids) if is_utf8(key)], table.count_rows()
    if not keys or not total:
        return
    if len(keys) <= IDS_A_CONDITION or (len(keys) * COST_OF_FINDING < total and has_id_index(table)):
        for start in range(0, len(keys), IDS_A_CONDITION):
            condition = in_list("id", keys[start : start + IDS_A_CONDITION])
            yield from table.search().where(condition).select(columns).to_batches()
        return
    wanted = pa.array(keys, type=pa.string())
    for batch in table.search().select(columns).to_batches(IDS_A_READ if columns == ["id"] else ROWS_A_READ):
        yield batch.filter(pc.is_in(batch["id"], wanted))


def has_id_index(table: Any) -> bool:
    """Whether ids are found without reading them all."""
    return any(index.columns == ["id"] for index in table.list_indices())


def vectors_of(batch: Any) -> NDArray[np.float32]:
    """The vectors of a batch, as a view."""
    column = batch["vector"]
    flat: NDArray[np.float32] = column.flatten().to_numpy()
    return flat.reshape(len(column), column.type.list_size)
