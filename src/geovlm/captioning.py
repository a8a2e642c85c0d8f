"""`caption`: images to a data set of pairs, in parts on disk, that goes on where it stopped."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import evolve

from geovlm._engine import processing
from geovlm._images_on_disk import keep_image
from geovlm._parts import Parts, fill
from geovlm._tables import to_table
from geovlm.dataset import Dataset
from geovlm.errors import UsageError
from geovlm.imaging import resolve
from geovlm.protocols import Captioner
from geovlm.records import Failure, Record

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pyarrow as pa
    from PIL import Image

    from geovlm.protocols import Engine, ImageSource, Steps

__all__ = ["caption"]

PART_SIZE = 64
# An image comes to the captioner at no less than twice the size it looks at, so that its own resizing decides.
OVERSAMPLING = 2


def caption(
    source: ImageSource,
    captioner: Captioner,
    *,
    out: str | os.PathLike[str],
    batch_size: int = 16,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool | None = None,
    engine: Engine | None = None,
) -> Dataset:
    """Write captions for all images of a source, and keep the pairs as a data set in a directory.

    The captions take the place of those that a record brought along; everything else of it is kept. A call that was
    stopped goes on when it is repeated, with the same captions as if it had not been; a source that has grown has only
    its new images captioned, and inputs that failed are tried again.

    Args:
        source: Records with images. An image that cannot be decoded is a failure even where the captioner does not
            look at it, because such a pair is of no use.
        captioner: From `load_captioner`, or any object with a `name`, a `fingerprint` and `caption(records, images)`.
        out: The directory. Image files stay where they are; images in memory are saved in `out/images`.
        batch_size: Images that go through the model together.
        on_error: `"raise"` stops at the first failure.
        progress: Show a bar; `None` decides by where the output goes.
        engine: Where the work is done, such as `geovlm.distributed.RayEngine(workers=8)`; `None` is this process. The
            captions do not depend on it, and a run may go on with another one.

    Returns:
        The pairs in `out`, with the report of this call; `Dataset.open(out)` reads them again later. An image for which
        the captioner has nothing to say is a failure of stage `"caption"`.

    Raises:
        ConfigMismatch: `out` holds something else, or the captions of another captioner.
        ImageError: An input failed, and `on_error` is `"raise"`.
        StorageError: The disk refused; the finished parts are kept.
        UsageError: An argument cannot be right, or the captioner returned no captions that fit its images.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm.captioners.tags import TagCaptioner
        >>> scene = Record(id="1", image=Image.new("RGB", (8, 8)), label="BaseballField")
        >>> pairs = caption([scene], TagCaptioner(templates=["a photo of {subject}"]), out=tempfile.mkdtemp())
        >>> pairs[0].captions, pairs.report.done
        (('a photo of a baseball field',), 1)
    """
    if isinstance(captioner, str) or not isinstance(captioner, Captioner):
        raise UsageError(
            f"A captioner has a name, a fingerprint and caption(records, images), unlike {captioner!r:.80};"
            " for a name or a folder use load_captioner."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise UsageError(f"batch_size is a whole number of at least 1, not {batch_size!r}.")
    folder = Path(out).expanduser()
    steps = partial(_steps, out=folder.absolute())  # workers may stand elsewhere
    config = {"by": "caption", "captioner": captioner.fingerprint}
    report = fill(
        Parts(folder, kind="dataset", config=config, about={"captioner": captioner.name}),
        source,
        stage="caption",
        part_size=batch_size * -(-PART_SIZE // batch_size),  # whole batches, so that a resumed run cuts the same ones
        process=processing(engine, model=captioner, steps=steps, batch_size=batch_size, stage="caption"),
        to_part=_to_part,
        on_error=on_error,
        progress=progress,
    )
    return evolve(Dataset.open(folder), report=report)


def _steps(captioner: Captioner, *, out: Path) -> Steps:
    stage = _Captioning(captioner, out)
    return stage.prepare, stage.run


class _Captioning:
    """What is done with one record, in threads, and with one batch."""

    def __init__(self, captioner: Captioner, out: Path) -> None:
        self._captioner, self._out = captioner, out
        self._side: int | None = getattr(captioner, "image_size", None)
        self._silence: str = getattr(captioner, "silence", "nothing to say: the captioner wrote no caption")

    def prepare(self, record: Record) -> tuple[Record, Image.Image]:
        """Decode the image, and give the record the place where it stays."""
        loaded = evolve(record, image=resolve(record.image)) if record.image is not None else record
        enough = None if self._side is None else OVERSAMPLING * self._side
        image = loaded.open(size_hint=enough)
        return keep_image(loaded, self._out), image if enough is None else _reduce(image, enough)

    def run(self, records: Sequence[Record], prepared: Sequence[tuple[Record, Image.Image]]) -> list[Record | Failure]:
        """Caption one batch."""
        captions = self._captioner.caption(records, [image for _, image in prepared])
        if len(captions) != len(records):
            raise UsageError(f"{self._captioner.name} returned {len(captions)} captions for {len(records)} images.")
        pairs = [kept.with_captions(texts) for (kept, _), texts in zip(prepared, captions, strict=True)]
        return [self._checked(pair, record) for pair, record in zip(pairs, records, strict=True)]

    def _checked(self, pair: Record, record: Record) -> Record | Failure:
        if not all(isinstance(text, str) for text in pair.captions):
            raise UsageError(f"{self._captioner.name} returned {pair.captions!r:.80}; captions are text.")
        texts = [text for text in pair.captions if text.strip()]
        if not texts:
            return Failure(id=record.id, uri=record.uri, stage="caption", reason=self._silence)
        return pair.with_captions(texts)


def _reduce(image: Image.Image, enough: int) -> Image.Image:
    """Average whole blocks of pixels, as JPEG decoders do, down to no less than `enough` pixels at the smaller side."""
    factor = min(image.size) // enough
    return image.reduce(factor) if factor > 1 else image


def _to_part(chunk: Sequence[tuple[Record, Record | Failure]]) -> pa.Table:
    rows = [record if isinstance(outcome, Failure) else outcome for record, outcome in chunk]
    return to_table(rows, [outcome if isinstance(outcome, Failure) else None for _, outcome in chunk])
