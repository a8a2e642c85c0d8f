"""Values and gradients against loops, and when the two losses are the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovlm.training import TrainingConfig
from geovlm.training.losses import InfoNCE, MultiPositive, caption_groups, make_loss


def batch(seed, rows, dim=5):
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, rows, dim, generator=generator, dtype=torch.float64).unbind()
    images, texts = torch.nn.functional.normalize(images, dim=1), torch.nn.functional.normalize(texts, dim=1)
    return images.requires_grad_(), texts.requires_grad_(), torch.tensor(7.0, dtype=torch.float64, requires_grad=True)


def naive(images, texts, scale, groups, smoothing):
    """Every term of the definition, one by one."""
    rows = len(images)
    total = 0.0
    for left, right in ((images, texts), (texts, images)):
        for i in range(rows):
            scores = [scale * (left[i] * right[j]).sum() for j in range(rows)]
            below = torch.stack(scores).exp().sum().log()
            positives = [j for j in range(rows) if groups[j] == groups[i]]
            for j in range(rows):
                weight = smoothing / rows + (1 - smoothing) * (j in positives) / len(positives)
                total = total - weight * (scores[j] - below) / rows
    return total / 2


def value_and_gradients(loss, tensors):
    value = loss()
    return [value, *torch.autograd.grad(value, tensors)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.lists(st.integers(0, 3), min_size=2, max_size=7), st.sampled_from([0.0, 0.1]))
def test_multi_positive_is_its_definition(seed, groups, smoothing):
    tensors = batch(seed, len(groups))
    numbers = torch.tensor(groups)
    ours = value_and_gradients(lambda: MultiPositive(label_smoothing=smoothing)(*tensors, numbers), tensors)
    theirs = value_and_gradients(lambda: naive(*tensors, groups, smoothing), tensors)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 9), st.sampled_from([0.0, 0.2]))
def test_with_different_captions_both_losses_are_one(seed, rows, smoothing):
    tensors = batch(seed, rows)
    groups = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    one = value_and_gradients(lambda: InfoNCE(label_smoothing=smoothing)(*tensors, groups), tensors)
    other = value_and_gradients(lambda: MultiPositive(label_smoothing=smoothing)(*tensors, groups), tensors)
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_true_pairs_with_equal_captions_do_not_repel():
    """InfoNCE pushes an image away from its own caption when that stands twice in the batch; the other does not."""
    images = torch.eye(3)[[0, 0, 1]].requires_grad_()
    texts = torch.eye(3)[[0, 0, 1]]
    groups = torch.tensor([0, 0, 1])
    lowest = MultiPositive()(images, texts, torch.tensor(100.0), groups)
    assert lowest.item() == pytest.approx(2 / 3 * math.log(2))
    (gradient,) = torch.autograd.grad(lowest, images)
    assert gradient.abs().max() < 1e-5


def test_captions_are_compared_as_tokenizers_see_them():
    assert caption_groups(["A road.", "a road.", " a  road.", "a road"]).tolist() == [0, 0, 0, 1]
    assert caption_groups([]).tolist() == []


def test_the_settings_choose():
    assert make_loss(TrainingConfig(loss="infonce", label_smoothing=0.1)) == InfoNCE(label_smoothing=0.1)
    assert make_loss(TrainingConfig()) == MultiPositive()
