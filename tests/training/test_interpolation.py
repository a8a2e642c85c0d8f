"""Mixes of weights and of encoders, and the choice among them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import geovlm as gv
from geovlm.errors import UsageError
from geovlm.testing import HashEncoder
from geovlm.training.interpolation import SHARES, best_mix, interpolate
from tests import models


@given(st.floats(0, 1), st.integers(0, 100))
def test_mixes_lie_on_the_line_and_the_ends_are_exact(share, seed):
    torch.manual_seed(seed)
    base, tuned = ({"w": torch.randn(4), "count": torch.tensor(number)} for number in (3, 7))
    mixed = interpolate(base, tuned, share)
    assert torch.allclose(mixed["w"], base["w"] + share * (tuned["w"] - base["w"]), atol=1e-6)
    assert mixed["count"] == 7
    assert torch.equal(interpolate(base, tuned, 0)["w"], base["w"])
    assert torch.equal(interpolate(base, tuned, 1)["w"], tuned["w"])
    assert mixed["w"].data_ptr() not in {base["w"].data_ptr(), tuned["w"].data_ptr()}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_beyond_the_two_are_refused(share):
    with pytest.raises(UsageError, match="share is a number from 0"):
        interpolate({"w": torch.zeros(1)}, {"w": torch.ones(1)}, share)


def test_states_of_two_architectures_are_refused_by_name():
    with pytest.raises(UsageError, match=r"two architectures \(only one of them has 'b'\)"):
        interpolate({"w": torch.zeros(1)}, {"w": torch.zeros(1), "b": torch.zeros(1)}, 0.5)
    with pytest.raises(UsageError, match=r"'w' has another shape"):
        interpolate({"w": torch.zeros(1)}, {"w": torch.zeros(2)}, 0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=len(SHARES), max_size=len(SHARES)))
def test_the_best_mix_is_the_largest_of_the_best(values):
    table = dict(zip(SHARES, values, strict=True))
    share, scores = best_mix(table.__getitem__)
    assert scores == table
    assert share == max(one for one, value in table.items() if value == max(values))


@pytest.fixture(params=["open_clip", "clip"])
def pair(request, encoders):
    """An encoder, and the same tuned a little."""
    base = encoders[request.param]
    tuned = base.copy()
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in tuned.model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    return base, tuned


def test_a_mixed_encoder_is_one_of_its_own(pair, tmp_path):
    base, tuned = pair
    prints = base.fingerprint, tuned.fingerprint
    mix = gv.interpolate(base, tuned, share=0.25)
    assert (base.fingerprint, tuned.fingerprint) == prints
    assert mix.fingerprint not in prints
    assert mix.name == f"0.25 {tuned.name} + 0.75 {base.name}"
    assert mix.logit_scale == pytest.approx(base.logit_scale**0.75 * tuned.logit_scale**0.25, rel=1e-5)
    mix.save(tmp_path / "mix")
    opened = gv.load_encoder(tmp_path / "mix", device="cpu", dtype="float32")
    assert opened.fingerprint == mix.fingerprint
    assert opened.encode_texts(["a lake"]) == pytest.approx(mix.encode_texts(["a lake"]), abs=1e-6)


def test_the_ends_are_the_encoders_themselves(pair):
    base, tuned = pair
    assert gv.interpolate(base, tuned, share=1).fingerprint == tuned.fingerprint
    assert gv.interpolate(base, tuned, share=0).fingerprint == base.fingerprint


def test_a_mix_computes_in_the_precision_of_the_tuned(pair):
    base, tuned = pair
    mix = gv.interpolate(base, tuned.copy(dtype="bfloat16"), share=0.5)
    assert mix.dtype == "bfloat16"
    assert mix.fingerprint == gv.interpolate(base, tuned, share=0.5).fingerprint


def test_encoders_that_do_not_belong_together_are_refused(encoders, tmp_path):
    base = encoders["open_clip"]
    with pytest.raises(UsageError, match="two encoders of one library"):
        gv.interpolate(base, encoders["clip"], share=0.5)
    with pytest.raises(UsageError, match="A HashEncoder has no weights to mix"):
        gv.interpolate(base, HashEncoder(), share=0.5)
    # Equal shapes, another activation.
    other = gv.load_encoder(models.openclip_folder(tmp_path / "quick", quick_gelu=True), device="cpu", dtype="float32")
    with pytest.raises(UsageError, match="differ in their config"):
        gv.interpolate(base, other, share=0.5)
    other = models.openclip_folder(tmp_path / "mean", preprocess={"mean": (0.5, 0.5, 0.5)})
    with pytest.raises(UsageError, match="differ in their preprocessing"):
        gv.interpolate(base, gv.load_encoder(other, device="cpu", dtype="float32"), share=0.5)
