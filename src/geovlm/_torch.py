"""Where and in which precision a model runs when nobody says, loading it in silence, and what libraries said of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from geovlm import _progress
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

DTYPES = ("float32", "bfloat16", "float16")


def pick_device(device: str | None) -> torch.device:
    """The device of that name; `None` is the first CUDA device, else Apple's, else the CPU.

    Raises:
        UsageError: There is no such device here.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except Exception as error:  # a missing back end raises RuntimeError, AssertionError or NotImplementedError
        reason = str(error).split(". ", 1)[0].rstrip(".")
        raise UsageError(f"There is no device {device!r} here ({reason}). Try 'cpu', or None to choose.") from error
    return chosen


def pick_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """The precision of that name; `None` is the fastest one that loses little on the device.

    That is bfloat16 on GPUs and CPUs that compute in it, float16 on older GPUs, float32 elsewhere.

    Raises:
        UsageError: It is not one of `float32`, `bfloat16`, `float16`.
    """
    import torch

    if dtype is None:
        dtype = _fastest(device)
    if dtype not in DTYPES:
        raise UsageError(f"dtype is one of {', '.join(DTYPES)}, or None to choose; not {dtype!r}.")
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


def _fastest(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return "bfloat16"
    return "float32"


def first_line(error: Exception) -> str:
    """What a library raised, in one line: torch and the hub append pages."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]


@contextmanager
def loading_quietly() -> Iterator[None]:
    """Hide the bars that transformers draws while it loads, where geovlm shows no progress either."""
    from transformers.utils import logging

    if _progress.is_on(None) or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
