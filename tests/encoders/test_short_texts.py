"""Text towers of open_clip without filling give what open_clip gives with it, alone and in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geovlm.encoders import new_encoder

TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3}
VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
TEXTS = ["a river", "a dense residential area beside a narrow river", "", "ships", "many " * 40]
CONFIGS = {
    "clip": {},
    "custom text": {"custom_text": True},
    "layer scale": {"text_cfg": {**TEXT, "ls_init_value": 0.5}},
    "projection with a bias": {"custom_text": True, "text_cfg": {**TEXT, "proj_bias": True}},
}


def made(name, dtype):
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT, **CONFIGS[name]}
    return new_encoder(config, device="cpu", dtype=dtype)


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 2e-6), ("bfloat16", 0.03)])
@pytest.mark.parametrize("name", CONFIGS)
def test_texts_are_what_open_clip_makes_of_all_the_filling(name, dtype, atol):
    encoder = made(name, dtype)
    with torch.inference_mode():
        expected = encoder.model.encode_text(encoder.tokenize(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=atol)
    one_by_one = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(one_by_one, expected, atol=atol)
    assert abs(expected[0] - expected[1]).max() > 5 * atol, "texts that could be exchanged show nothing"


def test_features_without_gradients_are_those_with_them():
    encoder = made("clip", "float32")
    tokens = encoder.shorten(encoder.tokenize(TEXTS[:3]))
    assert tokens.shape[1] < 24
    with torch.no_grad():
        alone = encoder.text_features(tokens)
    torch.testing.assert_close(encoder.text_features(tokens).detach(), alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_openvino_reads_texts_of_any_number_and_length(name):
    pytest.importorskip("openvino")
    exact = made(name, "float32")
    other = exact.with_backend("openvino")
    for texts in ([TEXTS[0]], TEXTS, TEXTS[:2], [TEXTS[-1]]):
        np.testing.assert_allclose(other.encode_texts(texts), exact.encode_texts(texts), atol=1e-5)
    assert (other._texts_in_openvino() is None) == (name == "projection with a bias"), "that one is left to torch"
