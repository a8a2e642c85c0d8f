"""Fine-tuning on this machine: the loss falls, what is saved is what was trained, and a kill changes nothing."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal

import pytest

from geovlm import FolderSource, PixtralClient, Record
from geovlm.errors import ConfigMismatch, TrainingDiverged, UsageError, WeightsError
from tests.mistral import scene
from tests.pixtral.test_chat_data import assistant, data_url, image_part, save, user

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402

from geovlm.pixtral._local_folder import find_folder  # noqa: E402
from geovlm.pixtral.tuning import FineTuningConfig, merge_adapter  # noqa: E402
from geovlm.pixtral.tuning import _lora as lora  # noqa: E402
from geovlm.training.checkpoints import Checkpoints, load  # noqa: E402

LABELS = ["Airport", "Beach", "Forest"]
CONFIG = {
    "epochs": 2,
    "batch_size": 4,
    "micro_batch_size": 2,
    "learning_rate": 1e-2,
    "precision": "float32",
    "lora_rank": 2,
    "device": "cpu",
    "checkpoint_interval": 1,
}


def records(count=10):
    return [Record(id=f"r{n}", image=scene(n), label=LABELS[n % 3]) for n in range(count)]


def connect(folder):
    return PixtralClient(str(folder), dtype="float32", device="cpu", max_tokens=12)


def tune(folder, out, source=None, *, val=None, labels=LABELS, **changes):
    config = FineTuningConfig(**{**CONFIG, **changes})
    return connect(folder).fine_tune(source or records(), labels=labels, val=val, out=out, config=config)


def logits(model, folder, record):
    """Of a model in memory, for the question about one record."""
    client = connect(folder)
    ids, pixels = client._local.renderer.prompt(client.requests.classify(record, LABELS).messages)
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), **pixels).logits


def scenes_of(shared_data):
    """A dozen scenes of three classes."""
    found = {}
    for record in FolderSource(shared_data / "aid" / "images"):
        found.setdefault(record.label, []).append(record)
    classes = sorted(found)[:3]
    return classes, [record for name in classes for record in found[name][:4]]


def test_the_loss_falls_on_real_scenes_and_what_is_saved_is_what_was_trained(
    model_folder, shared_data, tmp_path, monkeypatch
):
    classes, scenes = scenes_of(shared_data)
    kept = []
    save_adapter = lora.save_adapter
    monkeypatch.setattr(lora, "save_adapter", lambda model, folder: (kept.append(model), save_adapter(model, folder)))
    tuning = tune(model_folder, tmp_path / "run", scenes, labels=classes, val=scenes[:2], epochs=5, train="all")
    result = tuning.wait()
    assert (result.report.done, result.report.failed) == (12, 0)
    train = [point.train for point in result.losses if point.train is not None]
    assert len(train) == 15
    adapters = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    for part in ("language_model", "vision_tower", "multi_modal_projector"):
        assert all(matrix.any() for name, matrix in adapters.items() if part in name), part
        assert any(part in name for name in adapters)
    assert train[-1] < 0.7 * train[0]
    val = [point.val for point in result.losses if point.val is not None]
    assert len(val) == 6
    assert val[-1] < 0.7 * val[0]
    assert list(result.to_pandas().columns) == ["step", "train", "val"]

    in_memory = kept[0].eval()
    merged = merge_adapter(result.model, tmp_path / "merged")
    expected = logits(in_memory, model_folder, scenes[0])
    changed = logits(
        find_folder(model_folder).weights(device=expected.device, dtype=torch.float32), model_folder, scenes[0]
    )
    assert (expected - changed).abs().max() > 0.1
    texts = set()
    for path in (result.model, merged):
        model = find_folder(path).weights(device=expected.device, dtype=torch.float32)
        torch.testing.assert_close(logits(model, model_folder, scenes[0]), expected, rtol=1e-5, atol=1e-5)
        client = PixtralClient(str(path), dtype="float32", max_tokens=12)
        texts.add(tuple(answer.text for answer in client.classify(scenes[:3], classes)))
    client = connect(model_folder)
    client._local._model = in_memory
    texts.add(tuple(answer.text for answer in client.classify(scenes[:3], classes)))
    assert len(texts) == 1


def killed_at(folder, out, where):
    """Run in a child that kills itself at a place."""

    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def child():
        save, name = Checkpoints.save, where.partition(" ")[2]
        if where.startswith("before step"):
            Checkpoints.save = lambda self, state, **more: (
                kill() if state["step"] == int(name[5:]) else save(self, state, **more)
            )
        elif where.startswith("after step"):
            Checkpoints.save = lambda self, state, **more: (
                save(self, state, **more),
                state["step"] == int(name[5:]) and kill(),
            )
        elif where == "before the adapter":
            lora.save_adapter = kill
        else:
            lora.to_disk = kill
        tune(folder, out, val=records(2)).wait()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def contents(out):
    """What a run leaves, without the paths of its folder."""
    adapter = (out / "adapter" / "adapter_model.safetensors").read_bytes()
    return adapter, (out / "metrics.jsonl").read_text(), (out / "report.json").read_text()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_goes_on_to_the_same_bytes(pixtral_folder, tmp_path):
    tune(pixtral_folder, tmp_path / "whole", val=records(2)).wait()
    expected = contents(tmp_path / "whole")
    out = tmp_path / "killed"
    for where in (
        "before step 1",
        "after step 2",
        "before step 4",
        "after step 6",
        "before the adapter",
        "in the adapter",
    ):
        killed_at(pixtral_folder, out, where)
        assert not (out / "adapter").exists()
    result = tune(pixtral_folder, out, val=records(2)).wait()
    assert contents(out) == expected
    assert (result.report.total, result.val_report.done) == (10, 2)
    assert len(list((out / "checkpoints").glob("step-*.pt"))) == 2
    assert not list(out.glob(".*.tmp"))
    assert all(".language_model." in name for name in load_file(out / "adapter" / "adapter_model.safetensors"))
    newest = load(sorted((out / "checkpoints").glob("step-*.pt"))[-1])
    assert newest["step"] == 6


def test_dropout_is_the_same_after_a_pause(pixtral_folder, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    run = {"lora_dropout": 0.3, "epochs": 1}
    tune(pixtral_folder, tmp_path / "whole", **run).wait()
    save_checkpoint = Checkpoints.save

    def stop(self, state, **more):
        save_checkpoint(self, state, **more)
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop)
        for _ in range(2):
            torch.rand(3)  # the program's own random numbers do not matter
            with pytest.raises(Stop):
                tune(pixtral_folder, tmp_path / "paused", **run).wait()
    before = torch.random.get_rng_state()
    tune(pixtral_folder, tmp_path / "paused", **run).wait()
    assert contents(tmp_path / "paused") == contents(tmp_path / "whole")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_failures_are_counted_and_a_finished_run_is_only_read(pixtral_folder, tmp_path, monkeypatch):
    odd = [Record(id="broken", image=b"", label="Beach"), Record(id="outside", image=scene(1), label="Moon")]
    large = Record(id="large", image=scene(3, (64, 64)), label="Beach")
    small = [Record(id=f"r{n}", image=scene(n, (16, 16)), label="Beach") for n in range(4)]
    out = tmp_path / "run"
    changes = {"epochs": 1, "max_length": 90}
    tuning = tune(pixtral_folder, out, [*odd, large, *small], **changes)
    lengths = tuning.wait().report
    assert {failure.id: failure.stage for failure in lengths.failures} == {
        "broken": "decode",
        "outside": "export",
        "large": "prepare",
    }
    assert (lengths.done, lengths.total) == (4, 7)
    with monkeypatch.context() as patch:
        patch.setattr(type(tuning), "_run", None)
        again = tune(pixtral_folder, out, [*odd, large, *small], **changes).wait()
    assert again.report == lengths
    assert again.losses == tuning.losses
    with pytest.raises(ConfigMismatch, match="lora_rank"):
        tune(pixtral_folder, out, [*odd, large, *small], **changes, lora_rank=3).wait()
    with pytest.raises(ConfigMismatch, match="other records"):
        tune(pixtral_folder, out, small, **changes)
    with pytest.raises(UsageError, match=r"Not one of 4 examples.*max_length=9"):
        tune(pixtral_folder, tmp_path / "none", small, max_length=9).wait()


def test_given_files_and_another_base_are_taken(pixtral_folder, tmp_path):
    path = save(tmp_path / "a.jsonl", [user(image_part(data_url(1))), assistant("A beach.")], {"bad": 1})
    client = PixtralClient("m", base_url="http://127.0.0.1:1")
    config = FineTuningConfig(**{**CONFIG, "epochs": 1, "gradient_checkpointing": True, "precision": "bfloat16"})
    result = client.fine_tune(path, out=tmp_path / "run", base=pixtral_folder, config=config).wait()
    assert (result.report.done, result.report.failures[0].id) == (1, f"{path}:2")
    assert all(math.isfinite(point.train) for point in result.losses)
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(pixtral_folder)
    with pytest.raises(UsageError, match="merge it first"):
        PixtralClient(result.model).fine_tune(path, out=tmp_path / "next")
    with pytest.raises(UsageError, match="leave labels= out"):
        client.fine_tune(path, labels=LABELS, out=tmp_path / "next", base=pixtral_folder)
    with pytest.raises(UsageError, match="give base="):
        client.fine_tune(path, out=tmp_path / "next")
    with pytest.raises(UsageError, match="from a model at a service"):
        PixtralClient(result.model).fine_tune(path, out=tmp_path / "next", backend="hosted")
    with pytest.raises(UsageError, match="'local' or 'hosted'"):
        client.fine_tune(path, out=tmp_path / "next", backend="here")
    with pytest.raises(UsageError, match="not empty"):
        merge_adapter(result.model, tmp_path)
    with pytest.raises(UsageError, match="nothing to merge"):
        merge_adapter(pixtral_folder, tmp_path / "merged")
    weights = tmp_path / "run" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        connect(result.model).ask("Hello")


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(pixtral_folder, tmp_path):
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        tune(pixtral_folder, tmp_path, learning_rate=1.0, epochs=200, max_grad_norm=None, lora_alpha=1e30).wait()
    assert not (tmp_path / "adapter").exists()


def test_the_own_model_is_let_go_before_training(pixtral_folder, tmp_path):
    client = connect(pixtral_folder)
    client.ask("Hello")
    client.fine_tune(records(2), labels=LABELS, out=tmp_path, config=FineTuningConfig(**{**CONFIG, "epochs": 1})).wait()
    assert client._local._model is None
