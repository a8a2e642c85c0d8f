from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score

from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation import ClassificationResult, class_vectors, classify_vectors, zero_shot
from geovlm.evaluation import classification as module
from geovlm.prompts import TEMPLATES
from geovlm.records import Record, Report
from geovlm.testing import HashEncoder
from geovlm.testing.fakes import COLOURS as PALETTE

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = ("red", "green", "blue", "yellow", "black", "white", "brown")


def scene(name: str, colour: str, label: str | None) -> Record:
    return Record(id=name, image=Image.new("RGB", (8, 8), PALETTE[colour]), label=label)


def scenes() -> list[Record]:
    right = [scene(f"{colour}-{turn}", colour, colour) for colour in COLOURS for turn in range(2)]
    return [*right, scene("odd", "red", "blue"), Record(id="broken", image=b"nothing", label="red")]


# --- against scikit-learn and against published numbers


def random_result(classes: int, images: int, seed: int) -> tuple[ClassificationResult, Any, Any]:
    rng = np.random.default_rng(seed)
    vectors, texts = rng.normal(size=(images, 8)), rng.normal(size=(classes, 8))
    truth = rng.integers(classes, size=images)
    ranking, scores = classify_vectors(vectors, texts, k=min(5, classes))
    result = ClassificationResult(
        classes=tuple(f"c{number}" for number in range(classes)),
        ids=tuple(map(str, range(images))),
        truth=truth,
        ranking=ranking,
        scores=scores,
        report=Report(done=images),
    )
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, texts)]
    return result, truth, unit[0] @ unit[1].T


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 9), st.integers(1, 60), st.integers(0, 10_000))
def test_metrics_are_those_of_scikit_learn(classes: int, images: int, seed: int) -> None:
    result, truth, scores = random_result(classes, images, seed)
    everything = np.arange(classes)
    predicted = scores.argmax(axis=1)
    assert result.top1 == pytest.approx(accuracy_score(truth, predicted), abs=1e-9)
    matrix = confusion_matrix(truth, predicted, labels=everything)
    np.testing.assert_array_equal(result.confusion[:, :-1], matrix)
    assert not result.confusion[:, -1].any()
    for k in range(1, min(classes, 6) if classes > 2 else 1):  # scikit-learn takes scores of two classes otherwise
        expected = top_k_accuracy_score(truth, scores, k=k, labels=everything)
        assert result.accuracy(k) == pytest.approx(expected, abs=1e-9)
    table = result.per_class()
    present = np.unique(truth)
    recalls = recall_score(truth, predicted, labels=present, average=None)
    np.testing.assert_allclose(table["recall"].to_numpy()[present], recalls, atol=1e-9)
    assert table["images"].tolist() == np.bincount(truth, minlength=classes).tolist()


@pytest.mark.parametrize(("model", "published"), [("CLIP_ViT-B-32", 81.29), ("SkyCLIP50_ViT-B-32", 91.04)])
def test_the_published_accuracy_comes_out(shared_data: Path, model: str, published: float) -> None:
    """WHU-RS19 with the average of 106 prompts (RS-TransCLIP, El Khoury et al., 2024)."""
    path = shared_data / "clip_reference_embeddings" / f"whu_rs19__{model}.npz"
    with np.load(path, allow_pickle=False) as data:
        average = data["prompts"].tolist().index("averageprompt")
        texts = data["text_embeddings"]
        best, _ = classify_vectors(data["image_embeddings"], texts[average])
        others = np.delete(texts, average, axis=0).astype(np.float64)
        labels = data["labels"]
    assert round(100 * float(np.mean(best[:, 0] == labels)), 2) == published
    # The ensemble made here from the single prompts is the published one.
    mean = (others / np.linalg.norm(others, axis=2, keepdims=True)).mean(axis=0)
    again, _ = classify_vectors(data_images(path), mean)
    assert round(100 * float(np.mean(again[:, 0] == labels)), 2) == published


