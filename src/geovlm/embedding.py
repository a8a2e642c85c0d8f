"""`embed`: images to vectors, in parts on disk, that goes on where it stopped."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geovlm._engine import processing
from geovlm._markup import guarded, listing, panel
from geovlm._parts import Parts, fill, stored_report
from geovlm._stream import TIMEOUT
from geovlm._tables import to_metadata, to_record, to_table
from geovlm._workers import as_one
from geovlm.errors import UsageError
from geovlm.protocols import Encoder, PixelEncoder
from geovlm.records import Failure, Record

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.protocols import Engine, ImageSource, Vectors
    from geovlm.records import Report

__all__ = ["Embeddings", "embed"]

KIND = "embeddings"
PART_SIZE = 512
# Images a batch, for encoders that say nothing about it.
BATCH_SIZE = 64
# JPEGs are decoded at no less than so many times the side that the encoder looks at. Twice costs a tenth of the speed
# on a CPU, and changed the mean cosine to float32 vectors of whole images from 0.99995 to 0.99996.
OVERSAMPLING = 1


class Embeddings:
    """Vectors with the records they belong to, as `embed` made them; read part by part.

    Args:
        parts: What `embed` wrote.
        report: What became of every input.

    Attributes:
        encoder_fingerprint: Of the encoder that made them; only its queries may be compared with them.
        dim: Length of a vector.
        report: What became of every input.

    Examples:
        >>> from PIL import Image
        >>> from geovlm.testing import HashEncoder
        >>> vectors = embed([Record(id="a", image=Image.new("RGB", (8, 8), "red"))], HashEncoder())
        >>> ids, array = vectors.to_numpy()
        >>> ids, array.shape, vectors.report.done
        (['a'], (1, 64), 1)
    """

    def __init__(self, parts: Parts, report: Report) -> None:
        self._parts = parts
        self.encoder_fingerprint: str = parts.config["encoder"]
        self.dim: int = parts.config["dim"]
        self.report = report

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Embeddings:
        """Open what an earlier `embed(…, out=path)` wrote, finished or not.

        Raises:
            UsageError: There are no embeddings.
        """
        parts = Parts.open(Path(path).expanduser(), kind=KIND)
        return cls(parts, stored_report(parts, "embed"))

    def __len__(self) -> int:
        return sum(table["reason"].null_count for table in self._parts.tables(["reason"]))

    def __repr__(self) -> str:
        place = "memory" if self._parts.out is None else str(self._parts.out)
        return f"Embeddings({len(self)} x {self.dim}, encoder {self.encoder_fingerprint}, in {place!r})"

    @guarded
    def _repr_html_(self) -> str:
        place = "memory" if self._parts.out is None else str(self._parts.out)
        known = {"encoder": self.encoder_fingerprint, "in": place, "report": str(self.report).split("\n", 1)[0]}
        return panel(f"Embeddings: {len(self):,} vectors of {self.dim} numbers", listing(known))

    def batches(self) -> Iterator[tuple[list[str], Vectors, list[Record]]]:
        """Read all vectors, some hundreds at a time: `(ids, vectors, records)`; inputs that failed are left out."""
        for table in self._parts.tables():
            done = table.filter(pc.is_null(table["reason"]))
            if len(done):
                vectors = _to_array(done["vector"], self.dim)
                yield done["id"].to_pylist(), vectors, [to_record(row) for row in done.drop(["vector"]).to_pylist()]

    def to_numpy(self) -> tuple[list[str], Vectors]:
        """All ids and vectors at once: `(ids, vectors (n, dim))`."""
        ids: list[str] = []
        parts = [np.empty((0, self.dim), dtype=np.float32)]
        for some, vectors, _ in self.batches():
            ids += some
            parts.append(vectors)
        return ids, np.concatenate(parts)

    def to_pandas(self) -> pd.DataFrame:
        """All of it as a table: `id`, what is known of each image, and its `vector`."""
        import pandas as pd

        rows = [
            {"id": record.id, **to_metadata(record), "vector": vector}
            for _, vectors, records in self.batches()
            for record, vector in zip(records, vectors, strict=True)
        ]
        return pd.DataFrame(rows, columns=None if rows else ["id", "vector"])


def embed(
    source: ImageSource,
    encoder: Encoder,
    *,
    out: str | os.PathLike[str] | None = None,
    batch_size: int | Literal["auto"] = "auto",
    timeout: float | None = TIMEOUT,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool | None = None,
    engine: Engine | None = None,
) -> Embeddings:
    """Embed all images of a source.

    Images are decoded in threads, ahead of the model. With `out`, the vectors are written in parts, and a call that was
    stopped goes on when it is repeated, with the same bytes as if it had not been; a source that has grown has only its
    new images embedded, and inputs that failed are tried again.

    Args:
        source: Records with images.
        encoder: From `load_encoder`, or any object with the abilities of `geovlm.protocols.Encoder`.
        out: A directory for the vectors; `None` keeps them in memory.
        batch_size: Images that go through the model together; `"auto"` is what the encoder asks for by its
            `batch_size_hint`, or 64. Vectors from batches of other sizes differ by rounding alone.
        timeout: Seconds after which an image that cannot be read to its end, as on a network disk that hangs, is a
            failure; `None` waits for ever.
        on_error: `"raise"` stops at the first failure.
        progress: Show a bar; `None` decides by where the output goes.
        engine: Where the work is done, such as `geovlm.distributed.RayEngine(workers=8)`; `None` is this process. The
            results do not depend on it, and a run may go on with another one.

    Returns:
        The vectors, with the report of this call. `Embeddings.open(out)` reads them again later.

    Raises:
        ConfigMismatch: `out` holds something else, or the vectors of another encoder.
        ImageError: An input failed, and `on_error` is `"raise"`.
        RunLocked: Another process is writing in `out`.
        StorageError: The disk refused, or stopped to answer; the finished parts are kept.
        UsageError: An argument cannot be right, or the encoder returned no vectors that fit its images.

    Examples:
        >>> from PIL import Image
        >>> from geovlm.testing import HashEncoder
        >>> scenes = [Record(id=c, image=Image.new("RGB", (8, 8), c)) for c in ("red", "blue")]
        >>> vectors = embed([*scenes, Record(id="broken", image=b"?")], HashEncoder(dim=16))
        >>> print(vectors.report)
        embed: 2 done, 0 skipped, 1 failed of 3
          broken: decode: not an image, or of a format that Pillow does not know
        >>> ids, array = vectors.to_numpy()
        >>> ids, array.shape
        (['red', 'blue'], (2, 16))
    """
    if isinstance(encoder, str) or not isinstance(encoder, Encoder):
        raise UsageError(
            f"An encoder has a name, a fingerprint and encode_images(images), unlike {encoder!r:.80}; for a name or a"
            " folder use load_encoder."
        )
    images_a_batch, part_size = _sizes(batch_size, encoder)
    if timeout is not None and not timeout > 0:
        raise UsageError(f"timeout is a number of seconds above 0, or None to wait for ever; not {timeout!r}.")
    config = {"encoder": encoder.fingerprint, "dim": encoder.dim}
    folder = None if out is None else Path(out).expanduser()
    parts = Parts(folder, kind=KIND, config=config, about={"encoder": encoder.name})
    report = fill(
        parts,
        source,
        stage="embed",
        part_size=part_size,
        process=processing(
            engine,
            model=encoder,
            steps=_steps,
            batch_size=images_a_batch,
            stage="embed",
            cut=part_size,  # a resumed run, which begins where a part ended, makes the same batches
            timeout=timeout,
        ),
        to_part=partial(_to_part, dim=encoder.dim),
        on_error=on_error,
        progress=progress,
    )
    return Embeddings(parts, report)


def _sizes(batch_size: int | Literal["auto"], encoder: Encoder) -> tuple[int, int]:
    """Images a batch, and images a part; the latter does not depend on the encoder's device."""
    if batch_size == "auto":
        return min(getattr(encoder, "batch_size_hint", BATCH_SIZE), PART_SIZE), PART_SIZE
    if not isinstance(batch_size, int) or batch_size < 1:
        raise UsageError(f"batch_size is a whole number of at least 1, or 'auto'; not {batch_size!r}.")
    return batch_size, batch_size * max(1, round(PART_SIZE / batch_size))


