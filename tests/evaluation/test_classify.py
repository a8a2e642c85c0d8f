from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm.embedding import embed
from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation import _transductive_graph as graph
from geovlm.evaluation import classify, zero_shot
from geovlm.records import Record
from geovlm.testing import HashEncoder

if TYPE_CHECKING:
    from pathlib import Path

MODELS = {"CLIP": (81.29, 90.35), "SkyCLIP50": (91.04, 97.81)}
METHODS: Any = ("inductive", "transductive", "prototypes", "linear_probe")


def published(folder: Path, model: str) -> tuple[Any, Any, Any]:
    file = folder / "clip_reference_embeddings" / f"whu_rs19__{model}_ViT-B-32.npz"
    with np.load(file, allow_pickle=False) as data:
        texts = data["text_embeddings"][data["prompts"] != "averageprompt"]
        return data["image_embeddings"], data["labels"], texts


def blobs(seed: int, *, images: int = 300, classes: int = 6, dim: int = 24, noise: float = 0.8) -> Any:
    """Images around their class, texts beside it and far from all images, as in a model of two towers."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, dim))
    labels = rng.integers(classes, size=images)
    spread = np.exp(0.3 * rng.normal(size=(classes, dim)))
    vectors = means[labels] + 0.7 * spread[labels] * rng.normal(size=(images, dim)) + 3 * np.eye(dim)[0]
    texts = means + noise * rng.normal(size=means.shape) + 3 * np.eye(dim)[1]
    return vectors, labels, texts


def share(found: Any, labels: Any) -> float:
    return 100 * float((found.labels == labels).mean())


# --- published figures


@pytest.mark.parametrize("model", MODELS)
def test_the_published_figures_are_reached(shared_data: Path, model: str) -> None:
    images, labels, texts = published(shared_data, model)
    inductive, transductive = MODELS[model]
    assert round(share(classify(images, texts), labels), 2) == inductive
    assert share(classify(images, texts, method="transductive"), labels) > transductive


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["half", "imbalanced", "ten"])
def test_a_hard_set_costs_at_most_a_point(shared_data: Path, model: str, kind: str) -> None:
    images, labels, texts = published(shared_data, model)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(19)
        sizes = {"half": [99] * 9 + [0] * 10, "imbalanced": np.geomspace(50, 2.5, 19).astype(int), "ten": [10] * 19}
        rows = np.concatenate([np.flatnonzero(labels == c)[:n] for c, n in zip(order, sizes[kind], strict=True)])
        found = [classify(images[rows], texts, method=method) for method in METHODS[:2]]
        assert found[1].method == "transductive"
        assert share(found[1], labels[rows]) > share(found[0], labels[rows]) - 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize("count", [1, 5, 10])
def test_labelled_images_help(shared_data: Path, model: str, method: Any, count: int) -> None:
    images, labels, texts = published(shared_data, model)
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        shots = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:count] for c in range(19)])
        rest = np.setdiff1d(np.arange(len(labels)), shots)
        helped = classify(images[rest], texts, method=method, support=images[shots], support_labels=labels[shots])
        gains.append(share(helped, labels[rest]) - share(classify(images[rest], texts, method=method), labels[rest]))
    assert np.mean(gains) > 0


# --- made-up embeddings


@pytest.mark.parametrize("noise", [0.5, 1.5])
@pytest.mark.parametrize("absent", [0, 3])
def test_transductive_is_no_worse_with_weak_texts_and_absent_classes(noise: float, absent: int) -> None:
    gains = []
    for seed in range(4):
        images, labels, texts = blobs(seed, images=600, noise=noise)
        images, labels = images[labels >= absent], labels[labels >= absent]
        found = [share(classify(images, texts, method=m, logit_scale=20.0), labels) for m in METHODS[:2]]
        gains.append(found[1] - found[0])
    assert min(gains) > -1
    assert np.mean(gains) > 0


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(METHODS))
def test_the_order_of_rows_and_classes_and_the_length_of_rows_change_nothing(seed: int, method: Any) -> None:
    images, labels, texts = blobs(seed, images=90)
    rng = np.random.default_rng(seed)
    rows, classes, lengths = rng.permutation(90), rng.permutation(6), rng.uniform(0.1, 9, size=(90, 1))
    shots = {"support": images[:12], "support_labels": labels[:12]}
    moved = {"support": images[:12], "support_labels": np.argsort(classes)[labels[:12]]}
    first = classify(images, texts, method=method, **shots).probabilities
    second = classify((lengths * images)[rows], texts[classes], method=method, **moved).probabilities
    assert np.allclose(first[rows][:, classes], second, atol=2e-2)


@pytest.mark.parametrize("method", METHODS)
def test_what_comes_back_is_probabilities(method: Any) -> None:
    images, labels, texts = blobs(0)
    found = classify(images.astype(np.float16), texts, method=method, support=images[:20], support_labels=labels[:20])
    assert found.method == method
    assert found.labels.dtype == np.int64
    assert found.probabilities.dtype == np.float32
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (found.labels == found.probabilities.argmax(axis=1)).all()
    assert (found.confidence == found.probabilities.max(axis=1)).all()


def test_templates_are_a_normalised_mean() -> None:
    images, _, texts = blobs(0)
    both = np.stack([texts, 5 * texts[::-1]])
    unit = both / np.linalg.norm(both, axis=-1, keepdims=True)
    assert np.allclose(classify(images, both).probabilities, classify(images, unit.mean(axis=0)).probabilities)


def test_duplicated_rows_get_one_answer() -> None:
    images, _, texts = blobs(1)
    found = classify(np.concatenate([images, images]), texts, method="transductive")
    assert (found.labels[:300] == found.labels[300:]).mean() > 0.99


def test_labelled_images_pull_a_class_that_its_text_misplaces() -> None:
    images, labels, texts = blobs(2, images=400, noise=0.2)
    texts[0] = texts[1] + 0.01
    known = np.flatnonzero(labels == 0)[:5]
    plain = classify(images, texts, method="transductive")
    helped = classify(images, texts, method="transductive", support=images[known], support_labels=np.zeros(5, int))
    rest = np.setdiff1d(np.flatnonzero(labels == 0), known)
    assert (helped.labels[rest] == 0).mean() > (plain.labels[rest] == 0).mean() + 0.4


def test_a_class_without_labelled_images_can_still_be_found() -> None:
    images, labels, texts = blobs(3, noise=0.2)
    known = np.flatnonzero(labels < 4)[:40]
    for method in METHODS:
        found = classify(images, texts, method=method, support=images[known], support_labels=labels[known])
        assert share(found, labels) > 70


def test_neighbours_in_groups_are_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(0, images=600)[0].astype(np.float32)
    exact = graph.neighbours(vectors, 5)
    monkeypatch.setattr(graph, "EXACT_ROWS", 200)
    monkeypatch.setattr(graph, "ROWS_A_GROUP", 150)
    near = graph.neighbours(vectors, 5)
    assert all(row not in found and len(set(found)) == 5 for row, found in enumerate(near.tolist()))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = [np.mean([unit[row] @ unit[found].T for row, found in enumerate(rows)]) for rows in (exact, near)]
    assert cosines[1] > 0.9 * cosines[0]


# --- bad input


def test_bad_rows_lose_nothing_of_the_good_ones() -> None:
    images, _, texts = blobs(0)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    broken = np.insert(images, [0, 50], [[np.nan], [0.0]], axis=0)
    for method in METHODS[:2]:
        whole, found = classify(images, texts, method=method), classify(broken, texts, method=method)
        assert found.labels[[0, 51]].tolist() == [-1, -1]
        assert np.isnan(found.confidence[[0, 51]]).all()
        assert np.allclose(np.delete(found.probabilities, [0, 51], axis=0), whole.probabilities, atol=1e-3)
        assert found.notes == ("2 of 302 image rows are zero or not finite and got no label.",)


def test_too_few_or_one_sided_images_fall_back_and_say_so() -> None:
    images, labels, texts = blobs(0, noise=0.1)
    for chosen, said in ((slice(20), "at least 32 images"), (labels == 2, "look like one")):
        found = classify(images[chosen], texts, method="transductive")
        assert found.method == "inductive"
        assert said in found.notes[-1]
        assert (found.labels == classify(images[chosen], texts).labels).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": np.ones((3, 5))}, "same encoder"),
        ({"images": np.ones((0, 4))}, "no rows"),
        ({"images": np.full((3, 4), np.nan)}, "None of the 3"),
        ({"images": np.ones(4)}, "shape"),
        ({"texts": np.ones((1, 4))}, "two classes"),
        ({"texts": np.ones((0, 2, 4))}, "shape"),
        ({"texts": np.zeros((2, 4))}, "row 0 is zero"),
        ({"method": "prototypes"}, "labelled images"),
        ({"support": np.ones((1, 4))}, "belong together"),
        ({"support": np.ones((1, 4)), "support_labels": [2]}, "from 0 to 1"),
        ({"support": np.ones((1, 4)), "support_labels": [0, 1]}, "one for each"),
        ({"support": np.ones((1, 3)), "support_labels": [0]}, "same encoder"),
        ({"logit_scale": 0.0}, "logit_scale"),
    ],
)
def test_mistakes_are_told(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        classify(**{"images": np.ones((3, 4)), "texts": np.eye(2, 4), **change})


def test_an_unknown_method_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="transductive"):
        classify(np.ones((3, 4)), np.eye(2, 4), method="transduction")  # type: ignore[arg-type]


def scene(number: int, colour: str) -> Record:
    return Record(id=f"{colour}-{number}", image=Image.new("RGB", (4 + number, 8), colour), label=colour)


def test_embeddings_of_two_encoders_are_not_mixed() -> None:
    ours = embed([scene(0, "red")], HashEncoder(), progress=False)
    theirs = embed([scene(0, "red")], HashEncoder(seed=1), progress=False)
    texts = np.eye(2, ours.dim)
    classify(ours, texts, support=ours, support_labels=[0])
    with pytest.raises(UsageError, match="embed both with one"):
        classify(ours, texts, support=theirs, support_labels=[0])


def test_zero_shot_takes_the_method_and_tells_it() -> None:
    few = [scene(number, colour) for colour in ("red", "green", "blue") for number in range(2)]
    many = [scene(number, colour) for colour in ("red", "green", "blue") for number in range(12)]
    found = [zero_shot(HashEncoder(), images, method="transductive", progress=False) for images in (few, many)]
    assert [result.method for result in found] == ["inductive", "transductive"]
    assert "at least 32" in found[0].notes[0]
    assert "(transductive)" in str(found[1])
    assert found[1].top1 > 0.9
    with pytest.raises(UnknownName, match="prototypes"):
        zero_shot(HashEncoder(), few, method="prototypes")  # type: ignore[arg-type]
