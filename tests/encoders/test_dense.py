"""Features of places: the same pass as the image's vector, the same in two libraries, and at the right places."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

import geovlm as gv
from geovlm.encoders import load_encoder
from geovlm.encoders._dense_vit import resized, self_self_attention
from geovlm.encoders._devices import on_cores
from geovlm.encoders.dense import is_dense, remove_global_bias
from geovlm.errors import UsageError
from geovlm.testing.fakes import HashEncoder
from tests.encoders.dense_models import NOT_DENSE, VISION, VIT, as_timm_siglip, as_transformers_clip, encoder_of

FAMILIES = ("clip", "siglip")


@pytest.fixture(scope="module")
def encoders(folders):
    """Every kind of tower that tells where."""
    loaded = {kind: load_encoder(folders[kind], device="cpu", dtype="float32") for kind in FAMILIES}
    return {kind: encoder_of(vision) for kind, vision in VISION.items()} | loaded


def pixels(count, height, width=None, *, seed=0):
    shape = (count, height, width or height, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", [*VISION, *FAMILIES])
def test_one_pass_gives_the_vector_of_the_image_and_unit_vectors_of_places(encoders, kind):
    encoder = encoders[kind]
    pictures = pixels(3, encoder.image_size)
    vectors, cells = encoder.encode_dense(pictures)
    side = encoder.image_size // encoder.patch_size
    assert is_dense(encoder)
    assert isinstance(encoder, gv.DenseEncoder)
    assert cells.shape == (3, side, side, encoder.dim)
    assert vectors.dtype == cells.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert cells.flags.c_contiguous
    np.testing.assert_allclose(vectors, encoder.encode_pixels(pictures), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(cells, axis=-1), 1, atol=1e-5)


def same_in_all_directions(encoder):
    """An encoder whose convolutions do not prefer a side, as those of a trained one do not on the whole."""
    for layer in encoder.model.visual.trunk.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data[:] = layer.weight.data.abs().mean(dim=(2, 3), keepdim=True)
    return encoder


def unit_places_of(encoder, picture):
    return encoder.encode_dense(picture)[1][0]


def places_of(encoder, picture):
    """Features before they are normalised."""
    rows, columns = (side // encoder.patch_size for side in picture.shape[1:3])
    with torch.inference_mode():
        places = encoder._tower(encoder.model)(encoder.normalize_pixels(torch.from_numpy(picture)))[1]
    return places.reshape(rows, columns, -1).numpy()


@pytest.mark.parametrize("kind", [*VISION, *FAMILIES])
@pytest.mark.parametrize("place", [(0, 0), (1, 3), (2, 1), (2, 4)])
def test_a_planted_square_changes_its_own_place_most(encoders, kind, place):
    """In a picture that is not square, so that rows and columns cannot be confused."""
    # A ResNet's places are means of four, of which kernels drawn at random make any the strongest; and with kernels
    # that are not, features differ in length more than in direction.
    is_mean = kind == "timm's resnet"
    encoder = same_in_all_directions(encoder_of(VISION[kind])) if is_mean else encoders[kind]
    size, (row, column) = encoder.patch_size, place
    plain = np.full((1, 3 * size, 5 * size, 3), 90, dtype=np.uint8)
    planted = plain.copy()
    planted[:, row * size : (row + 1) * size, column * size : (column + 1) * size] = 255
    features = places_of if is_mean else unit_places_of
    before, after = (features(encoder, picture) for picture in (plain, planted))
    change = np.linalg.norm(after - before, axis=-1)
    assert change.shape == (3, 5)
    assert np.unravel_index(change.argmax(), change.shape) == place


@pytest.mark.parametrize("kind", [*VISION, *FAMILIES])
def test_pictures_do_not_see_each_other(encoders, kind):
    encoder = encoders[kind]
    pictures = pixels(3, encoder.patch_size * 2, encoder.patch_size * 3)
    together = encoder.encode_dense(pictures)
    alone = [encoder.encode_dense(pictures[number : number + 1]) for number in range(3)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-5)


def test_two_libraries_agree_on_a_clip():
    ours = encoder_of(VIT)
    theirs = as_transformers_clip(ours)
    for size in ((32, 32), (24, 56), (64, 64)):
        pictures = pixels(2, *size)
        for one, other in zip(ours.encode_dense(pictures), theirs.encode_dense(pictures), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_two_libraries_agree_on_a_siglip(encoders):
    theirs = encoders["siglip"]
    ours = as_timm_siglip(theirs)
    for size in ((32, 32), (24, 56)):
        pictures = pixels(2, *size)
        for one, other in zip(ours.encode_dense(pictures), theirs.encode_dense(pictures), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(ours.encode_pixels(pixels(2, 32)), ours.encode_dense(pixels(2, 32))[0], atol=1e-5)


def test_the_head_of_siglip_on_one_token_is_the_path_of_its_value(encoders):
    """What MaskCLIP takes: attention that looks at one place only."""
    vision = encoders["siglip"].model.vision_model
    token = torch.randn(1, 1, vision.config.hidden_size)
    attention = vision.head.attention
    weight, bias = (tensor.chunk(3)[2] for tensor in (attention.in_proj_weight, attention.in_proj_bias))
    value = attention.out_proj(token @ weight.T + bias)
    expected = (value + vision.head.mlp(vision.head.layernorm(value)))[:, 0]
    torch.testing.assert_close(vision.head(token), expected)


@pytest.mark.parametrize("kind", ["vit, averages", "timm's resnet"])
def test_features_of_places_average_to_those_of_the_image_where_the_tower_averages(encoders, kind):
    encoder = encoders[kind]
    batch = encoder.normalize_pixels(torch.from_numpy(pixels(2, encoder.patch_size * 2, encoder.patch_size * 3)))
    tower = encoder._tower(encoder.model)
    if kind == "timm's resnet":
        tower = evolve(tower, is_centred=True)  # before places are moved, which counts those at the border otherwise
    with torch.inference_mode():
        image, places = tower(batch)
    torch.testing.assert_close(places.mean(dim=1), image, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["timm's resnet", "timm's convnext"])
def test_places_of_convolutions_lie_in_the_middle_of_their_pixels(kind):
    """With kernels that are the same in all directions, what changes around a square is on all its sides the same."""
    encoder = same_in_all_directions(encoder_of(VISION[kind]))
    size = encoder.patch_size
    plain = torch.zeros(1, 3, 9 * size, 9 * size)
    planted = plain.clone()
    planted[:, :, 4 * size : 5 * size, 4 * size : 5 * size] = 1
    tower = encoder._tower(encoder.model)
    with torch.inference_mode():
        change = (tower(planted)[1] - tower(plain)[1]).norm(dim=-1).reshape(9, 9)[1:-1, 1:-1]
    middle = (change.sum(dim=0) * torch.arange(7)).sum() / change.sum()
    assert abs(middle - 3) < 0.1


def test_attention_of_like_to_like_is_the_sum_of_three():
    q, k, v = torch.randn(3, 2, 5, 8)
    expected = torch.zeros(2, 5, 8)
    for head in (slice(0, 4), slice(4, 8)):
        for part in (q, k, v):
            logits = part[..., head] @ part[..., head].transpose(1, 2) / 2
            expected[..., head] += logits.softmax(dim=-1) @ v[..., head]
    torch.testing.assert_close(self_self_attention(q, k, v, heads=2), expected)


def test_positions_stay_as_they_are_on_their_own_grid_and_keep_their_order_elsewhere():
    positions = torch.arange(6.0).reshape(2, 3, 1).expand(2, 3, 4)
    assert resized(positions, (2, 3)) is positions
    larger = resized(positions, (4, 9))[..., 0]
    assert larger.shape == (4, 9)
    assert (larger.diff(dim=0) > 0).all()
    assert (larger[:, 1:-1].diff(dim=1) >= 0).all()


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), count=st.integers(0, 3))
def test_any_multiple_of_a_patch_is_taken(rows, columns, count):
    vectors, cells = _TINY.encode_dense(pixels(count, rows * 8, columns * 8))
    assert vectors.shape == (count, _TINY.dim)
    assert cells.shape == (count, rows, columns, _TINY.dim)
    assert np.isfinite(cells).all()


_TINY = encoder_of(VIT)


@pytest.mark.parametrize(
    "wrong",
    [
        pixels(1, 32, 36),
        pixels(1, 33),
        pixels(1, 32)[0],
        pixels(1, 32)[..., :2],
        pixels(1, 32).astype(np.float32),
        np.zeros((1, 0, 8, 3), dtype=np.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(wrong):
    with pytest.raises(UsageError, match="multiples of 8"):
        _TINY.encode_dense(wrong)


@pytest.mark.parametrize("kind", NOT_DENSE)
def test_other_towers_say_no(kind):
    encoder = encoder_of(NOT_DENSE[kind])
    assert not is_dense(encoder)
    with pytest.raises(UsageError, match="tells nothing of places"):
        encoder.encode_dense(pixels(1, 64))


def test_an_encoder_without_the_method_is_not_dense():
    assert not is_dense(HashEncoder())


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip", "clip's resnet"])
def test_bfloat16_stays_close(encoders, kind):
    encoder = encoders[kind]
    pictures = pixels(2, encoder.patch_size * 3, encoder.patch_size * 2)
    exact, fast = encoder.encode_dense(pictures), encoder.copy(dtype="bfloat16").encode_dense(pictures)
    for one, other in zip(exact, fast, strict=True):
        assert other.dtype == np.float32
        assert (one * other).sum(axis=-1).min() > 0.99


def test_big_calls_are_cut(monkeypatch):
    """Sixteen pictures of twice the side are as much as a usual batch."""
    sizes = []
    forward = type(_TINY)._embed_densely

    def counting(self, model, batch):
        sizes.append(len(batch))
        return forward(self, model, batch)

    monkeypatch.setattr(type(_TINY), "_embed_densely", counting)
    pictures = pixels(35, 64)
    vectors, cells = _TINY.encode_dense(pictures)
    assert sizes == [16, 16, 3]
    np.testing.assert_allclose(cells[34], _TINY.encode_dense(pictures[34:])[1][0], atol=1e-5)
    np.testing.assert_allclose(vectors[34], _TINY.encode_dense(pictures[34:])[0][0], atol=1e-5)


def test_threads_share_a_model(monkeypatch):
    """No call changes the model while it runs, so that parts of a batch on several cores do not meet."""
    pictures = {size: pixels(4, *size) for size in ((32, 32), (16, 64), (64, 24))}
    expected = {size: _TINY.encode_dense(batch)[1] for size, batch in pictures.items()}
    wrong = []

    def work(size):
        found = [_TINY.encode_dense(pictures[size])[1] for _ in range(10)]
        wrong.extend(size for cells in found if not np.allclose(cells, expected[size], atol=1e-5))

    threads = [threading.Thread(target=work, args=(size,)) for size in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_cores_put_parts_together_in_order():
    batch = torch.arange(64.0).reshape(64, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(on_cores(lambda part: part * 2, batch), batch * 2)
    finally:
        torch.set_num_threads(before)


def test_training_mode_is_left_as_it_was():
    encoder = _TINY.copy()
    encoder.model.visual.train()
    encoder.encode_dense(pixels(1, 32))
    assert encoder.model.visual.training


def test_the_bias_of_the_image_is_taken_out():
    vectors, cells = _TINY.encode_dense(pixels(2, 32))
    texts = _TINY.encode_texts(["a river", "a road"])
    scores = remove_global_bias(cells, vectors, strength=0.3) @ texts.T
    expected = cells @ texts.T - 0.3 * (vectors @ texts.T)[:, None, None]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_array_equal(remove_global_bias(cells, vectors, strength=0), cells)


def test_the_bias_of_other_pictures_is_refused():
    vectors, cells = _TINY.encode_dense(pixels(2, 32))
    with pytest.raises(UsageError, match="belong together"):
        remove_global_bias(cells, vectors[:1])
    with pytest.raises(UsageError, match="at least 0"):
        remove_global_bias(cells, vectors, strength=-0.3)
