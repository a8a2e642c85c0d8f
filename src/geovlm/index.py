"""`Index`: an encoder and a store together, to be searched by text, by picture or by vector."""

from __future__ import annotations

import os
from itertools import islice
from operator import length_hint
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from geovlm import _progress
from geovlm._hits import Hit, Hits
from geovlm._markup import guarded, listing, panel
from geovlm._parts import IdSet
from geovlm._places import Place, Places
from geovlm._search.answer import answer
from geovlm._search.area import narrowed
from geovlm._search.diversity import candidates, check_diversity
from geovlm._search.question import Query, Reader
from geovlm._search.texts import TextVectors
from geovlm._tables import to_metadata
from geovlm._vectors import check_count
from geovlm.embedding import Embeddings, embed
from geovlm.errors import ConfigMismatch, ImageError, UsageError
from geovlm.protocols import Encoder, VectorStore
from geovlm.records import Failure, Record, Report
from geovlm.stores.numpy import NumpyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from geovlm._search.question import Examples
    from geovlm.protocols import Where

__all__ = ["Hit", "Hits", "Index", "Place", "Places", "Query"]

# Records embedded between two writes to the store: enough that the pipeline seldom runs dry, little enough to hold.
RECORDS_A_WRITE = 4096


class Index:
    """Images to be searched by what they show.

    Many threads may search at once: texts that are asked meanwhile are encoded together, and vectors of texts are kept
    for the next time.

    Args:
        encoder: What embeds images and queries; if it is trained further, make a new index.
        store: Where the vectors are kept; a new `NumpyStore` in memory if none is given.

    Raises:
        ConfigMismatch: The store holds another encoder's vectors.

    Examples:
        >>> from PIL import Image
        >>> from geovlm.testing import HashEncoder
        >>> index = Index(HashEncoder())
        >>> scenes = [Record(id=c, image=Image.new("RGB", (8, 8), c), meta={"year": 2024}) for c in ("red", "blue")]
        >>> print(index.add(scenes))
        index: 2 done, 0 skipped, 0 failed of 2
        >>> index.search("something blue", limit=1, where={"year": {"$gte": 2020}})[0].id
        'blue'
    """

    def __init__(self, encoder: Encoder, store: VectorStore | None = None) -> None:
        if not isinstance(encoder, Encoder):
            raise UsageError(f"An Index needs an encoder, such as load_encoder({encoder!r:.80}) gives.")
        if store is not None and not isinstance(store, VectorStore):
            raise UsageError(f"An Index needs a store, such as NumpyStore(), not {store!r:.80}.")
        self.encoder = encoder
        self.store: VectorStore = NumpyStore() if store is None else store
        self.store.bind(dim=encoder.dim, fingerprint=encoder.fingerprint)
        self._texts = TextVectors()

    def __len__(self) -> int:
        return self.store.count()

    def __repr__(self) -> str:
        return f"Index({self.encoder.name!r}, {self.store!r})"

    @guarded
    def _repr_html_(self) -> str:
        known = {
            "encoder": self.encoder.name,
            "fingerprint": self.encoder.fingerprint,
            "numbers a vector": self.encoder.dim,
            "store": repr(self.store),
        }
        return panel("Index", listing(known))

    def add(
        self,
        source: Iterable[Record] | Embeddings,
        *,
        batch_size: int = 64,
        on_error: Literal["skip", "raise"] = "skip",
        progress: bool | None = None,
    ) -> Report:
        """Embed images and keep their vectors, or keep vectors that `embed` made; an id that is there is replaced.

        Records are embedded and written a few thousand at a time, so that memory does not grow with their number. For
        a large archive call `embed` with `out=…` first: that can be stopped and go on.

        Args:
            source: Images, or finished embeddings.
            batch_size: Images a batch of the encoder.
            on_error: `"raise"` stops at the first image that cannot be used.
            progress: Show a bar; `None` decides by where the output goes.

        Returns:
            What became of every input; for embeddings, the failures are those of `embed`.

        Raises:
            ConfigMismatch: The embeddings are another encoder's.
            UsageError: The source does not yield records.
            ImageError: With `on_error="raise"`, the first failure.
        """
        if isinstance(source, str | os.PathLike):
            raise UsageError(f"add takes a source of images; for a folder, FolderSource({os.fspath(source)!r}).")
        started = monotonic()
        if isinstance(source, Embeddings):
            done, failures = self._add_embeddings(source, progress), list(source.report.failures)
        else:
            done, failures = self._add_records(source, batch_size, on_error, progress)
        return Report(stage="index", done=done, failures=tuple(failures), seconds=monotonic() - started)

    def _add_embeddings(self, embeddings: Embeddings, progress: bool | None) -> int:
        if embeddings.encoder_fingerprint != self.encoder.fingerprint:
            raise ConfigMismatch(
                f"These embeddings were made by the encoder {embeddings.encoder_fingerprint}, and this index searches"
                f" with {self.encoder.fingerprint} ({self.encoder.name}). Make the index with that encoder, or embed"
                " the images again with this one, in another directory."
            )
        with _progress.bar(progress, total=len(embeddings), desc="index", unit="img") as bar:
            return self._write(embeddings, bar.update)

    def _write(self, embeddings: Embeddings, advance: Callable[[int], object]) -> int:
        done = 0
        for ids, vectors, records in embeddings.batches():
            self.store.upsert(ids, vectors, [to_metadata(record) for record in records])
            done += len(ids)
            advance(len(ids))
        return done

    def _add_records(
        self,
        source: Iterable[Record],
        batch_size: int,
        on_error: Literal["skip", "raise"],
        progress: bool | None,
    ) -> tuple[int, list[Failure]]:
        done, failures = 0, list[Failure]()
        with _progress.bar(progress, total=length_hint(source) or None, desc="index", unit="img") as bar:
            records = _unlike_before(source, failures, on_error)
            while chunk := list(islice(records, RECORDS_A_WRITE)):
                made = embed(chunk, self.encoder, batch_size=batch_size, on_error=on_error, progress=False)
                done += self._write(made, bar.update)
                failures += made.report.failures
                bar.update(made.report.failed)
        return done, failures

    def search(
        self,
        query: Query | None = None,
        *,
        limit: int = 10,
        where: Where | None = None,
        within: Any = None,
        templates: str | Sequence[str] | None = None,
        more: Examples = (),
        less: Examples = (),
        diversity: float = 0.0,
        against: bool | str | Sequence[str] = False,
    ) -> Hits:
        """Find the scenes that fit best.

        Args:
            query: A text; a `Path`, a PIL image, a `Record` or a `Hit` for scenes like that one; a vector of shape
                `(dim,)`. It may be left out if there is `more`.
            limit: How many hits at most.
            where: A filter on metadata, such as `{"year": {"$gte": 2024}}`; see `geovlm.filters`.
            within: Only scenes whose footprint lies in this area: a `Footprint`, `(west, south, east, north)` in
                degrees, or a polygon of shapely or in GeoJSON. Those that only touch an area are found by
                `where={"footprint": {"$intersects": area}}`.
            templates: Names of sets in `geovlm.prompts.TEMPLATES`, or templates with one `{}` each, into which the
                query is put; what is searched for is the mean of them all.
            more: Relevance feedback: scenes that are right. Each is an id in the store or a hit, the path of an image,
                an image or a record, or a vector; one of them or several.
            less: Scenes that are wrong, in the same way. Without `more`, scenes near the query are looked up first, to
                tell what sets the wrong ones apart.
            diversity: 0 for the nearest scenes, up to 1 for scenes that differ from each other: maximal marginal
                relevance among five times as many as asked for, 1,000 at most. The hits come in the order in which
                they were chosen, the nearest first.
            against: What else a scene may show, one text or several; `True` for common land covers
                (`geovlm.prompts.contrast`). Each hit is then told how probable the query is among these texts; which
                hits there are, and their order, stays the same.

        Returns:
            The hits, best first; none if the index is empty or nothing passes the filter. With feedback their scores
            are cosines with the moved query.

        Raises:
            UsageError: An argument cannot be right, or an example is not in the store.
            UnknownName: No set of templates has that name.
            ImageError: An image cannot be read.
            MissingExtra: `within` is a polygon, and shapely is not installed.

        Examples:
            >>> from PIL import Image
            >>> from geovlm.testing import HashEncoder
            >>> index, colours = Index(HashEncoder()), ("red", "green", "blue")
            >>> report = index.add(Record(id=name, image=Image.new("RGB", (8, 8), name)) for name in colours)
            >>> [hit.id for hit in index.search("red", more="blue", less="green")]
            ['red', 'blue', 'green']
            >>> hit = index.search("something blue", against=["something red", "something green"])[0]
            >>> hit.id, round(hit.probability, 3)
            ('blue', 1.0)
        """
        count, share = check_count(limit, name="limit"), check_diversity(diversity)
        rows = narrowed(where, within)
        reader = Reader(self.encoder, self.store, self._texts)
        question = reader.read(query, templates=templates, more=more, less=less, against=against)
        found = self.store.query(question.vector[None, :], candidates(count, share), where=rows)[0]
        return answer(self.store, question, found, limit=count, diversity=share)


def _unlike_before(
    source: Iterable[Record], failures: list[Failure], on_error: Literal["skip", "raise"]
) -> Iterator[Record]:
    """Records whose id has not come before; the others are failures, as they are in `embed`."""
    seen = IdSet()
    for record in source:
        if isinstance(record, Record) and record.id in seen:
            failure = Failure(id=record.id, uri=record.uri, stage="read", reason="another input has the same id")
            if on_error == "raise":
                raise ImageError(f"{failure.stage}: {failure.reason}", uri=record.uri or record.id)
            failures.append(failure)
            continue
        if isinstance(record, Record):
            seen.add(record.id)
        yield record
