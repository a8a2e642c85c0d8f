"""Published weights, fetched once and kept as safetensors beside the models of the Hugging Face hub."""

from __future__ import annotations

import os
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.request import urlopen

from geovlm import _progress
from geovlm._files import write_atomically
from geovlm.encoders._checkpoint import read_checkpoint, write_weights
from geovlm.errors import WeightsError

if TYPE_CHECKING:
    from geovlm.encoders.presets import Preset

BLOCK = 1 << 20
TIMEOUT_SECONDS = 60


def preset_weights(name: str, preset: Preset) -> Path:
    """The weights of a preset on this machine, fetched if they are not here yet.

    They are kept in `geovlm` below the Hugging Face cache (`HF_HOME`), without the optimiser's state that two thirds
    of a training checkpoint are.

    Raises:
        WeightsError: They cannot be fetched; says how to give a local copy.
        StorageError: The disk is full.
    """
    folder = _cache() / preset.stem
    kept = folder / "weights.safetensors"
    if kept.exists():
        return kept
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise WeightsError(_by_hand(name, preset, "HF_HUB_OFFLINE is set"))
    fetched = folder / PurePosixPath(preset.url).name
    write_atomically(fetched, lambda temporary: _fetch(name, preset, temporary))
    try:
        state = read_checkpoint(fetched).state
        write_atomically(kept, lambda temporary: write_weights(state, temporary))
    finally:
        fetched.unlink()
    return kept


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "geovlm"


def _fetch(name: str, preset: Preset, target: Path) -> None:
    try:
        answer = urlopen(preset.url, timeout=TIMEOUT_SECONDS)  # noqa: S310 - the address is in our own table
    except (OSError, HTTPException) as error:
        raise WeightsError(_by_hand(name, preset, str(error))) from error
    total = int(answer.headers.get("Content-Length") or 0)
    with answer, target.open("wb") as file, _progress.bar(None, total=total or None, desc=name, unit="B") as bar:
        while block := _read(answer, name, preset):
            file.write(block)
            bar.update(len(block))
        if total and file.tell() != total:
            raise WeightsError(_by_hand(name, preset, f"it broke off after {file.tell():,} of {total:,} bytes"))


def _read(answer: object, name: str, preset: Preset) -> bytes:
    try:
        block: bytes = answer.read(BLOCK)  # type: ignore[attr-defined]
    except (OSError, HTTPException) as error:
        raise WeightsError(_by_hand(name, preset, str(error))) from error
    return block


def _by_hand(name: str, preset: Preset, reason: str) -> str:
    return (
        f"The weights of {name!r} could not be fetched ({reason}). Fetch {preset.url} on a machine that can, and give"
        f" your copy: load_encoder({name!r}, weights='{PurePosixPath(preset.url).name}')."
    )
