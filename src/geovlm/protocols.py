"""The abilities that geovlm is made of. A class that has the methods *is* a back end: nothing to inherit.

| ability | what it does | comes with geovlm |
| --- | --- | --- |
| `ImageSource` | yields `Record`s | folders, tables, shards, Hugging Face data sets |
| `Encoder` | images and texts to vectors in one space | open_clip, transformers |
| `DenseEncoder` | patches of images to vectors in that space | open_clip, transformers |
| `Captioner` | images to sentences | BLIP, BLIP-2, tags |
| `VectorStore` | keeps vectors with metadata, finds the nearest | NumPy, LanceDB, Astra DB |
| `Engine` | runs the batches of a long call elsewhere | Ray Data |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from PIL import Image

    from geovlm.records import Failure, Record

__all__ = [
    "Captioner",
    "DenseEncoder",
    "Encoder",
    "Engine",
    "ImageSource",
    "Matches",
    "PixelEncoder",
    "VectorReader",
    "VectorStore",
    "Vectors",
    "Where",
]

Vectors: TypeAlias = NDArray[np.float32]
"""Embeddings: float32, L2-normalised rows, C-order, shape `(n, dim)`."""

Where: TypeAlias = "Mapping[str, Any]"
"""A filter on metadata, in the operators that Astra DB speaks: `{"year": {"$gte": 2024}, "label": "Beach"}`."""


@runtime_checkable
class ImageSource(Protocol):
    """Anything that yields records, in the same order every time; a list or a generator of `Record`s is one.

    A generator can be read once, so a call that reads twice (resuming, several epochs) needs a list or a class.

    Examples:
        >>> from geovlm import FolderSource, Record
        >>> issubclass(FolderSource, ImageSource), isinstance([Record(id="a", image="a.jpg")], ImageSource)
        (True, True)
    """

    def __iter__(self) -> Iterator[Record]:
        """Yield the records."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Images and texts to vectors in one space.

    Attributes:
        name: For reading: a preset's name or a path.
        dim: Length of a vector.
        fingerprint: Changes with the weights, the preprocessing or the normalisation; vectors of two encoders may be
            compared only if it is the same.
        logit_scale: What cosines are multiplied by before a softmax over texts; 100 for most CLIP models.

    Examples:
        >>> from geovlm.testing import HashEncoder
        >>> encoder = HashEncoder(dim=8)
        >>> isinstance(encoder, Encoder), encoder.encode_texts(["a beach", "a port"]).shape
        (True, (2, 8))
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def logit_scale(self) -> float: ...

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed RGB images of any size: float32 `(len(images), dim)`, L2-normalised."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts as they are (no prompt is added): float32 `(len(texts), dim)`, L2-normalised."""
        ...


@runtime_checkable
class PixelEncoder(Encoder, Protocol):
    """An encoder whose preprocessing can run in other threads, ahead of the model.

    Attributes:
        image_size: Side in pixels of the model's input; decoders may stop at this size.

    Examples:
        >>> from geovlm.testing import HashEncoder
        >>> isinstance(HashEncoder(), PixelEncoder)  # it takes images only
        False
    """

    @property
    def image_size(self) -> int: ...

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop one RGB image: uint8 `(image_size, image_size, 3)`. Thread-safe."""
        ...

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Embed preprocessed images: uint8 `(n, image_size, image_size, 3)` to float32 `(n, dim)`, L2-normalised."""
        ...


@runtime_checkable
class DenseEncoder(PixelEncoder, Protocol):
    """An encoder that tells where: a vector for each patch beside that of the image, in the space of texts.

    `geovlm.encoders.dense.is_dense` asks whether an encoder is one; those of geovlm are, if their image tower can.

    Attributes:
        patch_size: Side in pixels of a patch, at the model's input.

    Examples:
        >>> from geovlm.testing import HashEncoder
        >>> isinstance(HashEncoder(), DenseEncoder)  # it knows nothing of patches
        False
    """

    @property
    def patch_size(self) -> int: ...

    def encode_dense(self, pixels: NDArray[np.uint8]) -> tuple[Vectors, NDArray[np.float32]]:
        """Embed prepared images and their patches in one pass, which serves every query.

        Args:
            pixels: uint8 `(n, height, width, 3)`; both sides any multiples of `patch_size`.

        Returns:
            float32 `(n, dim)`, at the size `image_size` what `encode_pixels` gives, and float32
            `(n, height / patch_size, width / patch_size, dim)`; both L2-normalised.
        """
        ...


