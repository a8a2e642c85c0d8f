"""Search and evaluation with a real open_clip model, tiny and random, over files on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from geovlm.embedding import embed
from geovlm.encoders import load_encoder
from geovlm.errors import ConfigMismatch
from geovlm.evaluation import classify_vectors, retrieval, zero_shot
from geovlm.index import Index
from geovlm.prompts import TEMPLATES
from geovlm.records import Record
from geovlm.stores import NumpyStore
from tests.models import openclip_folder, save_pictures

if TYPE_CHECKING:
    from geovlm.protocols import Encoder

LABELS = ("BareLand", "storage_tanks", "Port")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(openclip_folder(tmp_path_factory.mktemp("model")), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("scenes")
    paths = save_pictures(folder, 9)
    (folder / "broken.jpg").write_bytes(paths[0].read_bytes()[:200])
    return [
        Record(id=path.name, image=path, label=LABELS[number % 3], captions=[f"scene {number}", f"number {number}"])
        for number, path in enumerate([*paths, folder / "broken.jpg"])
    ]


def test_an_image_finds_itself_from_memory_and_from_disk(
    encoder: Encoder, scenes: list[Record], tmp_path: Path
) -> None:
    made = embed(scenes, encoder, out=tmp_path / "vectors")
    store = NumpyStore()
    assert (Index(encoder, store).add(made).done, len(store)) == (9, 9)
    store.save(tmp_path / "store")
    direct = Index(encoder)
    assert direct.add(scenes, batch_size=4).failed == 1
    for index in (direct, Index(encoder, NumpyStore.open(tmp_path / "store"))):
        for scene in scenes[:9]:
            hits = index.search(Path(str(scene.image)), limit=3)
            assert (hits[0].id, hits[0].label) == (scene.id, scene.label)
            assert hits[0].score == pytest.approx(1, abs=1e-4)
        by_text = index.search("a harbour", limit=9, where={"label": "Port"})
        assert {hit.label for hit in by_text} == {"Port"}
        assert len(by_text) == 3


def test_vectors_of_other_weights_are_refused(encoder: Encoder, scenes: list[Record], tmp_path: Path) -> None:
    other = load_encoder(openclip_folder(tmp_path / "other", seed=1), device="cpu", dtype="float32")
    index = Index(encoder)
    with pytest.raises(ConfigMismatch):
        index.add(embed(scenes[:2], other))
    with pytest.raises(ConfigMismatch):
        Index(other, index.store)


def test_zero_shot_is_what_one_computes_by_hand(encoder: Encoder, scenes: list[Record]) -> None:
    result = zero_shot(encoder, scenes, batch_size=4)
    words = ["port", "bare land", "storage tanks"]
    order = [result.classes.index(name) for name in ("Port", "BareLand", "storage_tanks")]
    texts: Any = np.empty((3, encoder.dim))
    for place, name in zip(order, words, strict=True):
        prompts = encoder.encode_texts([template.format(name) for template in TEMPLATES["skyscript"]])
        texts[place] = prompts.mean(axis=0)
    images = encoder.encode_images([scene.open() for scene in scenes[:9]])
    best, _ = classify_vectors(images, texts)
    assert result.ranking[:9, 0].tolist() == best[:, 0].tolist()
    right = sum(result.classes[b] == scene.label for b, scene in zip(best[:, 0], scenes, strict=False))
    assert result.top1 == pytest.approx(right / 10)
    assert result.coverage == pytest.approx(0.9)


def test_retrieval_counts_every_caption(encoder: Encoder, scenes: list[Record]) -> None:
    result = retrieval(encoder, scenes)
    assert result.to_pandas()["queries"].tolist() == [10, 20]
    assert result.text_to_image[10] == pytest.approx(18 / 20)
    assert 0 < result.mean_recall < 1
