"""The schedule, what decays, the moving average, and learning rates that move nothing."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geovlm.errors import UsageError
from geovlm.training import TrainingConfig
from geovlm.training.optimization import (
    WeightAverage,
    learning_rate_at,
    make_optimizer,
    warmup_steps,
    warn_if_stuck,
)


@given(st.integers(1, 400), st.floats(0, 0.9))
def test_the_schedule_rises_to_its_peak_and_falls(steps, warmup):
    config = TrainingConfig(learning_rate=1e-3, warmup=warmup)
    rates = [learning_rate_at(step, config, steps) for step in range(steps)]
    first = warmup_steps(config, steps)
    assert all(0 < rate <= 1e-3 * (1 + 1e-12) for rate in rates)
    assert rates[:first] == sorted(rates[:first])
    assert rates[first:] == sorted(rates[first:], reverse=True)
    if first < steps:
        assert rates[first] == 1e-3


def test_a_warmup_that_does_not_end_is_an_error():
    assert warmup_steps(TrainingConfig(warmup=9), 10) == 9
    with pytest.raises(UsageError, match="does not end in a training of 10"):
        warmup_steps(TrainingConfig(warmup=10), 10)


def test_biases_and_norms_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["0.weight"]


def test_the_average_follows_weights_and_statistics():
    model = torch.nn.BatchNorm1d(2)
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
    model.num_batches_tracked += 7
    average.update(model, 0)
    assert average.state["weight"].tolist() == pytest.approx([2.8, 2.8])  # 0.1 of 1 and 0.9 of 3
    assert average.state["num_batches_tracked"] == 7
    average.update(model, 1000)
    assert average.state["weight"].tolist() == pytest.approx([2.9, 2.9])


def test_a_rate_below_the_spacing_of_floats_is_a_warning_with_numbers():
    model = torch.nn.Linear(64, 64)
    with torch.no_grad():
        model.weight.fill_(1.0)
    with pytest.warns(RuntimeWarning, match=r"learning_rate=3e-09 cannot move 99% .* Above 6e-08"):
        warn_if_stuck(model, 3e-9)
    assert torch.equal(model.weight + 3e-9, model.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_stuck(model, 1e-6)
        warn_if_stuck(torch.nn.Identity(), 1e-6)
