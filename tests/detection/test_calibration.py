"""Calibration from few labels: better probabilities, and no pretence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm import Record
from geovlm.detection import Calibration, calibrate, scan
from geovlm.detection._fit import best_threshold, fit_platt, held_out_f1, threshold_interval
from geovlm.errors import ConfigMismatch, StorageError, UnknownName, UsageError
from tests.detection.oracle import Oracle, paint, write


def sample(n, *, slope=1.0, intercept=0.0, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=3, size=n)
    return scores, rng.random(n) < 1 / (1 + np.exp(-(slope * scores + intercept)))


def test_many_labels_give_the_true_curve():
    scores, truth = sample(4000, slope=0.5, intercept=-1.0)
    slope, intercept, (low, high) = fit_platt(scores, truth)
    assert slope == pytest.approx(0.5, abs=0.05)
    assert intercept == pytest.approx(-1, abs=0.15)
    assert low < 0.5 < high
    assert high / low < 1.3


def test_the_interval_of_the_slope_has_the_true_one_in_it():
    inside = 0
    for seed in range(60):
        scores, truth = sample(60, slope=0.7, intercept=0.5, seed=seed)
        if truth.any() and not truth.all():
            low, high = fit_platt(scores, truth)[2]
            inside += low <= 0.7 <= high
    assert inside >= 51


def test_three_labels_move_little():
    slope, intercept, (low, high) = fit_platt(np.array([3.0, 2.0, -1.0]), np.array([True, True, False]))
    assert 0.5 < slope < 2.5
    assert abs(intercept) < 1.5
    assert high / low > 4


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(2, 40), st.floats(0.01, 200))
def test_any_labels_give_finite_fits_and_intervals_that_hold(seed, n, spread):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(scale=spread, size=n), 1)
    truth = rng.random(n) < 0.5
    truth[:2] = True, False
    slope, intercept, interval = fit_platt(scores, truth)
    assert slope > 0
    assert np.isfinite([slope, intercept, *interval]).all()
    low, high = threshold_interval(scores, truth, seed=1)
    assert low <= best_threshold(scores, truth) <= high
    f1, (worst, best) = held_out_f1(scores, truth)
    assert 0 <= worst <= f1 <= best <= 1


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(2, 30))
def test_no_threshold_has_a_better_f1(seed, n):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, n).astype(float)
    truth = rng.random(n) < 0.4
    truth[0] = True

    def f1(threshold):
        found = scores > threshold
        return 2 * (found & truth).sum() / (found.sum() + truth.sum())

    assert f1(best_threshold(scores, truth)) == pytest.approx(max(f1(t) for t in np.arange(-0.5, 8)))


def test_the_same_seed_gives_the_same_interval():
    scores, truth = sample(40)
    assert threshold_interval(scores, truth, seed=3) == threshold_interval(scores, truth, seed=3)


def tile(name, blue, *, label=None):
    """A green tile with a blue box of some side, and noise."""
    pixels = paint(64, 64, [(0, 0, blue, blue, "blue")] if blue else []).astype(int)
    noise = np.random.default_rng(len(name) + blue).integers(-25, 25, pixels.shape)
    image = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    return Record(id=name, image=image, label=label)


@pytest.fixture(scope="module")
def tiles():
    return [tile(f"{i}", 20 + i if i % 2 else 0, label="Blue" if i % 2 else "grass") for i in range(24)]


def test_calibrate_from_labels_of_records_or_given_ones(tiles):
    by_label = calibrate(tiles, "blue", Oracle(), against=["green"])
    given_ones = calibrate(tiles, "blue", Oracle(), labels=[i % 2 for i in range(24)], against=["green"])
    assert by_label == given_ones
    assert (by_label.positives, by_label.negatives) == (12, 12)
    assert by_label.f1 == 1
    assert by_label.f1_interval[0] < 0.9
    low, high = by_label.threshold_interval
    assert low < by_label.threshold < high
    assert "12 tiles with it" in str(by_label)


def test_few_labels_are_told(tiles):
    few = calibrate(tiles[:4], "blue", Oracle(), against=["green"])
    assert any("Only 2 tiles with it" in note for note in few.notes)
    assert any("as low as" in note for note in few.notes)
    low, high = few.threshold_interval
    assert high - low > 0.5


def test_a_scan_uses_it(tmp_path, tiles):
    path = write(tmp_path / "a.tif", paint(300, 200, [(64, 64, 160, 144, "blue")]))
    fitted = calibrate(tiles, "blue", Oracle(), against=["green"])
    plain = scan(path, ["blue", "red"], Oracle(), against=["green"])
    found = scan(path, ["blue", "red"], Oracle(), against=["green"], calibration=fitted)
    assert found.settings["threshold"] == {"blue": fitted.threshold, "red": 0.5}
    with np.errstate(divide="ignore"):
        logit = np.log(plain.heat_maps["blue"].scores / (1 - plain.heat_maps["blue"].scores), dtype=np.float64)
    expected = 1 / (1 + np.exp(-(fitted.slope * logit + fitted.intercept)))
    usable = np.isfinite(logit)
    np.testing.assert_allclose(found.heat_maps["blue"].scores[usable], expected[usable], atol=1e-3)
    np.testing.assert_array_equal(found.heat_maps["red"].scores, plain.heat_maps["red"].scores)
    given_threshold = scan(path, "blue", Oracle(), against=["green"], calibration=fitted, threshold=0.25)
    assert given_threshold.settings["threshold"] == {"blue": 0.25}


def test_one_of_other_settings_is_refused(tmp_path, tiles):
    path = write(tmp_path / "a.tif", paint(100, 100, []))
    fitted = calibrate(tiles, "blue", Oracle(), against=["green"])
    for changed in ({"against": ["red"]}, {"dense": False}, {"encoder": Oracle(fingerprint="other")}):
        call = {"encoder": Oracle(), "against": ["green"], **changed}
        with pytest.raises(ConfigMismatch, match="calibration of 'blue'"):
            scan(path, "blue", calibration=fitted, **call)
    with pytest.raises(UnknownName, match="blue"):
        scan(path, "red", Oracle(), against=["green"], calibration=fitted)


def test_it_is_kept_as_json(tmp_path, tiles):
    fitted = calibrate(tiles, "blue", Oracle(), against=["green"])
    path = fitted.save(tmp_path / "blue.json")
    assert Calibration.load(path) == fitted
    Calibration.load(path).check(fitted.settings)
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a calibration"):
        Calibration.load(path)
    path.write_text("{")
    with pytest.raises(StorageError, match="not valid JSON"):
        Calibration.load(path)
    with pytest.raises(UsageError, match="does not exist"):
        Calibration.load(tmp_path / "nothing.json")


def test_tiles_that_cannot_be_read_are_left_out_and_told(tiles):
    broken = Record(id="broken", image=b"?", label="blue")
    fitted = calibrate([*tiles, broken], "blue", Oracle(), against=["green"])
    assert fitted.positives == 12
    assert "broken" in fitted.notes[-1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"labels": [1]}, "24 tiles and 1 labels"),
        ({"labels": [2] * 24}, "Labels are 1"),
        ({"labels": [0] * 24}, "needs tiles that show"),
        ({"labels": [1] * 24}, "needs tiles that show"),
        ({"query": ["blue"]}, "one query at a time"),
        ({"query": "red"}, "needs tiles that show"),
        ({"tiles": []}, "needs tiles"),
        ({"tiles": ["a.jpg"]}, "Tiles are records"),
        ({"encoder": "name"}, "load_encoder"),
        ({"against": []}, "nothing to hold"),
    ],
)
def test_what_cannot_be_right_is_said(tiles, call, words):
    settled = {"tiles": tiles, "query": "blue", "encoder": Oracle(), "against": ["green"], **call}
    with pytest.raises(UsageError, match=words):
        calibrate(settled.pop("tiles"), settled.pop("query"), settled.pop("encoder"), **settled)


def test_a_calibration_is_checked_when_it_is_made():
    parts = {"query": "a", "slope_interval": (1, 2), "intercept": 0.0, "threshold_interval": (0, 1), "f1": 1.0}
    parts |= {"f1_interval": (0, 1), "positives": 1, "negatives": 1}
    for slope, threshold in ((0.0, 0.5), (1.0, 1.0), (math.nan, 0.5)):
        with pytest.raises(UsageError, match="slope above 0"):
            Calibration(slope=slope, threshold=threshold, **parts)
