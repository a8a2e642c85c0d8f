"""Orders of pairs: each epoch its own, rare classes as often as frequent ones, alike pairs side by side."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.errors import UsageError
from geovlm.records import Record
from geovlm.training.sampling import ALIKE, Balanced, HardNegatives, span, spans
from tests.training.test_data import batches, flat, record


def rng(number=0):
    return np.random.default_rng(number)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 9), st.data())
def test_spans_of_all_processes_are_the_batches(total, count, ranks, data):
    start = data.draw(st.integers(0, count - 1))
    pieces = [list(spans(total, count, start=start, rank=rank, ranks=ranks)) for rank in range(ranks)]
    whole = np.array_split(np.arange(total), count)[start:]
    for number, expected in enumerate(whole):
        found = [place for rank in range(ranks) for place in range(*pieces[rank][number])]
        assert found == expected.tolist()
    assert [range(*span(total, count, number)) for number in range(start, count)] == [
        range(part[0], part[-1] + 1) if len(part) else range(total, total) for part in whole
    ]


def test_balanced_draws_rare_classes_as_often():
    records = [Record(id=str(n), label="common" if n < 900 else "rare", captions=f"c {n}") for n in range(910)]
    records += [Record(id=f"x{n}", captions=["A  lake." if n % 2 else "a lake.", f"water {n}"]) for n in range(90)]
    places = Balanced(records)(rng())
    assert len(places) == len(records)
    drawn = Counter(records[place].label for place in places)
    assert all(280 < count < 390 for count in drawn.values()), drawn
    members = Counter(place for place in places if records[place].label == "rare")
    assert len(members) == 10
    assert max(members.values()) < 2 * min(members.values()) + 20


def test_one_class_is_drawn_evenly():
    places = Balanced([Record(id=str(n), label="a", captions="x") for n in range(500)])(rng())
    assert 280 < len(set(places.tolist())) < 350  # 1 - 1/e of all


def test_balanced_epochs_have_as_many_pairs_and_draw_each_time_anew():
    records = [record(n, label="b" if n else "a") for n in range(24)]
    source, _ = batches(records, batch_size=7, sampling="balanced")
    epoch = flat(source.epoch(0))
    assert len(epoch) == 24
    assert flat(source.epoch(0)) == epoch != flat(source.epoch(1))
    rest = [pair for batch in source.epoch(0, start=2) for pair in batch.captions]
    assert rest == [caption for _, caption in epoch][-len(rest) :]
    assert {caption for number, caption in epoch if number == 0} == {"scene 0", "picture 0"}


def clusters(count, *, dim=16, kinds=20):
    centres = rng(1).normal(size=(kinds, dim))
    kind = np.arange(count) % kinds
    vectors = centres[kind] + 0.1 * rng(2).normal(size=(count, dim))
    return kind, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def neighbours(values, batch):
    """The mean share of a batch that is like one of it."""
    parts = np.array_split(values, len(values) // batch)
    return np.mean([np.mean(part[:, None] == part[None, :]) for part in parts])


def test_hard_negatives_bring_alike_pairs_into_one_batch():
    kind, vectors = clusters(2000)
    records = [Record(id=str(n), captions=f"caption {n}") for n in range(2000)]
    asked = []
    order = HardNegatives(records, lambda texts: asked.extend(texts) or vectors)
    places = order(rng())
    assert sorted(places.tolist()) == list(range(2000))
    assert (order(rng()) == places).all()
    assert (order(rng(1)) != places).any()
    assert len(asked) == 2000
    together = places[: 2000 // ALIKE * ALIKE].reshape(-1, ALIKE)
    alike = np.mean(kind[together][:, :, None] == kind[together][:, None, :])
    assert alike > 0.8, "leaves of eight are of one kind"
    shuffled = neighbours(kind[rng().permutation(2000)], 32)
    assert neighbours(kind[places], 32) > 3 * shuffled
    assert neighbours(kind[places], 32) < 0.6, "the rest of a batch comes from elsewhere"


def test_equal_captions_do_not_fill_a_batch():
    """Of 600 pairs 300 share one caption; it is spread over all batches."""
    _, vectors = clusters(301)
    captions = ["A field" if n % 2 else f"caption {n}" for n in range(600)]
    records = [Record(id=str(n), captions=caption) for n, caption in enumerate(captions)]
    places = HardNegatives(records, lambda texts: vectors[: len(texts)])(rng())
    same = np.array([captions[place] == "A field" for place in places])
    shares = [part.mean() for part in np.array_split(same, 10)]
    assert max(shares) < 0.8
    small = [Record(id=str(n), captions=f"caption {n // 2}") for n in range(160)]
    places = HardNegatives(small, lambda texts: vectors[: len(texts)])(rng())
    leaves = places.reshape(-1, ALIKE) // 2
    assert all(len(set(leaf)) == ALIKE for leaf in leaves.tolist())


@pytest.mark.parametrize("count", [2, 7, 8, 9, 17, 100])
def test_hard_negatives_of_few_pairs_and_of_equal_vectors(count):
    records = [Record(id=str(n), captions=f"caption {n}") for n in range(count)]
    order = HardNegatives(records, lambda texts: np.ones((len(texts), 4)))
    assert sorted(order(rng()).tolist()) == list(range(count))


def test_hard_negatives_need_vectors():
    records = [record(n) for n in range(20)]
    with pytest.raises(UsageError, match="give vectors="):
        batches(records, sampling="hard-negatives")


def test_hard_negatives_are_entered_in_the_middle():
    records = [record(n) for n in range(40)]
    _, vectors = clusters(40)
    source, _ = batches(records, batch_size=9, sampling="hard-negatives", vectors=lambda texts: vectors)
    whole = [batch.pixels.tobytes() for batch in source.epoch(2)]
    again, _ = batches(records, batch_size=9, sampling="hard-negatives", vectors=lambda texts: vectors)
    assert [batch.pixels.tobytes() for batch in again.epoch(2, start=3)] == whole[3:]
