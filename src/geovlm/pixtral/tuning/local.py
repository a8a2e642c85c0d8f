"""Fine-tuning here: adapters on a model in a folder, by transformers and peft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict

from geovlm._files import read_json, write_json
from geovlm._parts import Parts, read_manifest
from geovlm.errors import UsageError
from geovlm.pixtral.tuning._examples import Examples, find_examples
from geovlm.pixtral.tuning.values import LossPoint, TuningResult
from geovlm.records import Failure, Report

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from geovlm.pixtral._local_folder import LocalFolder
    from geovlm.pixtral._rendering import Renderer
    from geovlm.pixtral.chat_data import ChatData
    from geovlm.pixtral.tuning._data import TuningData
    from geovlm.pixtral.tuning.config import FineTuningConfig

__all__ = ["LocalTuning", "merge_adapter"]

KIND = "fine-tuning"


def merge_adapter(adapter: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write a whole model with an adapter's changes in its weights: faster to run, and what other programs read.

    Args:
        adapter: The folder of an adapter that `fine_tune` made.
        out: A new or empty folder.

    Returns:
        The folder; `PixtralClient(folder)` answers from it.

    Raises:
        UsageError: There is no adapter, or `out` is not empty.
        WeightsError: The adapter does not fit its model.
        MissingExtra: transformers or peft is not installed.

    Examples:
        >>> merge_adapter("run/tune/adapter", "models/pixtral-12b-aid")  # doctest: +SKIP
        PosixPath('models/pixtral-12b-aid')
        >>> merge_adapter("no/adapter", "out")
        Traceback (most recent call last):
        ...
        geovlm.errors.UsageError: ...no/adapter does not exist.
    """
    from geovlm.pixtral.tuning._lora import merge

    folder = Path(out).absolute()
    merge(adapter, folder)
    return folder


