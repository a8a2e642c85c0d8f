"""What a benchmark brought: figures with their intervals, beside the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict, field, fields, frozen

from geovlm._files import must_exist, read_json, write_json
from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation._bench_scores import mean_interval
from geovlm.evaluation.benchmark_sets import EIGHT_SETS, SEVEN_SETS, find_set

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["BenchmarkMean", "BenchmarkResult", "BenchmarkScore", "Method"]

Method = Literal["inductive", "transductive"]
KIND = "benchmark result"


def _tuple(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


@frozen(kw_only=True)
class BenchmarkScore:
    """The figure for one data set.

    Args:
        name: The data set.
        task: `"classification"` (top-1 accuracy) or `"retrieval"` (mean of recall at 1, 5 and 10, both directions).
        value: The figure, from 0 to 1, over all inputs: one that could not be read is wrong.
        low: Lower end of its 95 % interval.
        high: Upper end.
        images: How many images were asked for.
        queries: How many answers the figure is a mean of: images, for retrieval images with captions and captions.
        coverage: Share of the images that could be read.
        prompts: What class names or captions were put into.
        classes: The classes in their order.
        details: Other figures by name: macro accuracy and top-5, or recalls by direction and cut-off.
        layout: Where the images come from, in words.
        comparable: Whether the published figures are on the same images, as far as can be told.
        notes: What must be known to read the figure.
        failures: The first inputs that failed, and why.

    Examples:
        >>> score = BenchmarkScore(
        ...     name="fields", task="classification", value=0.5, low=0.4, high=0.6, images=90, queries=90, coverage=1.0,
        ...     prompts=["a satellite photo of {}."],
        ... )
        >>> score.interval
        (0.4, 0.6)
    """

    name: str
    task: Literal["classification", "retrieval"]
    value: float
    low: float
    high: float
    images: int
    queries: int
    coverage: float
    prompts: tuple[str, ...] = field(converter=_tuple)
    classes: tuple[str, ...] = field(default=(), converter=_tuple, repr=False)
    details: Mapping[str, float] = field(factory=dict, repr=False)
    layout: str = ""
    comparable: bool = False
    notes: tuple[str, ...] = field(default=(), converter=_tuple)
    failures: tuple[str, ...] = field(default=(), converter=_tuple, repr=False)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval: Wilson's for accuracies, a bootstrap over images for mean recall."""
        return self.low, self.high

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BenchmarkScore:
        """What `to_dict` gave.

        Raises:
            UsageError: It is something else.
        """
        known = {one.name for one in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in known})
        except TypeError as error:
            raise UsageError(f"This is no score of a benchmark: {error}.") from error


@frozen(kw_only=True)
class BenchmarkMean:
    """The mean over data sets.

    Args:
        value: The mean, from 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        over: The data sets that it is over.
        missing: Those of the usual ones that were not measured: such a mean is no figure to publish as the usual one.

    Examples:
        >>> BenchmarkMean(value=0.6, low=0.55, high=0.65, over=("AID", "EuroSAT")).value
        0.6
    """

    value: float
    low: float
    high: float
    over: tuple[str, ...]
    missing: tuple[str, ...] = ()


def _scores(value: Iterable[BenchmarkScore]) -> tuple[BenchmarkScore, ...]:
    return tuple(value)


