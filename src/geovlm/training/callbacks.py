"""Watching a training: what is told of each step and epoch, and who can be told.

`fit` always writes `metrics.jsonl` into its directory, one line a step and one an epoch. Callbacks are told the same.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovlm._optional import require

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Callback", "MetricsFile", "TensorBoard", "WeightsAndBiases", "read_metrics"]


class Callback:
    """Who is told how a training goes: a base for classes that need only some of these methods.

    A callback that raises is dropped with a warning, because a broken connection should not end days of training;
    KeyboardInterrupt goes through. Where several processes train, only the first one tells.

    Examples:
        >>> class Losses(Callback):
        ...     def __init__(self) -> None:
        ...         self.seen = []
        ...     def on_step(self, row):
        ...         self.seen.append(row["loss"])
    """

    def on_start(self, info: Mapping[str, Any]) -> None:
        """Before the first step of a call: the settings, a name for the `run`, and the `step` that it goes on from."""

    def on_step(self, row: Mapping[str, float]) -> None:
        """After a step: `step`, `epoch`, `loss`, `learning_rate`, `logit_scale`, `pairs_per_second`."""

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """After an epoch, and with `epoch` 0 before the first: `train_loss`, and the measures on held-out pairs."""

    def on_end(self) -> None:
        """After the last step of a call, also when it was an error that ended it."""


class MetricsFile(Callback):
    """Lines of JSON; a run that goes on cuts off what an earlier call told after its last checkpoint.

    Args:
        path: The file.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = MetricsFile(Path(folder) / "metrics.jsonl")
        ...     file.on_start({"step": 0})
        ...     file.on_step({"step": 1, "loss": 2.5})
        ...     print(file.path.read_text(), end="")
        {"step": 1, "loss": 2.5}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)

    def on_start(self, info: Mapping[str, Any]) -> None:
        """Keep the lines up to the step that this call goes on from."""
        kept = [line for row, line in _rows(self.path) if info["step"] and row["step"] <= info["step"]]
        self.path.write_text("".join(kept), encoding="utf-8")

    def on_step(self, row: Mapping[str, float]) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Append a line."""
        self.on_step(row)


def _rows(path: Path) -> Iterable[tuple[dict[str, Any], str]]:
    """The whole lines of a file; a kill may have left half of one."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line), line
            except json.JSONDecodeError:
                continue


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """What a `metrics.jsonl` holds: rows of steps have a `loss`, rows of epochs do not.

    Args:
        path: The file.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = MetricsFile(Path(folder) / "metrics.jsonl")
        ...     file.on_start({"step": 0})
        ...     file.on_step({"step": 1, "loss": 2.5})
        ...     read_metrics(file.path)
        [{'step': 1, 'loss': 2.5}]
    """
    return [row for row, _ in _rows(Path(path))]


class TensorBoard(Callback):
    """Event files for TensorBoard.

    Args:
        folder: Where they go.

    Raises:
        MissingExtra: `tensorboard` is not installed.

    Examples:
        >>> from geovlm.errors import MissingExtra
        >>> try:
        ...     callbacks = [TensorBoard("runs")]  # for fit(…, callbacks=callbacks)
        ... except MissingExtra as error:
        ...     print(error.extra)  # pip install 'geovlm[tracking]'
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        require("tensorboard", extra="tracking")
        self.folder: Path = Path(folder)
        self._writer: Any = None

    def on_start(self, info: Mapping[str, Any]) -> None:
        """Open a file; TensorBoard itself hides what an earlier call told after `info["step"]`."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=info["step"] + 1 if info["step"] else None)

    def on_step(self, row: Mapping[str, float]) -> None:
        """A point on each curve of `train/`."""
        self._add("train", row, leave_out=("step", "epoch"))

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """A point on each curve of `val/`."""
        self._add("val", row["val"] or {}, step=row["step"])

    def _add(
        self, group: str, row: Mapping[str, Any], *, step: int | None = None, leave_out: tuple[str, ...] = ()
    ) -> None:
        for name, value in row.items():
            if name not in leave_out:
                self._writer.add_scalar(f"{group}/{name}", value, row["step"] if step is None else step)

    def on_end(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases(Callback):
    """A run on Weights & Biases; without a network, `WANDB_MODE=offline` keeps it in a folder.

    Args:
        project: Name of the project there.
        name: Name of the run; `None` lets them choose.

    Raises:
        MissingExtra: `wandb` is not installed.

    Examples:
        >>> from importlib.util import find_spec
        >>> callbacks = [WeightsAndBiases("skyclip")] if find_spec("wandb") else []  # for fit(…, callbacks=callbacks)
    """

    def __init__(self, project: str, *, name: str | None = None) -> None:
        require("wandb", extra="tracking")
        self.project: str = project
        self.name: str | None = name
        self._run: Any = None

    def on_start(self, info: Mapping[str, Any]) -> None:
        """Begin a run, or go on with the one of the same directory."""
        import wandb

        self._run = wandb.init(project=self.project, name=self.name, id=info["run"], resume="allow", config=dict(info))

    def on_step(self, row: Mapping[str, float]) -> None:
        """Log under `train/`."""
        self._run.log({f"train/{name}": value for name, value in row.items()}, step=row["step"])

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Log under `val/`."""
        self._run.log({f"val/{name}": value for name, value in (row["val"] or {}).items()}, step=row["step"])

    def on_end(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


class Audience:
    """All callbacks of a run; one that raises is dropped.

    Args:
        callbacks: Who is told.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = list(callbacks)

    def on_start(self, info: Mapping[str, Any]) -> None:
        """Tell all."""
        self._tell(lambda callback: callback.on_start(info))

    def on_step(self, row: Mapping[str, float]) -> None:
        """Tell all."""
        self._tell(lambda callback: callback.on_step(row))

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Tell all."""
        self._tell(lambda callback: callback.on_epoch(row))

    def on_end(self) -> None:
        """Tell all."""
        self._tell(lambda callback: callback.on_end())

    def _tell(self, tell: Callable[[Callback], None]) -> None:
        for callback in list(self._callbacks):
            try:
                tell(callback)
            except Exception as error:  # noqa: BLE001 - whatever another's code raises
                self._callbacks.remove(callback)
                warnings.warn(
                    f"The callback {type(callback).__name__} failed and is not told any more of this training:"
                    f" {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=3,
                )
