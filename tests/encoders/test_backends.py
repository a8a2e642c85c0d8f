"""The same vectors by another library, on several devices, and in smaller batches where memory runs out."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch

import geovlm as gv
from geovlm.encoders import load_encoder
from geovlm.encoders._class_token import of_openclip
from geovlm.encoders.huggingface import HuggingFaceEncoder
from geovlm.errors import MissingExtra, UnknownName, UsageError
from geovlm.protocols import Encoder, PixelEncoder
from geovlm.testing import HashEncoder
from tests import models
from tests.models import DIM, IMAGE_SIZE, picture

PIXELS = np.random.default_rng(0).integers(0, 256, (37, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
TEXTS = [f"scene {number}" for number in range(9)]


@pytest.fixture(params=["open_clip", "clip", "siglip"])
def folder(request, folders):
    return folders[request.param]


@pytest.fixture
def encoder(folders):
    return load_encoder(folders["open_clip"], device="cpu", dtype="float32")


# --- OpenVINO ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("_two_threads")
def test_openvino_gives_the_same_vectors(folder):
    pytest.importorskip("openvino")
    exact = load_encoder(folder, device="cpu", dtype="float32")
    other = load_encoder(folder, device="cpu", dtype="float32", backend="openvino")
    assert other.fingerprint == exact.fingerprint
    assert "backend='openvino'" in repr(other)
    vectors = other.encode_pixels(PIXELS)
    np.testing.assert_allclose(vectors, exact.encode_pixels(PIXELS), atol=1e-5)
    np.testing.assert_allclose(other.encode_pixels(PIXELS[5:6]), vectors[5:6], atol=1e-5)
    assert other.encode_pixels(PIXELS[:0]).shape == (0, DIM)
    texts = exact.encode_texts(TEXTS)
    np.testing.assert_allclose(other.encode_texts(TEXTS), texts, atol=1e-5)
    if isinstance(exact, HuggingFaceEncoder):  # whose text towers are left to torch
        np.testing.assert_array_equal(other.encode_texts(TEXTS), exact.encode_texts(TEXTS))
    trained = other.copy()
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert np.abs(trained.encode_pixels(PIXELS) - vectors).max() > 1e-2, "a copy follows its own weights"


def test_openvino_in_bfloat16_stays_close(folders):
    pytest.importorskip("openvino")
    exact = load_encoder(folders["clip"], device="cpu", dtype="float32")
    vectors = exact.copy(dtype="bfloat16").with_backend("openvino").encode_pixels(PIXELS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors * exact.encode_pixels(PIXELS)).sum(axis=1).min() > 0.999


def test_a_back_end_that_cannot_be_used_is_said_to(folders, encoder, monkeypatch):
    with pytest.raises(UnknownName, match="Did you mean openvino"):
        load_encoder(folders["clip"], backend="openvinoo")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"geovlm\[openvino\]"):
        encoder.with_backend("openvino")
    with pytest.raises(UsageError, match="float32 or bfloat16, and this encoder is on 'cpu' in float16"):
        load_encoder(folders["clip"], device="cpu", dtype="float16", backend="openvino")


# --- torch.compile --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_towers_give_the_same_vectors_for_batches_of_any_size(encoder):
    other = encoder.with_backend("inductor")
    expected = encoder.encode_pixels(PIXELS)
    for count in (3, 1, len(PIXELS), 0):
        np.testing.assert_allclose(other.encode_pixels(PIXELS[:count]), expected[:count], atol=1e-5)
    np.testing.assert_array_equal(other.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert other.fingerprint == encoder.fingerprint
    with torch.no_grad():
        other.model.visual.proj.copy_(torch.rand_like(other.model.visual.proj))
    np.testing.assert_allclose(other.encode_pixels(PIXELS), encoder.encode_pixels(PIXELS), atol=1e-5)
    assert np.abs(encoder.encode_pixels(PIXELS) - expected).max() > 0.1, "both follow the same weights"


def test_a_machine_without_a_compiler_is_told_what_to_do(encoder, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda _: 1 / 0)
    with pytest.raises(UsageError, match=r"\(ZeroDivisionError: division by zero\).*backend='torch'"):
        encoder.with_backend("inductor").encode_pixels(PIXELS)


# --- the class token --------------------------------------------------------------------------------------------------


def test_adapters_in_the_attention_are_not_passed_by(encoder):
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(encoder.copy().model, LoraConfig(target_modules=["attn"], r=2))
    assert of_openclip(encoder.model.visual) is not None
    assert of_openclip(wrapped.base_model.model.visual) is None


# --- memory that runs out ---------------------------------------------------------------------------------------------


class Small:
    """Stands before a function of batches, and refuses large ones as a full GPU does."""

    def __init__(self, most, run):
        self.most, self.run, self.sizes = most, run, []

    def __call__(self, *arguments):
        self.sizes.append(len(arguments[-1]))
        if len(arguments[-1]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.run(*arguments)


def test_a_batch_is_halved_until_it_fits_and_stays_so(encoder, monkeypatch):
    whole, texts = encoder.encode_pixels(PIXELS), encoder.encode_texts(TEXTS)
    assert encoder.batch_size_hint == 64
    gpu, text_gpu = Small(10, encoder._run), Small(4, encoder._encode_batch)
    monkeypatch.setattr(encoder, "_run", gpu)
    monkeypatch.setattr(encoder, "_encode_batch", text_gpu)
    np.testing.assert_allclose(encoder.encode_pixels(PIXELS), whole, atol=1e-5)
    assert gpu.sizes == [37, 18, 9, 9, 9, 9, 1]
    np.testing.assert_allclose(encoder.encode_pixels(PIXELS[:20]), whole[:20], atol=1e-5)
    assert gpu.sizes[7:] == [9, 9, 2]
    assert encoder.batch_size_hint == 9
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)
    assert text_gpu.sizes == [9, 4, 4, 1]


def test_memory_for_not_even_one_is_an_error_with_advice(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "_run", Small(0, encoder._run))
    with pytest.raises(UsageError, match="Not even one item fits"):
        encoder.encode_pixels(PIXELS)


def test_other_errors_pass(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "_run", lambda *_: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match="another"):
        encoder.encode_pixels(PIXELS)


# --- several devices --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["float32", "bfloat16"])
def replicas(request, folders):
    return load_encoder(folders["clip"], device=["cpu", "cpu", "cpu"], dtype=request.param)


def test_several_devices_give_the_vectors_of_one(replicas, folders):
    one = load_encoder(folders["clip"], device="cpu", dtype="float32")
    assert isinstance(replicas, gv.ReplicatedEncoder)
    assert isinstance(replicas, Encoder)
    assert isinstance(replicas, PixelEncoder)
    assert (replicas.fingerprint, replicas.logit_scale) == (one.fingerprint, one.logit_scale)
    assert replicas.batch_size_hint == 3 * one.batch_size_hint
    for count in (37, 2, 1, 0):
        vectors = replicas.encode_pixels(PIXELS[:count])
        assert vectors.shape == (count, DIM)
        assert ((vectors * one.encode_pixels(PIXELS[:count])).sum(axis=1) > 0.999).all()
    pictures = [picture(seed) for seed in range(7)]
    assert ((replicas.encode_images(pictures) * one.encode_images(pictures)).sum(axis=1) > 0.999).all()
    assert replicas.encode_images([]).shape == (0, DIM)
    records = [gv.Record(id=str(seed), image=image) for seed, image in enumerate(pictures)]
    assert gv.embed(records, replicas, progress=False).to_numpy()[1].shape == (7, DIM)
    assert ((replicas.encode_texts(TEXTS) * one.encode_texts(TEXTS)).sum(axis=1) > 0.999).all()


def test_an_error_on_one_device_is_the_callers(encoder, monkeypatch):
    other = encoder.copy()
    both = gv.ReplicatedEncoder([encoder, other])
    monkeypatch.setattr(other, "_run", lambda *_: (_ for _ in ()).throw(RuntimeError("the second device")))
    with pytest.raises(RuntimeError, match="the second device"):
        both.encode_pixels(PIXELS)


def test_encoders_that_are_not_equal_are_no_replicas(encoder, tmp_path):
    other = load_encoder(models.openclip_folder(tmp_path / "other", seed=1), device="cpu", dtype="float32")
    with pytest.raises(UsageError, match="different fingerprints"):
        gv.ReplicatedEncoder([encoder, other])
    with pytest.raises(UsageError, match="at least one"):
        gv.ReplicatedEncoder([])
    with pytest.raises(UsageError, match=r"not \[\]"):
        load_encoder("skyclip-vit-b-32", device=[])


def test_a_plug_in_takes_neither_devices_nor_back_ends(monkeypatch):
    monkeypatch.setitem(gv.encoders.ENCODERS._targets, "plain", f"{__name__}:make_plain")
    with pytest.raises(UsageError, match="no encoder on torch"):
        load_encoder("plain", device=["cpu", "cpu"])


def make_plain(name, *, weights, device, dtype):
    return HashEncoder(dim=8)
