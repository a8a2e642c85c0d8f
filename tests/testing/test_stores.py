"""The contract must notice stores that break it: each of these is wrong in one way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attrs import evolve
from hypothesis import Phase, given, seed, settings

from geovlm.stores import NumpyStore
from geovlm.testing import VectorStoreContract
from geovlm.testing.filters import filters, passes, sample_rows


class ScaledScores(NumpyStore):
    def query(self, vectors: Any, k: int = 10, **options: Any) -> Any:
        found = super().query(vectors, k, **options)
        return [evolve(one, scores=[(1 + score) / 2 for score in one.scores]) for one in found]


class FiltersAfterwards(NumpyStore):
    """Takes the nearest and drops what does not pass, so that too few are left."""

    def query(self, vectors: Any, k: int = 10, *, where: Any = None, exact: bool = False) -> Any:
        passing = {key for keys, _, _ in self.scan(where) for key in keys}
        found = super().query(vectors, k)
        kept = [[i for i, key in enumerate(one.ids) if key in passing] for one in found]
        return [
            evolve(one, ids=[one.ids[i] for i in rows], scores=[one.scores[i] for i in rows])
            for one, rows in zip(found, kept, strict=True)
        ]


class IgnoresFilters(NumpyStore):
    def count(self, where: Any = None) -> int:
        return super().count(None)


class WritesSome(NumpyStore):
    def upsert(self, ids: Any, vectors: Any, metadata: Any = None, **options: Any) -> Any:
        outcomes = []
        for i, key in enumerate(ids):
            outcomes += super().upsert([key], vectors[i : i + 1], metadata and metadata[i : i + 1], **options)
        return outcomes


class Unbound(NumpyStore):
    def bind(self, *, dim: int, fingerprint: str) -> None:
        self._tie(dim)


class Unnormalised(NumpyStore):
    def upsert(self, ids: Any, vectors: Any, *rest: Any, **options: Any) -> Any:
        outcomes = super().upsert(ids, vectors, *rest, **options)
        self._vectors[: len(self)] *= 2
        return outcomes


class Forgetful(NumpyStore):
    def delete(self, ids: Any = None, **options: Any) -> int:
        return super().delete(ids and ids[:1], **options)


@pytest.mark.parametrize(
    ("store", "test"),
    [
        (ScaledScores, "test_scores_are_cosines_whatever_the_lengths"),
        (ScaledScores, "test_the_nearest_are_those_of_a_plain_loop"),
        (FiltersAfterwards, "test_filters_agree_with_a_plain_reading_of_the_grammar"),
        (IgnoresFilters, "test_filters_agree_with_a_plain_reading_of_the_grammar"),
        (WritesSome, "test_error_writes_nothing"),
        (Unbound, "test_it_is_tied_to_one_encoder"),
        (Unnormalised, "test_scan_reads_every_row_once"),
        (Forgetful, "test_removed_rows_are_gone"),
    ],
)
def test_the_contract_notices(store: type[NumpyStore], test: str) -> None:
    class Broken(VectorStoreContract):
        def make_store(self) -> NumpyStore:
            return store()

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(Broken(), test)()


def test_the_oracle_is_not_vacuous() -> None:
    """The sampled filters pass some rows and refuse others: otherwise the comparison would prove nothing."""
    rows, shares = sample_rows(60), []

    @seed(0)
    @settings(max_examples=200, database=None, phases=[Phase.generate])
    @given(filters())
    def draw(where: dict[str, Any]) -> None:
        shares.append(np.mean([passes(where, row) for row in rows]))

    draw()
    assert np.mean([0 < share < 1 for share in shares]) > 0.4
