"""Checkpoints: whole or absent, tensors and plain values only, the newest few kept."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import torch

from geovlm._files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

# Writing may take this share of the time when the pace is not given.
SHARE_OF_TIME = 0.05


class Checkpoints:
    """The folder `checkpoints/` of a run: `step-00001200.pt` to go on from, `best-0003.pt` with an epoch's weights.

    Args:
        folder: Where they are.
        keep: How many steps stay.
        interval: Steps between two of them; `None` goes by the clock.
    """

    def __init__(self, folder: Path, *, keep: int, interval: int | None) -> None:
        self.folder = folder
        self.keep = keep
        self.interval = interval
        self._saved_at = time.monotonic()
        self._cost = 0.0

    def is_due(self, step: int) -> bool:
        """Whether to save after this step. What is saved does not depend on when, so the clock may decide."""
        if self.interval is not None:
            return step % self.interval == 0
        return time.monotonic() - self._saved_at >= self._cost / SHARE_OF_TIME

    def save(self, state: dict[str, Any], *, step: int, best: int | None) -> None:
        """Write the state after a step, then let go of older ones and of weights that are no longer the best.

        Raises:
            StorageError: The disk refused; what was there before is untouched.
        """
        started = time.monotonic()
        _save(state, self._step(step))
        for path in self._steps()[: -self.keep]:
            path.unlink()
        for path in self.folder.glob("best-*.pt"):
            if best is not None and path != self._best(best):
                path.unlink()
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - started

    def load_newest(self) -> dict[str, Any] | None:
        """The newest state that can be read; each that cannot is a warning."""
        for path in reversed(self._steps()):
            try:
                return load(path)
            except Exception as error:  # noqa: BLE001 - a damaged archive raises almost anything
                warnings.warn(
                    f"The checkpoint {path} cannot be read ({type(error).__name__}: {error}); going on from the one"
                    " before it, or from the start if there is none.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return None

    def load(self, step: int) -> dict[str, Any]:
        """The state after a step."""
        return load(self._step(step))

    def newest(self) -> Path | None:
        """Where the newest state is."""
        return next(reversed(self._steps()), None)

    def save_best(self, weights: dict[str, Any], *, epoch: int) -> None:
        """Write the weights of the best epoch so far; earlier ones stay until a step that knows of these is saved."""
        _save(weights, self._best(epoch))

    def load_best(self, epoch: int) -> dict[str, Any]:
        """Read them again."""
        return load(self._best(epoch))

    def _step(self, step: int) -> Path:
        return self.folder / f"step-{step:08}.pt"

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:04}.pt"

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))


def load(path: Path) -> dict[str, Any]:
    """Read tensors and plain values onto the CPU; nothing is unpickled that could run code."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _save(state: dict[str, Any], path: Path) -> None:
    def write(temporary: Path) -> None:
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # torch's writer puts its own error over that of the file
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    write_atomically(path, write)
