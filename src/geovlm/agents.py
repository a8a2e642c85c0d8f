"""Five agents, each a thin worker over one stage, and the workflow that runs them in one directory.

```
images ─► CaptionAgent ─► DataAgent ─► TrainingAgent ─► EmbeddingAgent ─► QueryAgent ─► pictures
           captions        train | val   a tuned encoder,  vectors in a       ranked
                                         if it is better   store              scenes
```

A workflow can be stopped and repeated at any time. Each step works in a directory that is named for its settings and
for the steps before it, so that what is finished is skipped and what changed is made again with all that rests on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from attrs import asdict, evolve, field, frozen

from geovlm._files import digest, locked, read_json, write_json
from geovlm._html import Section, results_page
from geovlm._markup import lines, panel, table
from geovlm._parts import read_manifest
from geovlm.captioning import caption
from geovlm.dataset import Dataset
from geovlm.embedding import Embeddings, embed
from geovlm.errors import UsageError
from geovlm.index import Hits, Index
from geovlm.protocols import Encoder
from geovlm.records import Failure, Report
from geovlm.stores.numpy import NumpyStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from geovlm.protocols import Captioner, VectorStore, Where
    from geovlm.records import Record
    from geovlm.training import TrainingConfig, TrainingResult

__all__ = [
    "CaptionAgent",
    "DataAgent",
    "EmbeddingAgent",
    "QueryAgent",
    "Step",
    "TrainingAgent",
    "Workflow",
    "WorkflowResult",
]

FAILURES_SHOWN = 10


@frozen(kw_only=True)
class CaptionAgent:
    """Describes images.

    Args:
        captioner: What writes the captions.
        batch_size: Images a batch.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.testing import EchoCaptioner
        >>> scenes = [Record(id="a.jpg", image=Image.new("RGB", (8, 8)), label="Beach")]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     pairs = CaptionAgent(captioner=EchoCaptioner()).run(scenes, out=out)
        ...     print([record.captions for record in pairs])
        [('a scene of Beach called a.jpg',)]
    """

    captioner: Captioner
    batch_size: int = 16

    def run(self, source: Iterable[Record], *, out: str | os.PathLike[str], progress: bool | None = None) -> Dataset:
        """Caption what is not captioned yet; see `geovlm.caption`."""
        return caption(source, self.captioner, out=out, batch_size=self.batch_size, progress=progress)


@frozen(kw_only=True)
class DataAgent:
    """Turns pairs into a training and a validation set.

    Args:
        val: Share of the pairs held out, more than 0 and less than 1.
        min_words: Captions of fewer words are dropped; a pair that loses all its captions is dropped and counted.
        seed: Of the split, which is stratified by label where there are labels.

    Examples:
        >>> import tempfile
        >>> from geovlm import Record
        >>> records = [Record(id=str(n), image=f"{n}.jpg", captions=f"field {n}") for n in range(10)]
        >>> pairs = Dataset.from_records(records)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     train, val, report = DataAgent(val=0.2).run(pairs, out=out)
        >>> len(train), len(val)
        (8, 2)
    """

    val: float = field(default=0.1)
    min_words: int = 2
    seed: int = 0

    @val.validator
    def _check_val(self, _: object, value: float) -> None:
        if not 0 < value < 1:
            raise UsageError(f"val is the share of pairs held out, between 0 and 1, not {value}.")

    def run(self, pairs: Dataset, *, out: str | os.PathLike[str]) -> tuple[Dataset, Dataset, Report]:
        """Clean and split; the two sets are saved as `train` and `val` under `out`.

        Raises:
            UsageError: Too few pairs are left to hold some out.
        """
        folder = Path(out)
        cleaned = [self._clean(record) for record in pairs]
        kept = [record for record in cleaned if record.captions]
        if len(kept) < 2:
            raise UsageError(
                f"{len(kept)} of {len(cleaned)} pairs have a caption of at least {self.min_words} words; training needs"
                " two or more. Look at the captions, or caption with another model."
            )
        train, val = Dataset.from_records(kept).split(val=self.val, seed=self.seed)
        # Validation last: its manifest marks the step as finished.
        train.save(folder / "train")
        val.save(folder / "val")
        reason = f"no caption of at least {self.min_words} words"
        lost = [Failure(id=r.id, uri=r.uri, stage="data", reason=reason) for r in cleaned if not r.captions]
        return train, val, Report(stage="data", done=len(kept), failures=tuple(lost))

    def _clean(self, record: Record) -> Record:
        return record.with_captions(c for c in record.captions if len(c.split()) >= self.min_words)


@frozen(kw_only=True)
class TrainingAgent:
    """Fine-tunes an encoder on pairs.

    Args:
        config: How; `None` for the defaults of `TrainingConfig`.

    Examples:
        >>> from geovlm import TrainingConfig
        >>> TrainingAgent(config=TrainingConfig(epochs=1, lora_rank=8)).config.lora_rank
        8
    """

    config: TrainingConfig | None = None

    def run(
        self,
        encoder: Encoder,
        train: Dataset,
        val: Dataset,
        *,
        out: str | os.PathLike[str],
        progress: bool | None = None,
    ) -> TrainingResult:
        """Train, or go on with training; see `geovlm.ContrastiveTrainer`."""
        # Here, because it brings torch, which a workflow without training does not need.
        from geovlm.training import ContrastiveTrainer

        return ContrastiveTrainer(encoder, self.config).fit(train, val=val, out=out, progress=progress)


@frozen(kw_only=True)
class EmbeddingAgent:
    """Embeds images and fills a store.

    Args:
        store: Where the vectors go; `None` for a `NumpyStore` in memory.
        batch_size: Images a batch.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.testing import HashEncoder
        >>> scenes = [Record(id=name, image=Image.new("RGB", (8, 8), name)) for name in ("red", "blue")]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     vectors, index = EmbeddingAgent().run(scenes, HashEncoder(), out=out)
        >>> index.search("something blue", limit=1)[0].id
        'blue'
    """

    store: VectorStore | None = None
    batch_size: int = 32

    def run(
        self,
        source: Iterable[Record],
        encoder: Encoder,
        *,
        out: str | os.PathLike[str],
        progress: bool | None = None,
    ) -> tuple[Embeddings, Index]:
        """Embed what is not embedded yet, then make all of it searchable; see `geovlm.embed`."""
        vectors = embed(source, encoder, out=out, batch_size=self.batch_size, progress=progress)
        index = Index(encoder, NumpyStore() if self.store is None else self.store)
        index.add(vectors)
        return vectors, index


@frozen(kw_only=True)
class QueryAgent:
    """Answers questions in words with pictures.

    Args:
        index: What to search.
        limit: Hits a query.
        pairs: Captioned images; the captions of those that are found are shown below the pictures.

    Examples:
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.testing import HashEncoder
        >>> index = Index(HashEncoder())
        >>> report = index.add([Record(id=name, image=Image.new("RGB", (8, 8), name)) for name in ("red", "blue")])
        >>> [hit.id for hit in QueryAgent(index=index, limit=1).ask("red roofs")]
        ['red']
    """

    index: Index
    limit: int = 12
    pairs: Dataset | None = None

    def ask(self, query: str, *, where: Where | None = None) -> Hits:
        """The scenes that fit a description best; see `geovlm.Index.search`."""
        hits = self.index.search(query, limit=self.limit, where=where)
        return hits if self.pairs is None else _with_captions(hits, self.pairs)

    def run(
        self, queries: Sequence[str], *, out: str | os.PathLike[str], title: str = "Results", lead: str = ""
    ) -> list[Hits]:
        """Ask several and write one page, `lead` at its top, with a row of pictures for each."""
        answers = [self.ask(query) for query in queries]
        sections = [Section(heading=query, hits=hits) for query, hits in zip(queries, answers, strict=True)]
        results_page(title, sections, lead=lead, out=Path(out))
        return answers


@frozen(kw_only=True)
class Step:
    """What became of one step of a workflow.

    Args:
        name: Which step.
        path: Its directory.
        report: What became of its inputs.
        note: What else there is to say, in words.

    Examples:
        >>> from geovlm import Report
        >>> step = Step(name="embed", path=Path("run/vectors"), report=Report(stage="embed", done=16))
        >>> step.report.done
        16
    """

    name: str
    path: Path
    report: Report
    note: str = ""

    def __str__(self) -> str:
        text = (
            f"{self.name:<9} {self.report.done:>7} done {self.report.skipped:>7} skipped {self.report.failed:>6} lost"
        )
        return f"{text}  {self.note}".rstrip()


@frozen(kw_only=True)
class WorkflowResult:
    """What a workflow leaves behind.

    Args:
        steps: What became of each step, in order.
        pairs: The captioned images.
        training: How training went; `None` without a `TrainingAgent`.
        encoder: The tuned encoder if it beat its base on held-out pairs, else the base.
        embeddings: The vectors on disk.
        index: Ready to search.
        page: The HTML page with the report and the answers.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.testing import EchoCaptioner, HashEncoder
        >>> scenes = [Record(id=f"{n}.jpg", image=Image.new("RGB", (8, 8), (n, 90, 0)), label="Park") for n in range(6)]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     work = Workflow(out=out, encoder=HashEncoder(), caption=CaptionAgent(captioner=EchoCaptioner()))
        ...     result = work.run(scenes, queries=["a park"])
        ...     print([step.name for step in result.steps], len(result.embeddings), result.page.name)
        ['captions', 'embed'] 6 report.html
    """

    steps: tuple[Step, ...]
    pairs: Dataset
    training: TrainingResult | None
    encoder: Encoder
    embeddings: Embeddings
    index: Index
    page: Path

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every input that was lost, with the stage that lost it."""
        return tuple(failure for step in self.steps for failure in step.report.failures)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.steps), *(f"  {failure}" for failure in self.failures[:FAILURES_SHOWN])])

    def _repr_html_(self) -> str:
        rows = [(s.name, s.report.done, s.report.skipped, s.report.failed, s.note) for s in self.steps]
        steps = table(("step", "done", "skipped", "lost", ""), rows)
        lost = [(failure.uri or failure.id, failure.stage, failure.reason) for failure in self.failures]
        losses = table(("lost", "stage", "reason"), lost[:FAILURES_SHOWN], total=len(lost))
        return panel("Workflow", steps, losses, lines([f"Pictures and report: {self.page}"]))