def data_images(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as data:
        return data["image_embeddings"]


# --- on arrays


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(-3, 3).map(lambda x: x + 0.5)
    ),
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=st.integers(-3, 3).map(lambda x: x + 0.5)
    ),
    st.integers(1, 8),
    st.integers(1, 5),
)
def test_the_best_classes_are_those_of_a_plain_sort(images: Any, texts: Any, k: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_A_BLOCK", block)
        ranking, scores = classify_vectors(images, texts, k=k)
    assert ranking.shape == scores.shape == (len(images), min(k, len(texts)))
    for image, best, cosines in zip(images.astype(float), ranking, scores, strict=True):
        wanted = [float(image @ t / np.linalg.norm(image) / np.linalg.norm(t)) for t in texts.astype(float)]
        np.testing.assert_allclose(cosines, [wanted[number] for number in best], atol=1e-6)
        np.testing.assert_allclose(cosines, sorted(wanted, reverse=True)[: len(best)], atol=1e-6)
        assert len(set(best.tolist())) == len(best)


def test_of_equal_classes_the_first_wins() -> None:
    assert classify_vectors(np.ones((1, 4)), np.ones((300, 4)), k=4)[0].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("images", "texts", "k"),
    [
        (np.ones((2, 4)), np.ones((3, 5)), 1),
        (np.full((2, 4), np.nan), np.ones((3, 4)), 1),
        (np.zeros((2, 4)), np.ones((3, 4)), 1),
        (np.ones((2, 4)), np.full((3, 4), np.inf), 1),
        (np.ones(4), np.ones((3, 4)), 1),
        (np.ones((2, 4)), np.ones((2, 3, 4)), 1),
        (np.ones((2, 4)), np.ones((3, 4)), 0),
    ],
    ids=str,
)
def test_arrays_that_cannot_be_right(images: Any, texts: Any, k: int) -> None:
    with pytest.raises(UsageError):
        classify_vectors(images, texts, k=k)


def test_a_class_is_the_normalised_mean_of_its_prompts() -> None:
    encoder = HashEncoder()
    vectors = class_vectors(encoder, ["BareLand", "storage_tanks"], ("a {}", "see the {} there"))
    for vector, words in zip(vectors, ("bare land", "storage tanks"), strict=True):
        mean = encoder.encode_texts([f"a {words}", f"see the {words} there"]).astype(float).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert vectors.dtype == np.float32


def test_many_prompts_are_encoded_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from geovlm.evaluation import _collect

    whole = class_vectors(HashEncoder(), COLOURS, "overhead")
    monkeypatch.setattr(_collect, "TEXTS_A_BATCH", 3)
    np.testing.assert_array_equal(class_vectors(HashEncoder(), COLOURS, "overhead"), whole)


# --- on images


