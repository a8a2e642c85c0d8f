"""Training as a whole, with the real libraries: what it learns, what it leaves alone, what it says."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from geovlm import load_encoder
from geovlm._files import locked
from geovlm.errors import ConfigMismatch, RunLocked, StorageError, TrainingDiverged, UsageError
from geovlm.records import Record
from geovlm.testing import HashEncoder
from geovlm.training import Augmentation, ContrastiveTrainer, Scores, TrainingConfig, TrainingResult
from geovlm.training.checkpoints import load
from geovlm.training.data import Batch
from geovlm.training.learner import Learner
from geovlm.training.losses import MultiPositive
from geovlm.training.validation import HeldOut
from tests.training.conftest import fields

FAST = {"epochs": 2, "batch_size": 12, "learning_rate": 1e-3, "precision": "float32"}


def config(**settings):
    return TrainingConfig(**{**FAST, **settings})


def weights(encoder):
    return {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_and_leaves_the_base_alone(kind, precision, encoders, tmp_path):
    base = encoders[kind]
    before, fingerprint = weights(base), base.fingerprint
    modes = [module.training for module in base.model.modules()]
    train, val = fields(36), fields(6, start=36)
    rng = torch.get_rng_state()
    trainer = ContrastiveTrainer(base, config(epochs=8, learning_rate=3e-3, precision=precision))
    result = trainer.fit(train, val=val, out=tmp_path)

    history = result.history.to_pandas()
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[1]
    assert result.improved
    assert result.report.after.mean_recall > 0.9
    assert result.report.after.loss < result.report.before.loss

    assert same(weights(base), before)
    assert base.fingerprint == fingerprint
    assert [module.training for module in base.model.modules()] == modes
    assert all(parameter.grad is None for parameter in base.model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)

    tuned = result.encoder
    assert type(tuned) is type(base)
    assert (tuned.dtype, tuned.device) == (base.dtype, base.device)
    assert tuned.fingerprint != base.fingerprint
    again = load_encoder(tmp_path / "encoder", device="cpu", dtype="float32")
    assert again.fingerprint == tuned.fingerprint
    np.testing.assert_array_equal(again.encode_texts(["a red field"]), tuned.encode_texts(["a red field"]))
    assert result.data.done == 42


def test_the_result_computes_as_its_base_did_and_keeps_exact_weights(encoders, tmp_path):
    base = load_encoder(encoders.folder("open_clip"), device="cpu", dtype="bfloat16")
    result = ContrastiveTrainer(base, config(epochs=1)).fit(fields(12), out=tmp_path)
    assert result.encoder.dtype == "bfloat16"
    assert {tensor.dtype for tensor in weights(result.encoder).values()} == {torch.float32}


def test_the_report_compares_on_the_same_pairs(base, tmp_path):
    val = [*fields(5), Record(id="gone", image="nowhere.jpg", captions=["a lost field"])]
    result = ContrastiveTrainer(base, config(epochs=1)).fit(fields(12), val=val, out=tmp_path)
    table = result.report.to_pandas()
    assert list(table.columns) == ["before", "after", "change"]
    ways = [f"{way} R@{k}" for way in ("image→text", "text→image") for k in (1, 5, 10)]
    assert list(table.index) == ["loss", *ways, "mean recall"]
    rows = result.history.to_pandas()
    assert list(rows.columns[:5]) == ["epoch", "step", "train_loss", "learning_rate", "logit_scale"]
    assert list(rows.columns[5:]) == [f"val {name}" for name in table.index]
    # Five of six images can be found, and ten of eleven captions; the lost pair is missed, not left out.
    assert table.loc["image→text R@10", "after"] == pytest.approx(5 / 6)
    assert table.loc["text→image R@10", "after"] == pytest.approx(10 / 11)
    assert "on 6 held-out pairs" in str(result.report)
    assert "<table" in result.report._repr_html_()
    assert "<table" in result.history._repr_html_()
    assert [f.id for f in result.data.failures] == ["gone"]


def test_without_held_out_pairs_the_last_weights_come_out(base, tmp_path):
    result = ContrastiveTrainer(base, config()).fit(iter(fields(12)), out=tmp_path)
    assert not result.improved
    assert "give val=" in str(result.report)
    assert "give val=" in result.report._repr_html_()
    assert result.report.to_pandas().empty
    assert result.encoder.fingerprint != base.fingerprint


def test_a_finished_run_is_opened_and_not_repeated(base, tmp_path, monkeypatch):
    first = ContrastiveTrainer(base, config()).fit(fields(12), val=fields(3), out=tmp_path)
    monkeypatch.setattr(Learner, "step", None)
    # Pace and memory do not decide the result, so they may differ.
    again = ContrastiveTrainer(base, config(cache_bytes=0, checkpoints_kept=5)).fit(
        fields(12), val=fields(3), out=tmp_path
    )
    assert again.encoder.fingerprint == first.encoder.fingerprint
    assert (again.report, again.history) == (first.report, first.history)
    assert (again.data.done, again.data.skipped) == (0, 15)
    assert TrainingResult.open(tmp_path).encoder.fingerprint == first.encoder.fingerprint


def test_another_run_in_the_same_directory_is_refused(base, encoders, tmp_path):
    ContrastiveTrainer(base, config(epochs=1)).fit(fields(12), out=tmp_path)
    with pytest.raises(ConfigMismatch, match="epochs: 1 then, 2 now"):
        ContrastiveTrainer(base, config()).fit(fields(12), out=tmp_path)
    with pytest.raises(ConfigMismatch, match="train: "):
        ContrastiveTrainer(base, config(epochs=1)).fit(fields(13), out=tmp_path)
    with pytest.raises(ConfigMismatch, match="val: None then"):
        ContrastiveTrainer(base, config(epochs=1)).fit(fields(12), val=fields(2), out=tmp_path)
    with pytest.raises(ConfigMismatch, match="encoder: "):
        ContrastiveTrainer(encoders["clip"], config(epochs=1)).fit(fields(12), out=tmp_path)
    with pytest.raises(UsageError, match="holds no training"):
        TrainingResult.open(tmp_path / "encoder")


def test_two_trainings_do_not_share_a_directory(base, tmp_path):
    with locked(tmp_path), pytest.raises(RunLocked):
        ContrastiveTrainer(base, config()).fit(fields(12), out=tmp_path)


@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip"])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_frozen_tower_stays(kind, tower, encoders, tmp_path):
    base = encoders[kind]
    result = ContrastiveTrainer(base, config(epochs=1, freeze=tower)).fit(fields(12), out=tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, base.image_size, base.image_size, 3), dtype=np.uint8)
    images = [encoder.encode_pixels(pixels) for encoder in (base, result.encoder)]
    texts = [encoder.encode_texts(["a red field", "sea"]) for encoder in (base, result.encoder)]
    frozen, trained = (images, texts) if tower == "image" else (texts, images)
    np.testing.assert_array_equal(*frozen)
    assert not np.array_equal(*trained)
    assert result.encoder.logit_scale != base.logit_scale


def test_the_scale_stays_within_its_limit(base):
    """CLIP's limit is 100; a model that was trained above it, as SigLIP's are, may stay there."""
    pixels = np.zeros((2, base.image_size, base.image_size, 3), dtype=np.uint8)
    for start, limit in ((14.3, 100), (117.0, 117)):
        encoder = base.copy()
        with torch.no_grad():
            encoder.model.logit_scale.fill_(math.log(start))
        learner = Learner(encoder, config(), steps=9)
        with torch.no_grad():
            learner.model.logit_scale.fill_(math.log(300))
        learner.step(5, Batch(pixels=pixels, captions=["a red field", "sea"]))
        assert learner.logit_scale == pytest.approx(limit)


def test_the_history_has_a_row_an_epoch(base, tmp_path, monkeypatch):
    step, losses = Learner.step, []
    monkeypatch.setattr(Learner, "step", lambda *args: losses.append(step(*args)) or losses[-1])
    rows = ContrastiveTrainer(base, config(epochs=3)).fit(fields(30), val=fields(3), out=tmp_path).history.rows
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 0), (1, 3), (2, 6), (3, 9)]
    assert [row["train_loss"] for row in rows[1:]] == [pytest.approx(np.mean(losses[at : at + 3])) for at in (0, 3, 6)]


def test_the_average_of_weights_is_what_comes_out(base, tmp_path):
    plain = ContrastiveTrainer(base, config()).fit(fields(24), val=fields(3), out=tmp_path / "plain")
    mean = ContrastiveTrainer(base, config(average=0.9)).fit(fields(24), val=fields(3), out=tmp_path / "mean")
    # The weights that learn are the same; those that are scored and returned are not.
    losses = [result.history.to_pandas()["train_loss"].to_list()[1:] for result in (plain, mean)]
    assert losses[0] == losses[1]
    assert plain.encoder.fingerprint != mean.encoder.fingerprint


def test_the_best_epoch_is_returned_and_patience_ends_the_run(base, tmp_path, monkeypatch):
    recalls = iter([0.5, 0.3, 0.4, 0.4, 0.2, 0.9])
    seen = []

    def scripted(_, encoder):
        seen.append(encoder.fingerprint)
        recall = next(recalls)
        return Scores(loss=1.0 - len(seen) / 100, image_to_text={1: recall}, text_to_image={1: recall})

    monkeypatch.setattr(HeldOut, "score", scripted)
    trainer = ContrastiveTrainer(base, config(epochs=9, patience=1))
    result = trainer.fit(fields(12), val=fields(3), out=tmp_path)
    # Epochs 2 and 3 have the same recall; the loss of epoch 3 is lower, so it is an improvement. Epoch 4 is none.
    assert len(result.history.rows) == 5
    assert result.encoder.fingerprint == seen[3]
    assert result.report.after.mean_recall == 0.4
    assert not result.improved


def test_broken_images_are_counted_and_cost_nothing_else(base, tmp_path):
    train = [
        *fields(12),
        Record(id="half", image=b"\xff\xd8\xff", captions=["a broken field"]),
        Record(id="mute", image=Image.new("RGB", (9, 9))),
        Record(id="text", captions=["a field without a picture"]),
    ]
    result = ContrastiveTrainer(base, config()).fit(train, out=tmp_path)
    assert {f.id: f.stage for f in result.data.failures} == {"half": "decode", "mute": "read", "text": "decode"}
    assert (result.data.done, result.data.total) == (12, 15)
    assert TrainingResult.open(tmp_path).data.failures == result.data.failures


def test_only_broken_images_is_an_error(base, tmp_path):
    train = [Record(id=str(n), image=b"", captions=[f"field {n}"]) for n in range(8)]
    with pytest.raises(UsageError, match=r"No batch had two images that could be read.*the file is empty"):
        ContrastiveTrainer(base, config()).fit(train, out=tmp_path)


def test_only_broken_held_out_images_is_an_error_before_training(base, tmp_path, monkeypatch):
    monkeypatch.setattr(Learner, "step", None)
    val = [Record(id="gone", image="nowhere.jpg", captions=["a field"])]
    with pytest.raises(UsageError, match=r"None of the held-out images can be read.*nowhere.jpg: decode: the file"):
        ContrastiveTrainer(base, config()).fit(fields(12), val=val, out=tmp_path)


@pytest.mark.parametrize("count", [2, 13])
def test_sets_smaller_than_a_batch(count, base, tmp_path):
    result = ContrastiveTrainer(base, config(batch_size=500, epochs=1)).fit(fields(count), out=tmp_path)
    assert result.history.rows[-1]["step"] == 1


def test_wrong_calls_say_what_to_do(base, tmp_path):
    with pytest.raises(UsageError, match="A HashEncoder cannot be trained"):
        ContrastiveTrainer(HashEncoder())
    with pytest.raises(UsageError, match="patience needs held-out pairs"):
        ContrastiveTrainer(base, config(patience=2)).fit(fields(12), out=tmp_path)
    with pytest.raises(UsageError, match="The source is empty"):
        ContrastiveTrainer(base).fit([], out=tmp_path)
    with pytest.raises(UsageError, match="val has 0 records"):
        ContrastiveTrainer(base).fit(fields(12), val=[], out=tmp_path)
    with pytest.raises(UsageError, match="does not end in a training of 2"):
        ContrastiveTrainer(base, config(warmup=5)).fit(fields(12), out=tmp_path)
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_an_unfinished_run_is_not_opened(base, tmp_path, monkeypatch):
    interrupted(ContrastiveTrainer(base, config()), 0, monkeypatch, tmp_path)
    with pytest.raises(UsageError, match="not finished; repeat the fit"):
        TrainingResult.open(tmp_path)


def test_a_rate_that_moves_nothing_is_a_warning(base, tmp_path):
    with pytest.warns(RuntimeWarning, match="learning_rate=1e-10 cannot move"):
        ContrastiveTrainer(base, config(epochs=1, learning_rate=1e-10)).fit(fields(12), out=tmp_path)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_divergence_stops_and_keeps_the_last_good_checkpoint(broken, base, tmp_path, monkeypatch):
    compare, calls = MultiPositive.__call__, iter(range(99))

    def exploding(*args, **settings):
        loss = compare(*args, **settings)
        if next(calls) < 2:
            return loss
        if broken == "loss":
            return loss * math.nan
        loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    monkeypatch.setattr(MultiPositive, "__call__", exploding)
    trainer = ContrastiveTrainer(base, config(epochs=4, checkpoint_interval=1))
    with pytest.raises(
        TrainingDiverged, match=r"at step 2: .*learning rate of .*learning_rate.*step-00000002"
    ) as caught:
        trainer.fit(fields(12), out=tmp_path)
    assert caught.value.step == 2
    state = load(tmp_path / "checkpoints" / "step-00000002.pt")
    assert all(tensor.isfinite().all() for tensor in state["learner"]["model"].values())


def interrupted(trainer, at, monkeypatch, tmp_path, error=KeyboardInterrupt):
    """Fit until step `at`, where something ends it."""
    step = Learner.step

    def stopping(self, number, batch):
        if number == at:
            raise error
        return step(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stopping)
        with pytest.raises(error):
            trainer.fit(fields(26), val=fields(5), out=tmp_path)


@pytest.mark.parametrize("kind", ["open_clip", "clip"])
def test_a_stopped_run_ends_with_the_same_bytes(kind, encoders, tmp_path, monkeypatch):
    """With dropout, the moving average, colour changes and a broken image, all of which have state or draw numbers."""
    base = encoders[kind].copy()
    for module in base.model.modules():
        if type(module).__name__ == "CLIPAttention":
            module.dropout = 0.2
    settings = config(epochs=3, average=0.9, checkpoint_interval=1, augmentation=Augmentation(color=0.3), patience=3)
    trainer = ContrastiveTrainer(base, settings)
    val = fields(5)
    whole = trainer.fit(fields(26), val=val, out=tmp_path / "whole")
    for at in (0, 4, 6, 8):
        interrupted(trainer, at, monkeypatch, tmp_path / "cut")
    resumed = trainer.fit(fields(26), val=val, out=tmp_path / "cut")
    assert same(weights(whole.encoder), weights(resumed.encoder))
    assert (tmp_path / "whole/manifest.json").read_bytes() == (tmp_path / "cut/manifest.json").read_bytes()


def test_a_damaged_checkpoint_is_passed_over(base, tmp_path, monkeypatch):
    trainer = ContrastiveTrainer(base, config(checkpoint_interval=1))
    whole = trainer.fit(fields(26), val=fields(5), out=tmp_path / "whole")
    interrupted(trainer, 4, monkeypatch, tmp_path / "cut")
    newest = tmp_path / "cut/checkpoints/step-00000004.pt"
    newest.write_bytes(newest.read_bytes()[:5000])
    with pytest.warns(RuntimeWarning, match="step-00000004.pt cannot be read"):
        resumed = trainer.fit(fields(26), val=fields(5), out=tmp_path / "cut")
    assert same(weights(whole.encoder), weights(resumed.encoder))


def test_dropout_is_on_in_training_and_off_in_a_frozen_tower(encoders):
    base = encoders["clip"].copy()
    for module in base.model.modules():
        if type(module).__name__ == "CLIPAttention":
            module.dropout = 0.5
    captions = ["a red field", "sea"]
    pixels = np.zeros((2, base.image_size, base.image_size, 3), dtype=np.uint8)

    def features(frozen):
        learner = Learner(base, config(freeze=frozen), steps=9)
        forward, seen = learner.encoder.text_features, []
        learner.encoder.text_features = lambda tokens: seen.append(forward(tokens)) or seen[0]
        learner.step(0, Batch(pixels=pixels, captions=captions))
        return seen[0]

    plain = base.text_features(base.tokenize(captions))
    torch.testing.assert_close(features("text"), plain)
    assert not torch.allclose(features("none"), plain)


def test_a_full_disk_leaves_the_run_ready_to_go_on(base, tmp_path, monkeypatch):
    trainer = ContrastiveTrainer(base, config(checkpoint_interval=1))
    whole = trainer.fit(fields(26), val=fields(5), out=tmp_path / "whole")
    interrupted(trainer, 3, monkeypatch, tmp_path / "cut")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(StorageError, match="No space left"):
            trainer.fit(fields(26), val=fields(5), out=tmp_path / "cut")
    resumed = trainer.fit(fields(26), val=fields(5), out=tmp_path / "cut")
    assert same(weights(whole.encoder), weights(resumed.encoder))


def test_no_warning_in_a_usual_run(base, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ContrastiveTrainer(base, config(epochs=1)).fit(fields(12), val=fields(3, start=12), out=tmp_path)
