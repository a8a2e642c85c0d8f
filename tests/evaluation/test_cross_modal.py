from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm.errors import UsageError
from geovlm.evaluation import retrieval
from geovlm.records import Record
from geovlm.testing import HashEncoder

if TYPE_CHECKING:
    from geovlm.protocols import Vectors


class TableEncoder:
    """Looks vectors up: an image's by the value of its first pixel, a text's by its number."""

    name = "table"
    fingerprint = "table"
    logit_scale = 1.0

    def __init__(self, images: Any, texts: Any) -> None:
        self._images, self._texts = images, texts
        self.dim = images.shape[1]

    def encode_images(self, images: Any) -> Vectors:
        return self._images[[image.getpixel((0, 0))[0] for image in images]]

    def encode_texts(self, texts: Any) -> Vectors:
        return self._texts[[int(text.split()[-1]) for text in texts]]


def unit(rng: np.random.Generator, rows: int) -> Any:
    vectors = rng.normal(size=(rows, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(images: Any, texts: Any, owner: list[int], broken: set[int], k: int) -> tuple[float, float]:
    """Recall@k both ways, image by image and text by text; what belongs to a broken image is a miss."""
    there = [number for number in range(len(owner)) if owner[number] not in broken]
    found_images, asked_images = 0, sorted(set(owner))
    for image in asked_images:
        if image in broken:
            continue
        by_score = sorted(there, key=lambda number: -float(images[image].astype(float) @ texts[number].astype(float)))
        own = [number for number in by_score if owner[number] == image]
        others_before = [number for number in by_score[: by_score.index(own[0])] if owner[number] != image]
        found_images += len(others_before) < k
    found_texts = 0
    for number in there:
        scores = [float(vector.astype(float) @ texts[number].astype(float)) for vector in images]
        before = sum(scores[other] > scores[owner[number]] for other in range(len(images)) if other not in broken)
        found_texts += before < k
    return found_images / len(asked_images), found_texts / len(owner)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12).filter(any),
    st.sets(st.integers(0, 11), max_size=4),
    st.integers(0, 10_000),
)
def test_recall_is_that_of_a_plain_loop(captions: list[int], broken: set[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    owner = [image for image, count in enumerate(captions) for _ in range(count)]
    images, texts = unit(rng, len(captions)), unit(rng, len(owner))
    records = [
        Record(
            id=str(image),
            image=b"broken" if image in broken else Image.new("RGB", (1, 1), (image, 0, 0)),
            captions=[f"text {number}" for number, of in enumerate(owner) if of == image],
        )
        for image in range(len(captions))
    ]
    result = retrieval(TableEncoder(images, texts), records, ks=(1, 2, 5), batch_size=3)
    for k in (1, 2, 5):
        expected = brute_force(images, texts, owner, broken, k)
        assert (result.image_to_text[k], result.text_to_image[k]) == pytest.approx(expected, abs=1e-9)
    both = [*result.image_to_text.values(), *result.text_to_image.values()]
    assert result.mean_recall == pytest.approx(np.mean(both))
    assert len(result.image_ranks) == sum(count > 0 for count in captions)
    assert result.coverage == pytest.approx(np.mean([image not in broken for image in range(len(captions))]))


def scenes() -> list[Record]:
    colours = ("red", "green", "blue", "yellow")
    return [Record(id=c, image=Image.new("RGB", (8, 8), c), captions=[c, f"a {c} field"]) for c in colours]


def test_a_failed_image_is_a_miss_for_its_captions() -> None:
    result = retrieval(HashEncoder(), [*scenes(), Record(id="x", image=b"", captions=["red", "black", "white"])])
    assert result.image_to_text[1] == pytest.approx(4 / 5)
    assert result.text_to_image[10] == pytest.approx(8 / 11)
    assert result.to_pandas()["median rank"].tolist() == [1, 1]
    assert (result.report.stage, result.report.failed) == ("retrieval", 1)


def test_the_median_rank_of_mostly_failed_images_is_infinite() -> None:
    broken = [Record(id=str(i), image=b"", captions="x") for i in range(3)]
    assert retrieval(HashEncoder(), [*scenes()[:1], *broken]).to_pandas()["median rank"].tolist() == [np.inf, np.inf]
    nothing = retrieval(HashEncoder(), broken)
    assert (nothing.mean_recall, nothing.coverage) == (0, 0)


def test_images_without_captions_stand_in_the_way_and_do_not_ask() -> None:
    twin = Record(id="twin", image=Image.new("RGB", (8, 8), "red"))
    result = retrieval(HashEncoder(), [*scenes(), twin])
    assert result.to_pandas()["queries"].tolist() == [4, 8]
    assert result.text_to_image[1] == pytest.approx(6 / 8)


def test_captions_go_into_a_template() -> None:
    records = [Record(id=c, image=Image.new("RGB", (8, 8), c), captions=["something"]) for c in ("red", "blue")]
    seen = []

    class Listening(HashEncoder):
        def encode_texts(self, texts: Any) -> Vectors:
            seen.extend(texts)
            return super().encode_texts(texts)

    retrieval(Listening(), records, template="a satellite image. {}")
    assert seen == ["a satellite image. something"] * 2


def test_it_reads_well() -> None:
    result = retrieval(HashEncoder(), scenes(), ks=[10, 1, 1])
    lines = str(result).splitlines()
    assert lines[0] == "retrieval: mean recall 100.00% over all inputs; 100.00% could be read"
    assert lines[1].split() == ["queries", "R@1", "R@10", "median", "rank"]
    assert "image to text" in result._repr_html_()


@pytest.mark.parametrize(
    "options", [{"ks": ()}, {"ks": (0,)}, {"ks": (1.5,)}, {"template": "no place"}, {"template": "{}{}"}], ids=str
)
def test_arguments_that_cannot_be_right(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        retrieval(HashEncoder(), scenes(), **options)


def test_sources_that_cannot_be_searched() -> None:
    with pytest.raises(UsageError, match="no records"):
        retrieval(HashEncoder(), [])
    with pytest.raises(UsageError, match="caption"):
        retrieval(HashEncoder(), [Record(id="a", image=Image.new("RGB", (4, 4)))])