class LocalTuning:
    """A fine-tuning on this machine, ready to run; `PixtralClient.fine_tune` makes it.

    The folder of the run holds `data/` (the conversations), `checkpoints/`, `metrics.jsonl` (the loss) and, at the end,
    `adapter/`, which `PixtralClient` takes as its model. After a kill the same call goes on from the newest checkpoint,
    and on a CPU ends with the same bytes.

    Args:
        base: The model that is tuned, as a folder.
        renderer: Turns conversations into tokens by the model's own template.
        data: The conversations, and those that are held out.
        config: How to train.
        out: The folder of the run.
        release: Called before training, so that one model is in memory and not two.

    Attributes:
        data: The conversations, and those that are held out.
        out: The folder of the run.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import PixtralClient, Record
        >>> from geovlm.testing.tiny_pixtral import save_tiny_pixtral
        >>> scenes = [Record(id=name, image=Image.new("RGB", (32, 32)), label=name) for name in ("Beach", "Port")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     client = PixtralClient(str(save_tiny_pixtral(folder + "/model")))
        ...     tuning = client.fine_tune(scenes, labels=["Beach", "Port"], out=folder + "/tune")
        >>> isinstance(tuning, LocalTuning), tuning.data.train.report.done
        (True, 2)
    """

    backend = "local"

    def __init__(
        self,
        *,
        base: LocalFolder,
        renderer: Renderer,
        data: TuningData,
        config: FineTuningConfig,
        out: Path,
        release: Callable[[], None],
    ) -> None:
        self.data: TuningData = data
        self.out: Path = out
        self._base, self._renderer, self._config, self._release = base, renderer, config, release

    @property
    def losses(self) -> tuple[LossPoint, ...]:
        """The loss so far, for looking at from another thread or process."""
        from geovlm.training.callbacks import read_metrics

        rows = read_metrics(self.out / "metrics.jsonl")
        return tuple(LossPoint(step=row["step"], train=row.get("loss"), val=row.get("val_loss")) for row in rows)

    def wait(self, *, progress: bool | None = None) -> TuningResult:
        """Train to the end; a run that has ended is only read.

        Args:
            progress: Show bars; `None` decides by where the output goes.

        Raises:
            UsageError: Not one example can be learned from.
            ConfigMismatch: The folder holds a run on other data or with other settings.
            RunLocked: Another process trains in the folder.
            TrainingDiverged: The loss is no longer a finite number.
            WeightsError: The model's weights cannot be loaded.
            StorageError: The disk refused; the last checkpoint stays.
        """
        parts = Parts(self.out, kind=KIND, config=self._identity())
        with parts.writing():
            manifest = read_manifest(self.out)
            if manifest is None or manifest["state"] != "complete":
                reports = self._run(progress)
                write_json(self.out / "report.json", {name: _dumped(report) for name, report in reports.items()})
                parts.finish(examples=reports["train"].done)
        return self._result()

    def _identity(self) -> dict[str, Any]:
        """Everything that decides the result."""
        val = self.data.val
        return {
            "base": self._base.about(),
            "train": self.data.train.digest,
            "val": None if val is None else val.digest,
            "settings": self._config.for_manifest(),
        }

    def _run(self, progress: bool | None) -> dict[str, Report]:
        train = self._examples(self.data.train, "prepare", progress)
        val = None if self.data.val is None else self._examples(self.data.val, "prepare held-out", progress)
        if not train.items:
            first = f" The first: {train.failures[0]}" if train.failures else ""
            raise UsageError(f"Not one of {len(train.failures)} examples can be learned from.{first}")
        self._train(train, val, progress)
        reports = {"train": _report(self.data.train, train)}
        return reports if val is None or self.data.val is None else {**reports, "val": _report(self.data.val, val)}

    def _examples(self, data: ChatData, desc: str, progress: bool | None) -> Examples:
        most = self._config.max_length
        return find_examples(data.files, self._renderer, max_length=most, progress=progress, desc=desc)

    def _train(self, train: Examples, val: Examples | None, progress: bool | None) -> None:
        import torch

        from geovlm._torch import pick_device, pick_dtype
        from geovlm.pixtral.tuning._lora import add_adapters, save_adapter
        from geovlm.pixtral.tuning._training import Training
        from geovlm.training.callbacks import MetricsFile
        from geovlm.training.checkpoints import Checkpoints

        self._release()
        device = pick_device(self._config.device)
        auto = self._config.precision == "auto"
        dtype = pick_dtype(None if auto else self._config.precision, device)
        # Gradients of small values vanish in float16.
        dtype = torch.float32 if dtype == torch.float16 else dtype
        model = add_adapters(self._base.weights(device=device, dtype=dtype), self._config)
        config = self._config
        Training(
            model,
            self._renderer,
            train=train.items,
            val=() if val is None else val.items,
            config=config,
            checkpoints=Checkpoints(
                self.out / "checkpoints", keep=config.checkpoints_kept, interval=config.checkpoint_interval
            ),
            metrics=MetricsFile(self.out / "metrics.jsonl"),
        ).run(progress=progress)
        save_adapter(model, self._adapter)

    @property
    def _adapter(self) -> Path:
        return self.out / "adapter"

    def _result(self) -> TuningResult:
        reports = {name: _loaded(value) for name, value in read_json(self.out / "report.json").items()}
        return TuningResult(
            model=str(self._adapter),
            backend="local",
            report=reports["train"],
            val_report=reports.get("val"),
            losses=self.losses,
            out=self.out,
        )


def _report(data: ChatData, examples: Examples) -> Report:
    """What became of every record: of those that could not be exported, and of those that could not be learned from."""
    failures = [*data.report.failures, *examples.failures]
    return Report(stage="fine-tune", done=examples.conversations, failures=failures)


def _dumped(report: Report) -> dict[str, Any]:
    return {"done": report.done, "failures": [asdict(failure) for failure in report.failures]}


def _loaded(value: dict[str, Any]) -> Report:
    failures = [Failure(**failure) for failure in value["failures"]]
    return Report(stage="fine-tune", done=value["done"], failures=failures)
