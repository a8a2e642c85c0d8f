"""`Curated`: the captions that were kept, and what became of each of the others."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from attrs import frozen

from geovlm._markup import panel, table

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

    Examples:
        >>> from geovlm import Record, curate
        >>> curated = curate([Record(id="1", image="1.jpg", captions=["I cannot tell.", "boats at a pier"])])
        >>> [record.captions for record in curated.dataset]
        [('boats at a pier',)]
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
        dropped = list(self.counts.items())[1:]
        rows = [(reason, count, " · ".join(self.examples(reason)["caption"])) for reason, count in dropped]
        return panel(repr(self), table(("dropped because", "captions", "such as"), rows))
