"""`Curated`: the captions that were kept, and what became of each of the others."""

from __future__ import annotations

import html
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from geovlm.dataset import Dataset
    from geovlm.records import Report

__all__ = ["CAPTIONS", "Curated"]

CAPTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("caption", pa.string()),
        ("kept", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float32()),
    ]
)
SHOWN = 3


@frozen(eq=False, repr=False, kw_only=True)
class Curated:
    """What `curate` kept, and why it dropped the rest.

    Args:
        dataset: The images with the captions that were kept; images without any are left out.
        captions: One row a caption, in order: `id` of its image, the `caption` as it was, what was `kept` of it or
            null, the `reason` why not or null, and its `score` against its image where an encoder gave one.
        report: What became of every image: done if it kept a caption, failed if not.
    """

    dataset: Dataset
    captions: pa.Table
    report: Report

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many captions were kept, and dropped for each reason, the most frequent first."""
        reasons = self.captions["reason"].value_counts().to_pylist()
        dropped = {row["values"]: row["counts"] for row in reasons if row["values"] is not None}
        order = sorted(dropped, key=lambda reason: (-dropped[reason], reason))
        return {"kept": self.captions.num_rows - sum(dropped.values()), **{reason: dropped[reason] for reason in order}}

    @property
    def changed(self) -> int:
        """How many captions were kept in other words than they came."""
        differs = pc.not_equal(self.captions["kept"], self.captions["caption"])
        return int(pc.sum(differs).as_py() or 0)

    def examples(self, reason: str, *, limit: int = SHOWN) -> pd.DataFrame:
        """Captions dropped for a reason, those of the lowest score first."""
        rows = self.captions.filter(pc.equal(self.captions["reason"], reason))
        found: pd.DataFrame = rows.sort_by([("score", "ascending")]).slice(0, limit).to_pandas()
        return found

    def to_pandas(self) -> pd.DataFrame:
        """`captions` as a DataFrame."""
        found: pd.DataFrame = self.captions.to_pandas()
        return found

    def __repr__(self) -> str:
        return f"Curated({self.counts['kept']} of {self.captions.num_rows} captions, {len(self.dataset)} images)"

    def __str__(self) -> str:
        counts = self.counts
        lines = [f"{counts['kept']} of {self.captions.num_rows} captions kept, {self.changed} of them shortened"]
        for reason in list(counts)[1:]:
            lines.append(f"  {counts[reason]} dropped: {reason}")
            lines += [f"    {row.id}: {row.caption!r:.100}" for row in self.examples(reason).itertuples()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for reason, count in list(self.counts.items())[1:]:
            texts = (html.escape(text) for text in self.examples(reason)["caption"])
            rows.append(f"<tr><td>{html.escape(reason)}</td><td>{count}</td><td>{'<br>'.join(texts)}</td></tr>")
        table = f"<table><tr><th>dropped because</th><th>captions</th><th>such as</th></tr>{''.join(rows)}</table>"
        return f"<b>{html.escape(repr(self))}</b>" + (table if rows else "")
