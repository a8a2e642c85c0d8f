"""From a handful of labelled tiles to a threshold and probabilities that can be trusted, as far as so few can tell."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from attrs import asdict, evolve, field, frozen

from geovlm._files import must_exist, read_json, write_json
from geovlm._markup import lines, listing, panel
from geovlm._stream import map_batches
from geovlm._vectors import check_count
from geovlm._vocabulary import words_of
from geovlm.detection._fit import best_threshold, fit_platt, held_out_f1, threshold_interval
from geovlm.detection._grid import WINDOW_CELLS
from geovlm.detection._scorer import Scorer, make_scoring
from geovlm.detection._scoring import probability
from geovlm.errors import ConfigMismatch, UsageError
from geovlm.records import Failure, Record

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Encoder

__all__ = ["Calibration", "calibrate"]

# Below so many of a kind, one tile more or less moves everything.
FEW = 10


def _words(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


def _pair(value: Iterable[float]) -> tuple[float, float]:
    low, high = value
    return float(low), float(high)


@frozen(kw_only=True)
class Calibration:
    """How the scores of one query become probabilities, where to cut them, and how sure that is.

    A logit `x` of a scan becomes the probability `1 / (1 + exp(-(slope x + intercept)))`. All intervals are of 95 %.

    Args:
        query: The query it is for.
        slope: Above 1 where the scan was too cautious, below where it was too bold.
        slope_interval: Of the slope.
        intercept: What is added to the scaled logit.
        threshold: The probability with the best F1 on the labelled tiles.
        threshold_interval: Where it may as well be.
        f1: Of tiles that the threshold was not chosen on (cross-validation).
        f1_interval: From so few tiles, it may be anything in here.
        positives: Tiles that show it.
        negatives: Tiles that do not.
        notes: What to know before relying on it.
        settings: What the scan must share: encoder, phrases, and how scores are made.

    Examples:
        >>> calibration = Calibration(
        ...     query="a pond", slope=1.4, slope_interval=(1.1, 1.8), intercept=-0.3, threshold=0.62,
        ...     threshold_interval=(0.5, 0.7), f1=0.8, f1_interval=(0.7, 0.9), positives=40, negatives=160,
        ... )
        >>> calibration.threshold, calibration.positives
        (0.62, 40)
    """

    query: str
    slope: float
    slope_interval: tuple[float, float] = field(converter=_pair)
    intercept: float
    threshold: float
    threshold_interval: tuple[float, float] = field(converter=_pair)
    f1: float
    f1_interval: tuple[float, float] = field(converter=_pair)
    positives: int
    negatives: int
    notes: tuple[str, ...] = field(default=(), converter=_words)
    settings: Mapping[str, Any] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.slope > 0 or not 0 < self.threshold < 1:
            raise UsageError(
                f"A calibration has a slope above 0 and a threshold between 0 and 1, not {self.slope} and"
                f" {self.threshold}."
            )

    def __str__(self) -> str:
        low, high = self.threshold_interval
        worst, best = self.f1_interval
        told = (
            f"{self.query}: threshold {self.threshold:.2f} ({low:.2f} to {high:.2f}), F1 {self.f1:.2f} ({worst:.2f} to"
            f" {best:.2f}) on {self.positives} tiles with it and {self.negatives} without"
        )
        return "\n".join([told, *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        known = {
            "threshold": f"{self.threshold:.2f} ({self.threshold_interval[0]:.2f} to {self.threshold_interval[1]:.2f})",
            "F1": f"{self.f1:.2f} ({self.f1_interval[0]:.2f} to {self.f1_interval[1]:.2f})",
            "slope": f"{self.slope:.3g} ({self.slope_interval[0]:.3g} to {self.slope_interval[1]:.3g})",
            "tiles": f"{self.positives} with it, {self.negatives} without",
        }
        return panel(f"Calibration: {self.query}", listing(known), lines(self.notes))

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise unless a scan makes its scores as those were made that this was fitted to.

        Raises:
            ConfigMismatch: It does not; says what differs.
        """
        changed = [name for name in settings if settings[name] != self.settings.get(name)]
        if changed:
            told = "; ".join(f"{name}: {self.settings.get(name)!r} then, {settings[name]!r} now" for name in changed)
            raise ConfigMismatch(f"The calibration of {self.query!r} was made with other settings ({told}).")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as JSON.

        Raises:
            StorageError: The disk refused.
        """
        target = Path(path).expanduser()
        write_json(target, asdict(self))
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            UsageError: The file does not exist, or is something else.
            StorageError: It is not JSON.
        """
        source = Path(path).expanduser()
        must_exist(source)
        try:
            return cls(**read_json(source))
        except TypeError as error:
            raise UsageError(f"{source} is not a calibration that geovlm saved ({error}).") from error