@frozen(kw_only=True)
class BenchmarkResult:
    """What `benchmark` brought.

    Args:
        encoder: The encoder's name.
        fingerprint: The encoder's fingerprint.
        method: How images were classified.
        scores: One a data set, in order.
        architecture: The image tower, by which published rows are chosen; `None` if it could not be told.
        missing: Data sets of the benchmark that were not found, with the reason and where to get them.
        versions: Versions of the libraries that computed.

    Examples:
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.evaluation import benchmark
        >>> from geovlm.testing import HashEncoder
        >>> fields = [Record(id=c, image=Image.new("RGB", (8, 8), c), label=c) for c in ("red", "green", "blue")]
        >>> result = benchmark(HashEncoder(), {"fields": fields})
        >>> result["fields"].value, result.mean_of_seven is None
        (1.0, True)
    """

    encoder: str
    fingerprint: str
    method: Method = "inductive"
    scores: tuple[BenchmarkScore, ...] = field(converter=_scores)
    architecture: str | None = None
    missing: Mapping[str, str] = field(factory=dict, repr=False)
    versions: Mapping[str, str] = field(factory=dict, repr=False)

    def __getitem__(self, name: str) -> BenchmarkScore:
        known = find_set(name)
        for score in self.scores:
            if score.name in (name, known and known.name):
                return score
        raise UnknownName("measured data set", name, [score.name for score in self.scores])

    def mean(self, names: Iterable[str] = SEVEN_SETS) -> BenchmarkMean | None:
        """The plain mean over data sets, with an interval (Zou and Donner, 2008) from those of the parts.

        Args:
            names: The sets; the seven of the SkyScript paper if not given. `EIGHT_SETS` has its own set too, and the
                two means must not be compared.

        Returns:
            The mean over those that were measured, with the names of those that were not; `None` if none was.
        """
        wanted = tuple(names)
        measured = {score.name: score for score in self.scores}
        over = [measured[name] for name in wanted if name in measured]
        if not over:
            return None
        low, high = mean_interval([score.value for score in over], [score.interval for score in over])
        return BenchmarkMean(
            value=sum(score.value for score in over) / len(over),
            low=low,
            high=high,
            over=tuple(score.name for score in over),
            missing=tuple(name for name in wanted if name not in measured),
        )

    @property
    def mean_of_seven(self) -> BenchmarkMean | None:
        """The mean over the seven sets of the SkyScript paper, as far as they were measured."""
        return self.mean(SEVEN_SETS)

    @property
    def mean_of_eight(self) -> BenchmarkMean | None:
        """The mean over those and SkyScript's own set, as FarSLIP and DOFA-CLIP take it."""
        return self.mean(EIGHT_SETS)

    def to_pandas(self) -> pd.DataFrame:
        """One row a data set: the figure, its interval, how many images, coverage, and all that is in `details`."""
        import pandas as pd

        rows = [
            {
                "data set": score.name,
                "metric": "top-1" if score.task == "classification" else "mean recall",
                "score": score.value,
                "low": score.low,
                "high": score.high,
                "images": score.images,
                "coverage": score.coverage,
                "comparable": score.comparable,
                **score.details,
            }
            for score in self.scores
        ]
        return pd.DataFrame(rows).set_index("data set") if rows else pd.DataFrame()

    def beside_published(self, architectures: Sequence[str] | None = None) -> pd.DataFrame:
        """The figures in percent, one row a model: first the measured one, then the published ones.

        Args:
            architectures: Which published rows; those of the encoder's own if not given, all if that is not known.
        """
        from geovlm.evaluation._bench_table import beside_published

        return beside_published(self, architectures)

    def differences(self) -> pd.DataFrame:
        """The published figures of the very same weights, and where the measured interval does not hold them.

        One row a data set and paper: `measured`, `low`, `high`, `published`, all in percent, whether it is `outside`,
        and whether both are on the same images (`comparable`). Empty for encoders that no paper measured.
        """
        from geovlm.evaluation._bench_table import differences

        return differences(self)

    def to_markdown(self, architectures: Sequence[str] | None = None) -> str:
        """The tables of a report: figures beside published ones, what they were measured on, what is missing.

        Args:
            architectures: As for `beside_published`.
        """
        from geovlm.evaluation._bench_table import to_markdown

        return to_markdown(self, architectures)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """All of it as JSON text, written to a file as well if one is given.

        Raises:
            StorageError: The file cannot be written.
        """
        value = {"kind": KIND, **asdict(self)}
        if path is not None:
            write_json(Path(path).expanduser(), value)
        return json.dumps(value, ensure_ascii=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BenchmarkResult:
        """Read what `to_json` or `benchmark(…, out=…)` wrote: the file, or the folder `out`.

        Raises:
            UsageError: There is no result of a benchmark, or the folder has one of each method.
        """
        value = read_json(_file(Path(path).expanduser()))
        if not isinstance(value, dict) or value.pop("kind", None) != KIND:
            raise UsageError(f"{path} holds no result of a benchmark.")
        scores = [BenchmarkScore.from_dict(score) for score in value.pop("scores")]
        return cls(**value, scores=scores)

    def __str__(self) -> str:
        from geovlm.evaluation._bench_table import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        from geovlm.evaluation._bench_table import to_html

        return to_html(self)


def _file(path: Path) -> Path:
    must_exist(path)
    if not path.is_dir():
        return path
    found = sorted(path.glob("result-*.json"))
    if len(found) != 1:
        seen = " and ".join(one.name for one in found) or "no result; benchmark(…, out=…) writes one when it is done"
        raise UsageError(f"{path} holds {seen}." + (" Give the file." if found else ""))
    return found[0]
