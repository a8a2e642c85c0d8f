"""Image-text retrieval: does a caption find its image, and an image its caption?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from attrs import evolve, field, frozen

from geovlm._markup import frame, panel
from geovlm._metrics import NEVER, recall_at, retrieval_ranks
from geovlm._vectors import check_count
from geovlm.errors import UsageError
from geovlm.evaluation._collect import collect, encode_texts
from geovlm.prompts import fill_templates

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Encoder
    from geovlm.records import Record, Report

__all__ = ["RetrievalResult", "retrieval"]


@frozen(kw_only=True, eq=False)
class RetrievalResult:
    """How well images and captions find each other; over *all* pairs, and those of a failed image are missed.

    Args:
        ks: The cut-offs of recall@k.
        image_ranks: `(images,)`, for each image with captions the rank from 0 of its best placed caption among all.
        text_ranks: `(captions,)`, for each caption the rank from 0 of its image among all.
        report: What became of every input.

    Examples:
        >>> from geovlm import Report
        >>> ranks = np.array([0, 3])
        >>> RetrievalResult(ks=(1, 5), image_ranks=ranks, text_ranks=ranks, report=Report(done=2)).image_to_text
        {1: 0.5, 5: 1.0}
    """

    ks: tuple[int, ...]
    image_ranks: NDArray[np.int64] = field(repr=False)
    text_ranks: NDArray[np.int64] = field(repr=False)
    report: Report = field(repr=False)

    @property
    def image_to_text(self) -> dict[int, float]:
        """Share of the images that have a caption of their own among the best `k`, by `k`."""
        return {k: recall_at(self.image_ranks, k) for k in self.ks}

    @property
    def text_to_image(self) -> dict[int, float]:
        """Share of the captions that have their image among the best `k`, by `k`."""
        return {k: recall_at(self.text_ranks, k) for k in self.ks}

    @property
    def mean_recall(self) -> float:
        """Mean of all recalls, both ways: the one number that remote-sensing papers call mR."""
        return float(np.mean([*self.image_to_text.values(), *self.text_to_image.values()]))

    @property
    def coverage(self) -> float:
        """Share of the inputs that could be read."""
        return 1 - self.report.failed / self.report.total

    def to_pandas(self) -> pd.DataFrame:
        """One row a direction: number of queries, recall at each `k`, median rank from 1."""
        rows = {"image to text": self.image_ranks, "text to image": self.text_ranks}
        return pd.DataFrame(
            [
                {
                    "queries": len(ranks),
                    **{f"R@{k}": recall_at(ranks, k) for k in self.ks},
                    "median rank": _median(ranks),
                }
                for ranks in rows.values()
            ],
            index=list(rows),
        )

    def __str__(self) -> str:
        head = f"retrieval: mean recall {self.mean_recall:.2%} over all inputs; {self.coverage:.2%} could be read"
        return f"{head}\n{self.to_pandas().round(4).to_string()}"

    def _repr_html_(self) -> str:
        return panel(str(self).split("\n", 1)[0], frame(self.to_pandas()))


def retrieval(
    encoder: Encoder,
    source: Iterable[Record],
    *,
    ks: Sequence[int] = (1, 5, 10),
    template: str = "{}",
    batch_size: int = 64,
    progress: bool | None = None,
) -> RetrievalResult:
    """Look up every caption among all images, and every image among all captions.

    An image may have several captions: the best placed of its own counts, and its others do not stand in its way.
    Images without captions are candidates for the captions of others and no queries. Pixels are read once and let go;
    vectors are kept.

    Args:
        encoder: What is measured.
        source: Images with captions.
        ks: The cut-offs of recall@k.
        template: What each caption is put into; SkyScript's benchmark uses `"a satellite image. {}"`.
        batch_size: Images a batch.
        progress: Show a bar; `None` decides by where the output goes.

    Raises:
        UsageError: There are no inputs or no captions, or a `k` or the template cannot be right.

    Examples:
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.testing import HashEncoder
        >>> colours = ("red", "green", "blue")
        >>> scenes = [Record(id=c, image=Image.new("RGB", (8, 8), c), captions=[c, f"a {c} field"]) for c in colours]
        >>> retrieval(HashEncoder(), scenes, ks=[1]).text_to_image
        {1: 1.0}
    """
    cuts = tuple(sorted({check_count(k, name="each of ks") for k in ks}))
    if not cuts:
        raise UsageError("ks needs at least one cut-off, such as (1, 5, 10).")
    fill_templates([template], "")
    found = collect(encoder, source, lambda record: record.captions, batch_size=batch_size, progress=progress)
    owner = np.repeat(np.arange(len(found.ids)), [len(captions) for captions in found.known])
    if not len(owner):
        raise UsageError("No record has captions, and retrieval looks them up; caption() writes some.")
    place = found.place[owner]
    texts = [text for captions in found.known for text in captions]
    read = place >= 0
    vectors = encode_texts(
        encoder, [fill_templates([template], text)[0] for text, there in zip(texts, read, strict=True) if there]
    )
    image_ranks, text_ranks = retrieval_ranks(found.vectors, vectors, place[read])
    queries = np.unique(owner)
    return RetrievalResult(
        ks=cuts,
        image_ranks=_with_missed(image_ranks, found.place[queries]),
        text_ranks=_with_missed(text_ranks, np.where(read, np.cumsum(read) - 1, -1)),
        report=evolve(found.report, stage="retrieval"),
    )


def _with_missed(ranks: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank at each place, and `NEVER` where the place is −1."""
    return np.append(ranks, NEVER)[place]


def _median(ranks: NDArray[np.int64]) -> float:
    return float(np.median(np.where(ranks == NEVER, np.inf, ranks + 1.0)))