@frozen(kw_only=True)
class Workflow:
    """Caption, split, fine-tune, embed and query, in one directory that remembers.

    Repeating the same call skips what is finished. After a kill it goes on where it stopped and ends with the same
    result. If the folder of images has grown, only the new ones are captioned and embedded; the encoder is trained
    again only if `run(…, retrain=True)` asks for it. If a setting has changed, its step and those after it are made
    anew, in new directories beside the old.

    Args:
        out: The directory.
        encoder: What embeds images and texts, and what training starts from.
        caption: Writes captions; `None` if the source brings its own.
        data: Splits the pairs.
        training: Fine-tunes; `None` to use the encoder as it is.
        embedding: Embeds and fills the store.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import Record, TagCaptioner
        >>> from geovlm.testing import HashEncoder
        >>> scenes = [Record(id=c, image=Image.new("RGB", (8, 8), c), label=c) for c in ("red", "blue", "green", "tan")]
        >>> agent = CaptionAgent(captioner=TagCaptioner())
        >>> flow = Workflow(out=tempfile.mkdtemp(), encoder=HashEncoder(), caption=agent)
        >>> result = flow.run(scenes, queries=["something blue"])
        >>> print(result.steps[0])
        captions        4 done       0 skipped      0 lost
    """

    out: Path = field(converter=Path)
    encoder: Encoder = field()
    caption: CaptionAgent | None = None
    data: DataAgent = field(factory=DataAgent)
    training: TrainingAgent | None = None
    embedding: EmbeddingAgent = field(factory=EmbeddingAgent)

    @encoder.validator
    def _check_encoder(self, _: object, value: object) -> None:
        if not isinstance(value, Encoder):
            raise UsageError(f"A Workflow needs an encoder, such as load_encoder({value!r:.80}) gives.")

    def run(
        self,
        source: Iterable[Record],
        *,
        queries: Sequence[str] = (),
        retrain: bool = False,
        progress: bool | None = None,
    ) -> WorkflowResult:
        """Do what is not done yet.

        Args:
            source: The images; read more than once, so a generator is first made a list.
            queries: What to look for; the answers go on the page.
            retrain: Split and train again with all pairs there are now.
            progress: Show bars; `None` decides by where the output goes.

        Raises:
            RunLocked: Another workflow is running in this directory.
            UsageError: The source is empty, or too few images have captions to train on.
        """
        images = list(source) if isinstance(source, Iterator) else source
        with locked(self.out):
            pairs, captioned = self._captions(images, progress)
            if captioned.report.total == 0:
                raise UsageError("The source has no images: is the path right, or was a generator read before?")
            steps = [captioned]
            encoder, result = self.encoder, None
            if self.training is not None:
                train, val, split = self._split(pairs, captioned, retrain)
                result, tuned = self._train(train, val, split, progress)
                encoder = result.encoder if result.improved else encoder
                steps += [split, tuned]
            vectors, index, embedded = self._embed(images, encoder, progress)
            steps.append(embedded)
            page = self._answer(QueryAgent(index=index, pairs=pairs), queries, steps, result)
        return WorkflowResult(
            steps=tuple(steps),
            pairs=pairs,
            training=result,
            encoder=encoder,
            embeddings=vectors,
            index=index,
            page=page,
        )

    def _captions(self, source: Iterable[Record], progress: bool | None) -> tuple[Dataset, Step]:
        if self.caption is None:
            out = self.out / "captions-given"
            pairs = Dataset.write(source, out, progress=progress)
        else:
            out = self.out / f"captions-{digest(self.caption.captioner.fingerprint)}"
            pairs = self.caption.run(source, out=out, progress=progress)
        return pairs, Step(name="captions", path=out, report=pairs.report)

    def _split(self, pairs: Dataset, captioned: Step, retrain: bool) -> tuple[Dataset, Dataset, Step]:
        """The split in use for these settings, or a new one of the pairs there are now.

        Which one is in use is remembered, because pairs that are added later must not change the split, and with it
        the encoder and every vector, behind the user's back.
        """
        slot = digest([captioned.path.name, asdict(self.data)])
        chosen = self._remembered("splits")
        out = self.out / chosen.get(slot, "-")
        if retrain or not _is_complete(out / "val"):
            out = self.out / f"data-{digest([slot, pairs.fingerprint])}"
        if _is_complete(out / "val"):
            train, val = Dataset.open(out / "train"), Dataset.open(out / "val")
            report = Report(stage="data", skipped=len(train) + len(val))
        else:
            train, val, report = self.data.run(pairs, out=out)
        self._remember("splits", {**chosen, slot: out.name})
        later = len(pairs) - report.total
        note = f"{later} pairs came later; retrain=True trains with them" if later > 0 else ""
        return train, val, Step(name="data", path=out, report=report, note=note)

    def _train(self, train: Dataset, val: Dataset, split: Step, progress: bool | None) -> tuple[TrainingResult, Step]:
        assert self.training is not None
        settings = None if self.training.config is None else self.training.config.for_manifest()
        out = self.out / f"training-{digest([split.path.name, self.encoder.fingerprint, settings])}"
        result = self.training.run(self.encoder, train, val, out=out, progress=progress)
        note = "tuned encoder kept" if result.improved else "no better than its base on held-out pairs: base kept"
        return result, Step(name="training", path=out, report=result.data, note=note)

    def _embed(
        self, source: Iterable[Record], encoder: Encoder, progress: bool | None
    ) -> tuple[Embeddings, Index, Step]:
        out = self.out / f"embeddings-{encoder.fingerprint}"
        vectors, index = self.embedding.run(source, encoder, out=out, progress=progress)
        return vectors, index, Step(name="embed", path=out, report=vectors.report)

    def _answer(
        self, agent: QueryAgent, queries: Sequence[str], steps: Sequence[Step], training: TrainingResult | None
    ) -> Path:
        page = self.out / "report.html"
        lines = [str(step) for step in steps]
        if training is not None:
            lines += ["", str(training.report)]
        agent.run(queries, out=page, title="What was found", lead="\n".join(lines))
        summary = [{**asdict(step), "path": step.path.name} for step in steps]
        write_json(self.out / "report.json", summary)
        return page

    def _remembered(self, what: str) -> dict[str, str]:
        path = self.out / "workflow.json"
        found: dict[str, str] = read_json(path).get(what, {}) if path.exists() else {}
        return found

    def _remember(self, what: str, value: dict[str, str]) -> None:
        write_json(self.out / "workflow.json", {what: value})


def _with_captions(hits: Hits, pairs: Dataset) -> Hits:
    rows = pairs.table.filter(pc.is_in(pairs.table["id"], pa.array([hit.id for hit in hits], pa.string())))
    captions = dict(zip(rows["id"].to_pylist(), rows["captions"].to_pylist(), strict=True))
    items = [evolve(hit, metadata={**hit.metadata, "captions": captions.get(hit.id, [])}) for hit in hits]
    return Hits(tuple(items), query=hits.query)


def _is_complete(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and manifest.get("state") == "complete"
