"""Published weights, fetched once and kept where the Hugging Face hub keeps its models."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from urllib.request import urlopen

from geovlm import _progress
from geovlm._files import write_atomically
from geovlm._optional import require
from geovlm.encoders._checkpoint import read_checkpoint, write_weights
from geovlm.errors import StorageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geovlm.encoders._preset import Preset

BLOCK = 1 << 20
TIMEOUT_SECONDS = 60
SHA256 = re.compile("[0-9a-f]{64}")

TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TRANSFORMERS_FILES = (
    *("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "spiece.model"),
)


def preset_weights(name: str, preset: Preset, names: Sequence[str] = ()) -> Path:
    """The weights of a preset on this machine, fetched if they are not here yet.

    Files of the hub are kept in its cache. What is elsewhere is kept in `geovlm` beside it (`HF_HOME`), without the
    optimiser's state that two thirds of a training checkpoint are.

    Args:
        name: The preset's name.
        preset: It.
        names: For a model of the hub: what its file of weights may be called, the best first.

    Raises:
        WeightsError: They cannot be fetched, or are not what was published; says how to give a local copy.
        StorageError: The disk is full.
    """
    if preset.repo is None:
        return _from_elsewhere(name, preset)
    if preset.format == "checkpoint":
        names = (unquote(preset.url.partition("/resolve/main/")[2]),)
    path = _from_hub(name, preset, preset.repo, names)
    _check_or_remove(path, preset.sha256, preset.url)
    return path


def by_hand(name: str, preset: Preset, reason: str) -> str:
    """What to do where weights cannot be fetched."""
    if preset.format == "checkpoint":
        what, copy = preset.url, f"'{PurePosixPath(preset.url).name}'"
    else:
        what, copy = f"the files of {preset.url}", f"'{preset.stem}' (the folder)"
    return (
        f"The weights of {name!r} could not be fetched ({reason}). Fetch {what} on a machine that can, and give your"
        f" copy: load_encoder({name!r}, weights={copy})."
    )


def _from_elsewhere(name: str, preset: Preset) -> Path:
    folder = _cache() / preset.stem
    kept = folder / "weights.safetensors"
    if kept.exists():
        return kept
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise WeightsError(by_hand(name, preset, "HF_HUB_OFFLINE is set"))
    with _one_at_a_time(folder):
        return kept if kept.exists() else _fetch_and_keep(name, preset, folder / PurePosixPath(preset.url).name, kept)


def _fetch_and_keep(name: str, preset: Preset, fetched: Path, kept: Path) -> Path:
    write_atomically(fetched, lambda temporary: _fetch(name, preset, temporary))
    try:
        check_hash(fetched, preset.sha256, what=f"{preset.url} gave")
        state = read_checkpoint(fetched).state
        write_atomically(kept, lambda temporary: write_weights(state, temporary))
    finally:
        fetched.unlink()
    return kept


def _cache() -> Path:
    return Path(_hub("constants").HF_HOME) / "geovlm"


def _hub(module: str) -> Any:
    return require(f"huggingface_hub.{module}", extra="openclip", purpose="published weights")


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Of several processes that want the same weights, as torchrun starts them, one fetches and the others wait."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _hub("utils").WeakFileLock(folder / ".lock")
        lock.__enter__()
    except OSError as error:
        raise StorageError(f"{folder} could not be written ({error.strerror or error}).") from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _fetch(name: str, preset: Preset, target: Path) -> None:
    try:
        answer = urlopen(preset.url, timeout=TIMEOUT_SECONDS)  # noqa: S310 - the address is in our own table
    except (OSError, HTTPException) as error:
        raise WeightsError(by_hand(name, preset, str(error))) from error
    total = int(answer.headers.get("Content-Length") or 0)
    with answer, target.open("wb") as file, _progress.bar(None, total=total or None, desc=name, unit="B") as bar:
        while block := _read(answer, name, preset):
            file.write(block)
            bar.update(len(block))
        if total and file.tell() != total:
            raise WeightsError(by_hand(name, preset, f"it broke off after {file.tell():,} of {total:,} bytes"))


def _read(answer: object, name: str, preset: Preset) -> bytes:
    try:
        block: bytes = answer.read(BLOCK)  # type: ignore[attr-defined]
    except (OSError, HTTPException) as error:
        raise WeightsError(by_hand(name, preset, str(error))) from error
    return block


def check_hash(path: Path, expected: str | None, *, what: str) -> None:
    """Compare a file with its published SHA-256, where one is known.

    Raises:
        WeightsError: It is another file.
    """
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise WeightsError(
            f"{what} another file than was published: its SHA-256 is {found}, and should be {expected}. Fetch it again."
        )


def preset_folder(name: str, preset: Preset) -> Path:
    """The folder of a preset of transformers in the hub's cache, fetched if it is not there yet.

    Raises:
        WeightsError: It cannot be fetched; says how to give a local copy.
    """
    repo = str(preset.repo)
    weights = _cached(repo, TRANSFORMERS_WEIGHTS)
    if weights is None:
        for small in TRANSFORMERS_FILES:
            _ask_hub(name, preset, small)
        # The weights come last, so that all is there where they are.
        weights = _from_hub(name, preset, repo, TRANSFORMERS_WEIGHTS)
    return weights.parent


def _from_hub(name: str, preset: Preset, repo: str, names: Sequence[str]) -> Path:
    """The first of several files that the hub has, from its cache without a question where it is there."""
    found = _cached(repo, names) or next((path for one in names if (path := _ask_hub(name, preset, one))), None)
    if found is None:
        raise WeightsError(by_hand(name, preset, f"{repo} has no {' or '.join(names)}"))
    return found


def _cached(repo: str, names: Sequence[str]) -> Path | None:
    places = (_hub("file_download").try_to_load_from_cache(repo, one) for one in names)
    return next((Path(place) for place in places if isinstance(place, str)), None)


def _ask_hub(name: str, preset: Preset, file: str) -> Path | None:
    """A file of the hub, checked against the hash that the hub has of it; `None` where the hub has no such file."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        with hub_quietly():
            path = Path(_hub("file_download").hf_hub_download(preset.repo, file))
    except Exception as error:  # offline, private, gone, broken off: each in a class of its own
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        raise WeightsError(by_hand(name, preset, f"{type(error).__name__}: {error}".split("\n", 1)[0])) from error
    # Large files lie under their hash, which the hub's client takes from the hub and does not compute.
    stored = path.resolve().name
    _check_or_remove(path, stored if SHA256.fullmatch(stored) else None, preset.url)
    return path


def _check_or_remove(path: Path, expected: str | None, url: str) -> None:
    try:
        check_hash(path, expected, what=f"{url} gave")
    except WeightsError:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise


@contextmanager
def hub_quietly() -> Iterator[None]:
    """Hide the bars that the hub's client draws, where geovlm shows no progress either."""
    bars = _hub("utils")
    if _progress.is_on(None) or bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()