def test_every_input_counts() -> None:
    result = zero_shot(HashEncoder(), scenes())
    assert result.classes == tuple(sorted(COLOURS))
    assert result.top1 == pytest.approx(14 / 16)
    assert result.coverage == pytest.approx(15 / 16)
    assert (result.report.stage, result.report.done, result.report.failed) == ("zero-shot", 15, 1)
    table = result.per_class()
    assert table.loc["red"].tolist() == pytest.approx([3, 1, 0, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert table.loc["blue", "recall"] == pytest.approx(2 / 3)
    assert table["images"].sum() == 16
    frame = result.confusion_to_pandas()
    assert frame.loc["blue", "red"] == 1
    assert frame["(no answer)"].to_dict() == {colour: int(colour == "red") for colour in sorted(COLOURS)}
    assert frame.to_numpy().sum() == 16


def test_predictions_stand_in_the_order_of_the_inputs() -> None:
    records = scenes()
    records.insert(3, records.pop())
    records.append(scene("red-0", "blue", "blue"))  # an id that is taken
    table = zero_shot(HashEncoder(), iter(records), batch_size=4).to_pandas()
    assert table["id"].tolist() == [record.id for record in records]
    assert table["label"].tolist() == [record.label for record in records]
    failed = table["predicted"].isna()
    assert table["id"][failed].tolist() == ["broken", "red-0"]
    assert table["score"].isna().tolist() == failed.tolist()
    assert table["correct"].sum() == 14


def test_classes_may_be_given_and_labels_may_read_the_same() -> None:
    records = [scene("a", "red", "RedRoof"), scene("b", "blue", "blue_roof"), scene("c", "green", "green roof")]
    result = zero_shot(HashEncoder(), records, classes=["Green roof", "red-roof", "BlueRoof", "nothing else"])
    assert result.classes == ("Green roof", "red-roof", "BlueRoof", "nothing else")
    assert result.top1 == 1
    assert result.truth.tolist() == [1, 2, 0]
    assert np.isnan(result.per_class().loc["nothing else", "recall"])
    assert "nothing else" not in str(result)


def test_inputs_without_labels_are_classified_and_not_counted() -> None:
    records = [scene("a", "red", "red"), scene("b", "blue", None), scene("c", "green", "blue")]
    result = zero_shot(HashEncoder(), records, classes=("red", "blue"))
    assert result.top1 == pytest.approx(1 / 2)
    table = result.to_pandas()
    assert table["label"].isna().tolist() == [False, True, False]
    assert (table["predicted"][1], table["correct"][1]) == ("blue", False)
    assert result.confusion.sum() == 2
    assert "over the 2 labelled of 3 inputs" in str(result)
    unlabelled = zero_shot(HashEncoder(), records[1:2], classes=("red", "blue"))
    assert np.isnan(unlabelled.top1)
    assert "nan" in str(unlabelled)


def test_a_source_in_which_nothing_can_be_read() -> None:
    result = zero_shot(HashEncoder(), [Record(id=c, image=b"", label=c) for c in "ab"])
    assert (result.top1, result.top5, result.coverage, result.confusion[:, :-1].sum()) == (0, 0, 0, 0)
    assert result.per_class()["failed"].tolist() == [1, 1]


def test_it_reads_well() -> None:
    result = zero_shot(HashEncoder(), scenes(), templates=TEMPLATES["clip"])
    first, *rows = str(result).splitlines()
    assert first == "zero-shot: top-1 87.50%, top-5 93.75% over all 16 inputs, 7 classes; coverage 93.75%"
    assert rows[2].split()[0] in {"red", "blue"}  # the hardest class comes first
    assert first in result._repr_html_()
    assert (
        "<script"
        not in zero_shot(HashEncoder(), [scene("a", "red", "<script>red"), scene("b", "blue", "blue")])._repr_html_()
    )


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"classes": ["red"]}, UsageError, "at least two classes"),
        ({"classes": []}, UsageError, "at least two classes"),
        ({"classes": "red"}, UsageError, "several names"),
        ({"classes": ["red", ""]}, UsageError, "letter or digit"),
        ({"classes": ["red roof", "RedRoof"]}, UsageError, "read the same"),
        ({"classes": ["green", "bleu"]}, UnknownName, "No class is called 'red'"),
        ({"classes": ["reed", "blue"]}, UnknownName, "Did you mean reed"),
        ({"templates": "skyscrit"}, UnknownName, "skyscript"),
        ({"templates": ["no place"]}, UsageError, "exactly once"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_right(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        zero_shot(HashEncoder(), scenes(), **options)


def test_sources_that_cannot_be_classified() -> None:
    with pytest.raises(UsageError, match="no records"):
        zero_shot(HashEncoder(), [])
    with pytest.raises(UsageError, match="the labels of the source: none"):
        zero_shot(HashEncoder(), [scene("a", "red", None)])
    with pytest.raises(UsageError, match="read the same"):
        zero_shot(HashEncoder(), [scene("a", "red", "Red"), scene("b", "red", "red"), scene("c", "blue", "blue")])


@pytest.mark.parametrize("k", [0, 6, 1.5])
def test_only_the_best_five_are_kept(k: Any) -> None:
    with pytest.raises(UsageError):
        zero_shot(HashEncoder(), scenes()).accuracy(k)
