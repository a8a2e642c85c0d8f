"""What holds for every back end on torch: the library's own vectors, precision, copies, saving, fingerprints."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from geovlm.encoders import load_encoder
from geovlm.encoders._devices import on_cores
from geovlm.errors import StorageError, UsageError
from geovlm.protocols import Encoder, PixelEncoder
from tests import models
from tests.models import DIM, IMAGE_SIZE, picture

KINDS = ["open_clip", "clip", "siglip"]
PICTURES = [picture(seed, size) for seed, size in enumerate([(48, 40), (33, 90), (32, 32), (20, 15), (200, 61)])]
TEXTS = ["a harbour", "a small vineyard beside a river, seen from above", ""]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(folders, kind):
    return folders[kind]


@pytest.fixture(scope="module")
def encoder(folder):
    return load_encoder(folder, device="cpu", dtype="float32")


def cosines(left, right):
    return (left * right).sum(axis=1)


def by_the_library(folder, kind):
    """Image and text vectors as the library's own documentation computes them."""
    if kind == "open_clip":
        import open_clip

        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
        with torch.no_grad():
            return (
                model.eval().encode_image(torch.stack([preprocess(one) for one in PICTURES]), normalize=True).numpy(),
                model.encode_text(tokens, normalize=True).numpy(),
            )
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    with torch.no_grad():
        images = model.get_image_features(**processor(images=PICTURES, return_tensors="pt")).pooler_output
        tokens = processor(text=TEXTS, truncation=True, return_tensors="pt", **padding)
        texts = model.get_text_features(**tokens).pooler_output
    return tuple(torch.nn.functional.normalize(part, dim=-1).numpy() for part in (images, texts))


def test_vectors_are_the_librarys_own(encoder, folder, kind):
    images, texts = by_the_library(folder, kind)
    # transformers resizes in torch, which rounds a few pixels to the next level.
    np.testing.assert_allclose(encoder.encode_images(PICTURES), images, atol=1e-5 if kind == "open_clip" else 4e-3)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)


def test_it_is_an_encoder(encoder):
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, PixelEncoder)
    assert (encoder.dim, encoder.image_size) == (DIM, IMAGE_SIZE)
    vectors = encoder.encode_images(PICTURES)
    assert vectors.shape == (len(PICTURES), DIM)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_nothing_in_is_nothing_out(encoder):
    assert encoder.encode_images([]).shape == (0, DIM)
    assert encoder.encode_texts([]).shape == (0, DIM)


def test_long_lists_come_back_in_order(encoder):
    many = [f"scene {number}" for number in range(300)]
    np.testing.assert_allclose(encoder.encode_texts(many)[260:], encoder.encode_texts(many[260:]), atol=1e-5)
    vectors = encoder.encode_images(PICTURES * 14)
    np.testing.assert_allclose(vectors[65:], encoder.encode_images(PICTURES), atol=1e-5)


def test_text_longer_than_the_context_is_cut(encoder):
    assert np.isfinite(encoder.encode_texts(["a river " * 200])).all()


def test_a_single_text_is_not_taken_for_a_list_of_letters(encoder):
    with pytest.raises(UsageError, match="list of strings"):
        encoder.encode_texts("harbour")
    with pytest.raises(UsageError, match="list of strings"):
        encoder.encode_texts(["harbour", 7])


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), np.zeros((1, 32, 32, 3))],
)
def test_pixels_of_another_shape_or_type_are_refused(encoder, pixels):
    with pytest.raises(UsageError, match=r"uint8 pixels of shape \(n, 32, 32, 3\)"):
        encoder.encode_pixels(pixels)


def test_bfloat16_stays_close_and_keeps_the_fingerprint(encoder, folder):
    half = load_encoder(folder, device="cpu", dtype="bfloat16")
    assert half.fingerprint == encoder.fingerprint
    vectors = half.encode_images(PICTURES)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert cosines(vectors, encoder.encode_images(PICTURES)).min() > 0.999
    assert cosines(half.encode_texts(TEXTS), encoder.encode_texts(TEXTS)).min() > 0.999
    assert half.logit_scale == encoder.logit_scale
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())


def test_saved_and_loaded_it_is_the_same(encoder, tmp_path):
    encoder.save(tmp_path / "saved")
    again = load_encoder(tmp_path / "saved", device="cpu", dtype="float32")
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode_images(PICTURES), encoder.encode_images(PICTURES))
    np.testing.assert_array_equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_saving_over_an_older_one_replaces_it(encoder, tmp_path):
    changed = encoder.copy()
    with torch.no_grad():
        next(changed.model.parameters()).add_(1)
    changed.save(tmp_path / "saved")
    encoder.save(tmp_path / "saved")
    assert load_encoder(tmp_path / "saved").fingerprint == encoder.fingerprint


