"""How far a run has come."""

from __future__ import annotations

from typing import Any

from attrs import asdict, define, field

from geovlm.training.validation import Scores

SCORES = ("before", "best", "general_before", "general_after")


@define
class Standing:
    """With the learner's state and the images that failed all that a checkpoint holds.

    Args:
        step: Steps taken.
        loss_sum: Of the losses of this epoch.
        loss_count: How many they are.
        history: A row an epoch.
        before: The base on the held-out pairs.
        best: The best epoch on them, and in the end what is returned.
        best_epoch: Its number.
        general_before: The base on general pairs.
        general_after: What is returned, on them.
        leaks: What training and held-out data share, in words; empty if nothing.
        share: How much of the tuned weights is in what is returned.
    """

    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, Any]] = field(factory=list)
    before: Scores | None = None
    best: Scores | None = None
    best_epoch: int | None = None
    general_before: Scores | None = None
    general_after: Scores | None = None
    leaks: str = ""
    share: float = 1.0

    def to_plain(self) -> dict[str, Any]:
        """Numbers, text, lists and mappings only."""
        return {**asdict(self, recurse=False), **{name: plain(getattr(self, name)) for name in SCORES}}

    @classmethod
    def from_plain(cls, value: dict[str, Any]) -> Standing:
        """What `to_plain` returned, as it was."""
        return cls(**{**value, **{name: value[name] and Scores(**value[name]) for name in SCORES}})


def plain(scores: Scores | None) -> dict[str, Any] | None:
    """JSON-like."""
    return None if scores is None else scores.to_json()
