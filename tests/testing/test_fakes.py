from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import geovlm.testing
from geovlm.errors import UsageError
from geovlm.protocols import Captioner, Encoder
from geovlm.records import Record
from geovlm.testing import EchoCaptioner, HashEncoder
from geovlm.testing.fakes import COLOURS


def test_they_have_the_abilities() -> None:
    assert isinstance(HashEncoder(), Encoder)
    assert isinstance(EchoCaptioner(), Captioner)


def test_vectors_are_unit_float32_and_do_not_depend_on_the_batch() -> None:
    encoder = HashEncoder(dim=32)
    images = [Image.effect_noise((20, 30), 40 + i).convert("RGB") for i in range(4)]
    together = encoder.encode_images(images)
    assert (together.dtype, together.shape) == (np.float32, (4, 32))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode_images([image]) for image in images]))
    assert len(np.unique(together, axis=0)) == 4
    assert encoder.encode_texts([]).shape == encoder.encode_images([]).shape == (0, 32)


def test_the_same_on_every_machine() -> None:
    np.testing.assert_allclose(
        HashEncoder(dim=3).encode_texts(["a red roof"])[0], [-0.597131, -0.783440, -0.172209], atol=1e-6
    )


def test_pictures_are_near_the_words_for_their_colours() -> None:
    encoder = HashEncoder()
    pictures = encoder.encode_images([Image.new("RGB", (8, 8), rgb) for rgb in COLOURS.values()])
    texts = encoder.encode_texts([f"a {name} roof" for name in COLOURS])
    assert (texts @ pictures.T).argmax(axis=1).tolist() == list(range(len(COLOURS)))


def test_another_seed_is_another_space() -> None:
    fingerprints = {HashEncoder(dim=dim, seed=seed).fingerprint for dim in (8, 9) for seed in (0, 1)}
    assert len(fingerprints) == 4
    assert not np.allclose(HashEncoder().encode_texts(["a"]), HashEncoder(seed=1).encode_texts(["a"]))
    with pytest.raises(UsageError):
        HashEncoder(dim=0)


def test_the_echo_captioner_answers_every_record() -> None:
    records = [Record(id="a"), Record(id="b", label="Port")]
    assert EchoCaptioner().caption(records, [Image.new("RGB", (1, 1))] * 2) == [
        ("a scene called a",),
        ("a scene of Port called b",),
    ]


def test_every_public_name_can_be_had() -> None:
    assert all(hasattr(geovlm.testing, name) for name in geovlm.testing.__all__)
    with pytest.raises(AttributeError):
        _ = geovlm.testing.HashEncodr