def test_a_place_that_cannot_be_written_is_a_storage_error(encoder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not be written"):
        encoder.save(tmp_path / "file" / "saved")


def test_a_bfloat16_encoder_saves_its_exact_weights(folder, encoder, tmp_path):
    load_encoder(folder, device="cpu", dtype="bfloat16").save(tmp_path / "saved")
    again = load_encoder(tmp_path / "saved", device="cpu", dtype="float32")
    np.testing.assert_array_equal(again.encode_images(PICTURES), encoder.encode_images(PICTURES))


def test_a_copy_can_be_trained_without_touching_the_original(folder):
    base = load_encoder(folder, device="cpu", dtype="bfloat16")
    before = base.encode_images(PICTURES), base.encode_texts(TEXTS), base.fingerprint
    tuned = base.copy(dtype="float32")
    assert tuned.dtype == "float32"
    assert tuned.fingerprint == base.fingerprint

    pixels = torch.from_numpy(np.stack([tuned.preprocess(one) for one in PICTURES[:3]]))
    optimizer = torch.optim.SGD(tuned.model.parameters(), lr=0.1)
    tuned.model.train()
    images = tuned.image_features(tuned.normalize_pixels(pixels))
    texts = tuned.text_features(tuned.tokenize(TEXTS))
    (images * texts).sum().backward()
    optimizer.step()

    assert tuned.fingerprint != base.fingerprint
    assert tuned.model.training
    np.testing.assert_array_equal(base.encode_images(PICTURES), before[0])
    np.testing.assert_array_equal(base.encode_texts(TEXTS), before[1])
    assert base.fingerprint == before[2]
    assert np.abs(tuned.encode_images(PICTURES) - before[0]).max() > 1e-3
    assert tuned.model.training
    fast = tuned.copy(dtype="bfloat16")
    assert cosines(fast.encode_images(PICTURES), tuned.encode_images(PICTURES)).min() > 0.999


def test_features_are_what_encoding_normalises(encoder):
    pixels = np.stack([encoder.preprocess(one) for one in PICTURES])
    with torch.no_grad():
        features = encoder.image_features(encoder.normalize_pixels(torch.from_numpy(pixels))).numpy()
    vectors = encoder.encode_pixels(pixels)
    np.testing.assert_allclose(features / np.linalg.norm(features, axis=1, keepdims=True), vectors, atol=1e-5)


def test_normalised_pixels_are_what_the_library_makes(encoder):
    mean, std = np.array(encoder.preprocessing.mean), np.array(encoder.preprocessing.std)
    pixels = encoder.preprocess(PICTURES[0])
    expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)
    tensor = encoder.normalize_pixels(torch.from_numpy(pixels[None]))
    np.testing.assert_allclose(tensor[0].numpy(), expected, atol=1e-5)


def test_any_change_of_weights_changes_the_fingerprint(encoder):
    changed = encoder.copy()
    for parameter in (next(changed.model.parameters()), changed.model.logit_scale):
        before = changed.fingerprint
        with torch.no_grad():
            parameter.data += 1e-3  # as LoRA is merged: past the version counter
        assert changed.fingerprint != before


def test_preprocessing_is_part_of_the_fingerprint(tmp_path):
    usual = load_encoder(models.openclip_folder(tmp_path / "usual"))
    squashed = load_encoder(models.openclip_folder(tmp_path / "squashed", preprocess={"resize_mode": "squash"}))
    assert usual.fingerprint != squashed.fingerprint
    assert squashed.preprocessing.resize_mode == "squash"


def test_dropout_never_gets_into_vectors(encoder):
    twin = encoder.copy()
    twin.model.train()
    twin.model.add_module("extra", torch.nn.Dropout(0.5).eval())
    np.testing.assert_array_equal(twin.encode_images(PICTURES), encoder.encode_images(PICTURES))
    assert twin.model.training
    assert not twin.model.extra.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_gives_the_same_vectors(folder, encoder, dtype):
    other = load_encoder(folder, device="cuda", dtype=dtype)
    assert other.fingerprint == encoder.fingerprint
    assert cosines(other.encode_images(PICTURES), encoder.encode_images(PICTURES)).min() > 0.999
    pixels = np.random.default_rng(0).integers(0, 256, (600, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    assert cosines(other.encode_pixels(pixels), encoder.encode_pixels(pixels)).min() > 0.999
    assert other.batch_size_hint == 1024
    assert cosines(other.encode_texts(TEXTS), encoder.encode_texts(TEXTS)).min() > 0.999


def test_a_device_or_precision_that_is_not_here_is_a_usage_error(folder):
    with pytest.raises(UsageError, match="There is no device 'gpu'"):
        load_encoder(folder, device="gpu")
    with pytest.raises(UsageError, match="float32, bfloat16, float16"):
        load_encoder(folder, dtype="half")


def test_a_full_disk_is_a_storage_error_and_leaves_nothing_behind(folders, tmp_path):
    """A limit on the size of files stands for the full disk: both are refused by the system call that writes."""
    code = """
import resource, signal, sys
from geovlm.encoders import load_encoder
from geovlm.errors import StorageError
encoders = [load_encoder(folder, device="cpu") for folder in sys.argv[2:]]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for encoder in encoders:
    try:
        encoder.save(sys.argv[1])
    except StorageError as error:
        assert "could not be written" in str(error)
    else:
        raise AssertionError
"""
    places = [tmp_path / "saved", folders["open_clip"], folders["siglip"]]
    subprocess.run([sys.executable, "-c", code, *map(str, places)], check=True)
    assert not list(tmp_path.iterdir())


def test_a_batch_shared_out_among_cores_gives_the_same_vectors_and_leaves_the_threads_as_they_were(encoder):
    pixels = np.stack([encoder.preprocess(picture(seed)) for seed in range(37)])
    whole = encoder.encode_pixels(pixels)
    torch.set_num_threads(2)
    try:
        shared = encoder.encode_pixels(pixels)
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="broken"):
            on_cores(lambda part: (_ for _ in ()).throw(RuntimeError("broken")), torch.zeros(40))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    np.testing.assert_allclose(shared, whole, atol=1e-5)