def calibrate(
    tiles: Iterable[Record],
    query: str,
    encoder: Encoder,
    *,
    labels: Sequence[bool | int] | None = None,
    against: Sequence[str] | None = None,
    templates: str | Sequence[str] = "overhead",
    dense: bool | None = None,
    temperature: float | None = None,
    debias: float = 0.0,
    gate: float | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> Calibration:
    """Fit probabilities and a threshold for one query to labelled tiles.

    A tile's score is the largest in it, as a place's is in a scan. Probabilities come from a logistic curve (Platt,
    1999) with a weak prior that nothing needs to change, so that three tiles move little and three hundred decide. The
    threshold is the one with the best F1; how good it is, is told for tiles that it was not chosen on.

    Few tiles tell little: read the intervals and the notes. The share of tiles with the thing should be about what it
    is in the rasters that are scanned, or probabilities are too high or too low by as much.

    Args:
        tiles: Images as large on the ground as the windows of the scan, and at its resolution.
        query: What is looked for; as in `scan`.
        encoder: As in `scan`.
        labels: For each tile whether it shows the query anywhere; `None` compares the words of the records' labels.
        against: As in `scan`, as are `templates`, `dense`, `temperature`, `debias` and `gate`.
        templates: Prompt templates.
        dense: Whether patches are scored.
        temperature: What the cosines of patches are multiplied by.
        debias: How much of a window's own cosine is taken off those of its patches.
        gate: By how much a window without a sign of the query lowers its patches.
        batch_size: Tiles that go through the model together.
        seed: Of the resampling behind the threshold's interval.

    Raises:
        UsageError: Labels and tiles do not fit, or there is no tile of one kind.

    Examples:
        >>> from PIL import Image
        >>> from geovlm.testing import HashEncoder
        >>> colours = [*["red"] * 6, *["blue"] * 6]
        >>> tiles = [Record(id=f"{i}", image=Image.new("RGB", (8, 8), colour)) for i, colour in enumerate(colours)]
        >>> fitted = calibrate(tiles, "red", HashEncoder(), labels=[1] * 6 + [0] * 6, against=["blue"])
        >>> fitted.f1, fitted.positives, fitted.notes[0][:21]
        (1.0, 6, 'Only 6 tiles with it ')
    """
    if not isinstance(query, str):
        raise UsageError("calibrate fits one query at a time; call it for each.")
    check_count(batch_size, name="batch_size")
    scoring = make_scoring(encoder, dense=dense, templates=templates, temperature=temperature, debias=debias, gate=gate)
    scorer = Scorer(encoder, query, against, scoring)
    records = list(tiles)
    truth = _truth(records, labels, query)
    scores, failures = _scores(records, scorer, batch_size)
    known = np.isfinite(scores)
    fitted = _fit(query, scores[known], truth[known], seed)
    return evolve(fitted, notes=tuple(_notes(fitted, failures)), settings=scorer.settings(query))


def _truth(records: Sequence[Record], labels: Sequence[bool | int] | None, query: str) -> NDArray[np.bool_]:
    if not all(isinstance(record, Record) for record in records):
        raise UsageError("Tiles are records: Record(id=…, image=…), or a source such as FolderSource.")
    if labels is None:
        meant = {words_of(phrase) for phrase in query.split(",")}
        return np.array(
            [record.label is not None and words_of(record.label) in meant for record in records], dtype=bool
        )
    if len(labels) != len(records):
        raise UsageError(f"There are {len(records)} tiles and {len(labels)} labels; give one for each.")
    if not all(label in (0, 1) for label in labels):
        raise UsageError("Labels are 1 or True where a tile shows the query, and 0 or False where it does not.")
    return np.array(labels, dtype=bool)


def _scores(records: Sequence[Record], scorer: Scorer, batch_size: int) -> tuple[NDArray[np.float64], list[Failure]]:
    """The largest logit of each tile, NaN where it could not be read."""

    def prepare(record: Record) -> Any:
        return scorer.prepare(np.asarray(record.open()))

    def run(_: Sequence[Record], items: Sequence[Any]) -> list[float]:
        channels = scorer.score(items, scorer.patches or WINDOW_CELLS)
        return [float(scorer.logits(one).max()) for one in channels]

    outcomes = [
        outcome for _, outcome in map_batches(records, prepare=prepare, run=run, batch_size=batch_size, stage="score")
    ]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    return np.array([math.nan if isinstance(one, Failure) else one for one in outcomes]), failures


def _fit(query: str, scores: NDArray[np.float64], truth: NDArray[np.bool_], seed: int) -> Calibration:
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        raise UsageError(
            f"A calibration needs tiles that show {query!r:.60} and tiles that do not; of those that could be read"
            f" {positives} do and {negatives} do not."
        )
    slope, intercept, slope_interval = fit_platt(scores, truth)
    f1, f1_interval = held_out_f1(scores, truth)

    def chance(logit: float) -> float:
        # Far out, a probability rounds to 0 or 1, which cuts nothing.
        value = float(probability(np.float32(slope * logit + intercept)))
        return min(max(value, 1e-6), 1 - 1e-6)

    low, high = threshold_interval(scores, truth, seed=seed)
    return Calibration(
        query=query,
        slope=slope,
        slope_interval=slope_interval,
        intercept=intercept,
        threshold=chance(best_threshold(scores, truth)),
        threshold_interval=(chance(low), chance(high)),
        f1=f1,
        f1_interval=f1_interval,
        positives=positives,
        negatives=negatives,
    )


def _notes(fitted: Calibration, failures: Sequence[Failure]) -> Iterator[str]:
    for count, kind in ((fitted.positives, "with"), (fitted.negatives, "without")):
        if count < FEW:
            yield f"Only {count} tiles {kind} it were labelled: the threshold is a guess within its interval."
    if fitted.f1_interval[0] < 0.5:
        yield f"F1 may be as low as {fitted.f1_interval[0]:.2f}; label more tiles before relying on it."
    if failures:
        yield f"{len(failures)} tiles could not be read and were left out; the first: {failures[0]}"