@runtime_checkable
class Captioner(Protocol):
    """Images to sentences.

    Attributes:
        name: For reading.
        fingerprint: Changes with anything that changes the captions: weights, prompt, generation options.

    A captioner may have two more: `image_size`, the side in pixels of what it looks at, so that larger images reach it
    smaller and take less memory; and `silence`, the reason that a report gives for an image without a caption.

    Examples:
        >>> class Labels:
        ...     name = fingerprint = "labels"
        ...     def caption(self, records, images):
        ...         return [[f"a scene of {record.label}"] for record in records]
        >>> isinstance(Labels(), Captioner)
        True
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

    def caption(self, records: Sequence[Record], images: Sequence[Image.Image]) -> Sequence[Sequence[str]]:
        """Write one or more captions for each image.

        Args:
            records: What is known of each image, in the same order; a captioner may use labels and metadata.
            images: The decoded RGB images.

        Returns:
            For each image its captions, in order; an empty sequence where there is nothing to say.
        """
        ...


class Matches(Protocol):
    """The nearest rows of one query, best first: `ids[i]` has the cosine `scores[i]` and `metadata[i]`.

    Examples:
        >>> import numpy as np
        >>> from geovlm import NumpyStore
        >>> store = NumpyStore()
        >>> store.bind(dim=2, fingerprint="toy")
        >>> outcomes = store.upsert(["a", "b"], np.eye(2, dtype="float32"))
        >>> [matches] = store.query(np.array([[1, 0]], dtype="float32"), k=1)
        >>> matches.ids, matches.scores
        (['a'], [1.0])
    """

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def scores(self) -> Sequence[float]: ...
    @property
    def metadata(self) -> Sequence[Mapping[str, Any]]: ...


@runtime_checkable
class VectorStore(Protocol):
    """Keeps vectors with metadata and finds the nearest by cosine.

    The contract, the same for every store:

    - Vectors are float32 `(n, dim)`; a store refuses wrong sizes, zero vectors, NaN and infinities before it writes
      anything, and normalises the rest.
    - The first `upsert` (or `bind`) ties the store to one encoder's fingerprint; another's vectors are refused.
    - Scores are cosines in [−1, 1]; ties come in order of id.
    - Metadata is JSON-like: text, numbers, booleans, `None`, lists and mappings of these. A filter (`where`) on a
      name that a row does not have is false for that row, except `$exists: false`, `$ne`, `$nin` and `$not`; what
      each operator means is told in `geovlm.filters`.
    - An `upsert` of many rows ends as one of each row after the other would: an id that comes twice meets itself.

    Attributes:
        dim: Length of a vector; `None` as long as nothing was written or bound.
        fingerprint: Of the encoder that the store is tied to; `None` as long as it is to none.

    Examples:
        >>> from geovlm import NumpyStore
        >>> isinstance(NumpyStore(), VectorStore)
        True
    """

    @property
    def dim(self) -> int | None: ...
    @property
    def fingerprint(self) -> str | None: ...

    def bind(self, *, dim: int, fingerprint: str) -> None:
        """Tie the store to an encoder; again with the same values is fine.

        Raises:
            ConfigMismatch: It holds another encoder's vectors.
        """
        ...

    def upsert(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.floating[Any]],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        on_conflict: Literal["replace", "skip", "error"] = "replace",
    ) -> list[Literal["inserted", "replaced", "skipped"]]:
        """Write rows; the outcome of each is returned in order."""
        ...

    def query(
        self, vectors: NDArray[np.floating[Any]], k: int = 10, *, where: Where | None = None, exact: bool = False
    ) -> list[Matches]:
        """The `k` nearest rows for each of many query vectors `(q, dim)`; `exact` forbids approximation."""
        ...

    def get(self, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """Metadata by id; `None` where there is no such row."""
        ...

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Remove rows by id or by filter; returns how many."""
        ...

    def count(self, where: Where | None = None) -> int:
        """How many rows there are, or match a filter."""
        ...

    def scan(
        self, where: Where | None = None, *, batch_size: int = 1024
    ) -> Iterator[tuple[list[str], Vectors, list[Mapping[str, Any]]]]:
        """Read all rows, or those that match, in batches of `(ids, vectors, metadata)`."""
        ...

    def flush(self) -> None:
        """Make everything written so far durable, where the store has a place to keep it."""
        ...

    def close(self) -> None:
        """Flush and let go of files and connections."""
        ...


@runtime_checkable
class VectorReader(Protocol):
    """What a `VectorStore` may have beside: vectors by id.

    A search for scenes like those that were marked, or for scenes that differ, needs the vectors of some rows. A store
    without this is read through with `scan`.

    Examples:
        >>> from geovlm import NumpyStore
        >>> isinstance(NumpyStore(), VectorReader)
        True
    """

    def get_vectors(self, ids: Sequence[str]) -> list[Vectors | None]:
        """Vectors by id, each float32 `(dim,)`; `None` where there is no such row."""
        ...


Steps: TypeAlias = "tuple[Callable[[Record], Any], Callable[[Sequence[Record], Sequence[Any]], Sequence[Any]]]"
"""What is done with one record, in threads, and with the prepared records of one batch."""


@runtime_checkable
class Engine(Protocol):
    """Computes the batches of `embed` and `caption` elsewhere than in this process: `geovlm.distributed.RayEngine`.

    Examples:
        >>> from geovlm.distributed import RayEngine
        >>> engine: Engine = RayEngine(workers=2)  # for embed(…, engine=engine)
        >>> hasattr(engine, "map_batches")
        True
    """

    def map_batches(
        self,
        batches: Iterable[Sequence[Record]],
        *,
        model: Any,
        steps: Callable[[Any], Steps],
        stage: str,
        timeout: float | None,
    ) -> Iterator[tuple[Record, Any | Failure]]:
        """Yield each record with its result or its failure, in order.

        The results are those of this process: an `ImageError` is the failure of one record, and an error that is no
        fault of the images is raised here.

        Args:
            batches: Read lazily, no further ahead than keeps the workers busy. What is in a batch goes through the
                model together.
            model: An encoder or a captioner.
            steps: Called with the model where it has arrived.
            stage: Name of what the second step does, for failures.
            timeout: Seconds after which a first step that has not come back is a failure; `None` waits for ever.
        """
        ...