def _steps(
    encoder: Encoder,
) -> tuple[Callable[[Record], Any], Callable[[Sequence[Record], Sequence[Any]], list[NDArray[np.float32] | Failure]]]:
    """What is done with one record, in threads, and with one batch."""
    if isinstance(encoder, PixelEncoder):
        pixels, hint = encoder, OVERSAMPLING * encoder.image_size

        def prepare(record: Record) -> NDArray[np.uint8]:
            return pixels.preprocess(record.open(size_hint=hint))

        return prepare, lambda records, items: _rows(records, pixels.encode_pixels(as_one(items)), encoder)

    def decode(record: Record) -> Image.Image:
        return record.open()

    return decode, lambda records, items: _rows(records, encoder.encode_images(items), encoder)


def _rows(records: Sequence[Record], vectors: Any, encoder: Encoder) -> list[NDArray[np.float32] | Failure]:
    array: NDArray[np.float32] = np.asarray(vectors, dtype=np.float32)
    if array.shape != (len(records), encoder.dim):
        raise UsageError(
            f"{encoder.name} returned an array of shape {array.shape} for {len(records)} images; with its dim"
            f" of {encoder.dim}, ({len(records)}, {encoder.dim}) was to be expected."
        )
    usable: list[bool] = np.logical_and(np.isfinite(array).all(axis=1), array.any(axis=1)).tolist()
    reason = "its vector is zero, or has NaN or infinity in it"
    return [
        row if good else Failure(id=record.id, uri=record.uri, stage="embed", reason=reason)
        for record, row, good in zip(records, array, usable, strict=True)
    ]


def _to_part(chunk: Sequence[tuple[Record, NDArray[np.float32] | Failure]], *, dim: int) -> pa.Table:
    failures = [outcome if isinstance(outcome, Failure) else None for _, outcome in chunk]
    zeros = np.zeros(dim, dtype=np.float32)
    array = np.stack([zeros if isinstance(outcome, Failure) else outcome for _, outcome in chunk])
    missing = pa.array([failure is not None for failure in failures])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), dim, mask=missing)
    return to_table([record for record, _ in chunk], failures).append_column("vector", vectors)


def _to_array(column: pa.ChunkedArray, dim: int) -> Vectors:
    flat = column.combine_chunks().flatten()
    vectors: Vectors = np.ascontiguousarray(flat.to_numpy().reshape(-1, dim))
    return vectors
