"""Values and gradients against plain definitions, at any block size, and what memory they take."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geovlm.training import TrainingConfig, _blocked
from geovlm.training.losses import InfoNCE, MultiPositive, Sigmoid, caption_groups, make_loss


def batch(seed, rows, dim=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, rows, dim, generator=generator, dtype=dtype).unbind()
    images, texts = torch.nn.functional.normalize(images, dim=1), torch.nn.functional.normalize(texts, dim=1)
    scale, bias = torch.tensor([7.0, -2.5], dtype=dtype).unbind()
    return [tensor.detach().requires_grad_() for tensor in (images, texts, scale, bias)]


def together(groups):
    """The definition of a positive, pair by pair."""
    rows = groups.tolist()
    return torch.tensor(
        [
            [i == j or any(a == b >= 0 for a, b in zip(rows[i], rows[j], strict=True)) for j in range(len(rows))]
            for i in range(len(rows))
        ]
    )


def dense(kind, images, texts, scale, bias, *, groups, smoothing):
    """Each loss as its paper writes it, on the whole matrix."""
    logits = scale * images @ texts.T
    count = len(images)
    positive = torch.eye(count, dtype=torch.bool) if kind == "infonce" else together(groups)
    if kind == "sigmoid":
        signs = torch.where(positive, 1.0, -1.0)
        return -torch.nn.functional.logsigmoid(signs * (logits + bias)).sum() / count
    target = positive.to(logits.dtype) / positive.sum(dim=1, keepdim=True)
    target = (1 - smoothing) * target + smoothing / count
    to_text = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    to_image = -(target * logits.T.log_softmax(dim=1)).sum(dim=1).mean()
    return (to_text + to_image) / 2


def ours(kind, smoothing=0.0):
    return make_loss(TrainingConfig(loss=kind, label_smoothing=smoothing))


def value_and_gradients(loss, tensors):
    value = loss(*tensors)
    return [value.detach(), *torch.autograd.grad(value, tensors, allow_unused=True, materialize_grads=True)]


KINDS = st.sampled_from(["infonce", "multi-positive", "sigmoid"])
GROUPS = st.integers(1, 3).flatmap(
    lambda columns: st.lists(st.lists(st.integers(-1, 2), min_size=columns, max_size=columns), min_size=2, max_size=9)
)


@settings(max_examples=60, deadline=None)
@given(KINDS, st.integers(0, 9999), GROUPS, st.sampled_from([0.0, 0.1]), st.sampled_from([1, 20, 1 << 22]))
def test_every_loss_is_its_definition_in_blocks_of_any_size(kind, seed, numbers, smoothing, block):
    groups, smoothing = torch.tensor(numbers), 0.0 if kind == "sigmoid" else smoothing
    loss, tensors = ours(kind, smoothing), batch(seed, len(groups))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocked, "BLOCK", block)
        found = value_and_gradients(lambda i, t, s, b: loss(i, t, s, groups, bias=b), tensors)
    wanted = value_and_gradients(
        lambda i, t, s, b: dense(kind, i, t, s, b, groups=groups, smoothing=smoothing), tensors
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(KINDS, st.integers(0, 9999), GROUPS, st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_shares_of_rows_add_up(kind, seed, numbers, cuts):
    """What lets several processes share the work; some may have no rows."""
    groups, loss, tensors = torch.tensor(numbers), ours(kind), batch(seed, len(numbers))
    ends = sorted([0, *(min(cut, len(groups)) for cut in cuts), len(groups)])

    def in_shares(i, t, s, b):
        rows = [slice(start, end) for start, end in pairwise(ends)]
        return sum(loss(i, t, s, groups, bias=b, rows=one) for one in rows)

    found = value_and_gradients(in_shares, tensors)
    wanted = value_and_gradients(lambda i, t, s, b: loss(i, t, s, groups, bias=b), tensors)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["infonce", "multi-positive", "sigmoid"])
def test_blocks_in_float32_are_exact_to_a_millionth(kind, monkeypatch):
    tensors = batch(1, 200, dim=64, dtype=torch.float32)
    groups = torch.randint(-1, 40, (200, 2), generator=torch.Generator().manual_seed(0))
    wanted = value_and_gradients(lambda i, t, s, b: dense(kind, i, t, s, b, groups=groups, smoothing=0.0), tensors)
    monkeypatch.setattr(_blocked, "BLOCK", 7 * 200)
    found = value_and_gradients(lambda i, t, s, b: ours(kind)(i, t, s, groups, bias=b), tensors)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        self.elements = max(self.elements, *made, 0)
        return found


@pytest.mark.parametrize("kind", ["infonce", "multi-positive", "sigmoid"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_memory_does_not_grow_with_the_square_of_the_batch(kind, with_bias, monkeypatch):
    monkeypatch.setattr(_blocked, "BLOCK", 2048)
    largest = {}
    for rows in (128, 256, 512):
        images, texts, scale, bias = batch(0, rows, dim=8)
        with Largest() as seen:
            groups = torch.arange(rows)[:, None] // 2
            loss = ours(kind)(images, texts, scale, groups, bias=bias if with_bias else None)
            loss.backward()
        largest[rows] = seen.elements
    # Of the block's size as long as vectors are smaller, and then of theirs.
    assert largest == {128: 2048, 256: 2048, 512: 4096}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 9), st.sampled_from([0.0, 0.2]))
def test_where_nothing_repeats_both_softmax_losses_are_one(seed, rows, smoothing):
    tensors = batch(seed, rows)
    groups = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:, None]
    one = value_and_gradients(lambda i, t, s, _: InfoNCE(label_smoothing=smoothing)(i, t, s, groups), tensors)
    other = value_and_gradients(lambda i, t, s, _: MultiPositive(label_smoothing=smoothing)(i, t, s, groups), tensors)
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_true_pairs_with_equal_captions_do_not_repel():
    """InfoNCE pushes an image away from its own caption when that stands twice in the batch; the other does not."""
    images = torch.eye(3)[[0, 0, 1]].requires_grad_()
    texts = torch.eye(3)[[0, 0, 1]]
    groups = torch.tensor([[0], [0], [1]])
    lowest = MultiPositive()(images, texts, torch.tensor(100.0), groups)
    assert lowest.item() == pytest.approx(2 / 3 * math.log(2))
    (gradient,) = torch.autograd.grad(lowest, images)
    assert gradient.abs().max() < 1e-5
    texts = torch.eye(3)
    for loss, repels in ((InfoNCE(), True), (MultiPositive(), False)):
        away = torch.autograd.grad(loss(images, texts, torch.tensor(5.0), groups), images)[0][0, 1]
        assert (away > 0) == repels


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_a_model_without_a_bias_gets_one_that_fits(noise, scale):
    """From pairs that are well apart from the others to pure chance: no constant would do much better."""
    images, texts, _, _ = batch(0, 128, dim=64)
    images, texts = images.detach(), torch.nn.functional.normalize(images + noise * texts, dim=1).detach()
    groups, scale = torch.arange(128)[:, None], torch.tensor(scale, dtype=torch.float64)
    tried = [Sigmoid()(images, texts, scale, groups, bias=-torch.tensor(float(bias))) for bias in range(100)]
    assert Sigmoid()(images, texts, scale, groups) < 1.25 * min(tried) + 1e-3


def test_a_batch_of_one_caption_has_no_negatives():
    images, texts, scale, _ = batch(0, 3)
    assert Sigmoid()(images, texts, scale, torch.zeros(3, 1)).isfinite()


@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_scale_may_have_a_dimension(shape):
    """As in open_clip's models with nonscalar_logit_scale."""
    images, texts, _, _ = batch(0, 4)
    scale, bias = torch.full(shape, 3.0, dtype=torch.float64, requires_grad=True), torch.zeros(shape).double()
    for kind in ("multi-positive", "sigmoid"):
        loss = ours(kind)(images, texts, scale, torch.arange(4)[:, None], bias=bias.requires_grad_())
        loss.backward()
        assert loss.shape == ()
        assert scale.grad.shape == shape


def test_captions_are_compared_as_tokenizers_see_them():
    numbers = caption_groups(["A road.", "a road.", " a  road.", "a road"])
    assert numbers.shape == (4, 1)
    assert numbers.min() >= 0
    assert (numbers == numbers[0]).flatten().tolist() == [True, True, True, False]
    assert caption_groups([]).shape == (0, 1)


def test_the_settings_choose():
    assert make_loss(TrainingConfig(loss="infonce", label_smoothing=0.1)) == InfoNCE(label_smoothing=0.1)
    assert make_loss(TrainingConfig()) == MultiPositive()
    assert make_loss(TrainingConfig(loss="sigmoid")) == Sigmoid()
