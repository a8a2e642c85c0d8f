"""Fits for few labels: a logistic curve with a weak prior, a threshold, and honest intervals. Pure functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scores: TypeAlias = "NDArray[np.float64]"
Truth: TypeAlias = "NDArray[np.bool_]"

Z95 = 1.959964
# Standard deviations of the prior of the curve: its slope within a factor of e, its intercept within 3 logits.
PRIOR = np.array([1.0, 3.0])
RESAMPLES = 500
FOLDS = 20


def fit_platt(scores: Scores, truth: Truth) -> tuple[float, float, tuple[float, float]]:
    """Slope, intercept and the slope's 95 % interval of the logistic curve with the largest posterior.

    The prior says that scores are logits already: log-normal around 1 for the slope, normal around 0 for the intercept.
    So a slope is always positive, and labels that a threshold parts perfectly do not send it to infinity.
    """
    place = np.zeros(2)  # the slope's logarithm, the intercept
    loss = _loss(place, scores, truth)
    for _ in range(100):
        gradient, information = _curvature(place, scores, truth)
        step = np.linalg.solve(information, gradient)
        size = 1.0
        while size > 1e-8 and (new := _loss(place - size * step, scores, truth)) > loss:
            size /= 2
        if size <= 1e-8 or loss - new < 1e-12:
            break
        place, loss = place - size * step, new
    spread = Z95 * math.sqrt(np.linalg.inv(_curvature(place, scores, truth)[1])[0, 0])
    log_slope, intercept = (float(value) for value in place)
    return math.exp(log_slope), intercept, (math.exp(log_slope - spread), math.exp(log_slope + spread))


def _loss(place: Scores, scores: Scores, truth: Truth) -> float:
    logit = np.exp(place[0]) * scores + place[1]
    signed = np.where(truth, -logit, logit)
    return float(np.logaddexp(0, signed).sum() + (np.square(place / PRIOR)).sum() / 2)


def _curvature(place: Scores, scores: Scores, truth: Truth) -> tuple[Scores, Scores]:
    """Gradient of the loss, and its expected second derivative (Fisher information), which is never singular."""
    scaled = np.exp(place[0]) * scores
    chance = (np.tanh((scaled + place[1]) / 2) + 1) / 2
    inputs = np.stack([scaled, np.ones_like(scaled)])
    gradient = inputs @ (chance - truth) + place / np.square(PRIOR)
    information = (inputs * (chance * (1 - chance))) @ inputs.T + np.diag(1 / np.square(PRIOR))
    return gradient, information


def best_threshold(scores: Scores, truth: Truth) -> float:
    """The logit with the best F1: in the middle of the widest gap between scores, of those that are equally good."""
    low, high = max(_best_gaps(scores, truth), key=lambda gap: (gap[1] - gap[0], gap[1]))
    return (low + high) / 2


def _best_gaps(scores: Scores, truth: Truth) -> list[tuple[float, float]]:
    """The gaps between scores in which a threshold has the best F1; below the lowest score is one, of width 2."""
    order = np.argsort(scores)
    values = scores[order]
    found = np.cumsum(truth[order][::-1])[::-1]  # positives at or above each score
    f1 = 2 * found / (np.arange(len(values), 0, -1) + truth.sum())
    lower = np.concatenate([[values[0] - 2], values[:-1]])
    # Equal scores fall on the same side of every threshold.
    f1 = np.where(lower < values, f1, -1)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return [(float(lower[place]), float(values[place])) for place in best]


def threshold_interval(scores: Scores, truth: Truth, *, seed: int) -> tuple[float, float]:
    """The 95 % interval of the best threshold over resampled tiles; never narrower than the gap that it lies in.

    Tiles with and without are resampled apart, so that both kinds are always there.
    """
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    thresholds = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
        thresholds.append(best_threshold(scores[drawn], truth[drawn]))
    low, high = np.quantile(thresholds, [0.025, 0.975])
    gaps = _best_gaps(scores, truth)
    return float(min(low, *(gap[0] for gap in gaps))), float(max(high, *(gap[1] for gap in gaps)))


def held_out_f1(scores: Scores, truth: Truth) -> tuple[float, tuple[float, float]]:
    """F1 of tiles whose threshold was chosen on the others, and a 95 % interval.

    The interval is from the lower to the upper Wilson bounds of precision and recall together: wide, as it should be
    for few tiles, also where all of them were right.
    """
    is_found = np.zeros(len(scores), dtype=bool)
    fold = np.empty(len(scores), dtype=int)
    for kind in (truth, ~truth):
        fold[kind] = np.arange(kind.sum()) % FOLDS
    for number in range(min(FOLDS, len(scores))):
        held = fold == number
        rest = ~held
        if held.any() and truth[rest].any() and not truth[rest].all():
            is_found[held] = scores[held] > best_threshold(scores[rest], truth[rest])
    right = int((is_found & truth).sum())
    found, there = int(is_found.sum()), int(truth.sum())
    (low_p, high_p), (low_r, high_r) = _wilson(right, found), _wilson(right, there)
    return _harmonic(right / max(found, 1), right / there), (_harmonic(low_p, low_r), _harmonic(high_p, high_r))


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927); all of 0 to 1 where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, square = right / count, Z95**2
    middle = share + square / (2 * count)
    spread = Z95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return max(0.0, (middle - spread) / (1 + square / count)), min(1.0, (middle + spread) / (1 + square / count))
