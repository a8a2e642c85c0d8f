"""Weights from files, without running what is in them, and into models, without letting anything pass.

Only tensors and plain values are read (`weights_only=True`, safetensors). A file that would need full unpickling is
refused.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from geovlm.errors import StorageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".zip")

# What wrappers put before the names of a model's weights: distributed training, torch.compile.
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
SHOWN = 3


@frozen(kw_only=True)
class Checkpoint:
    """What a file of weights holds.

    Args:
        state: The weights by name, without what wrappers put before the names.
        names: Words that may say which model it is: the file's name, its folder's, the training run's.
        path: The file.
    """

    state: Mapping[str, Tensor]
    names: tuple[str, ...]
    path: Path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a state dict, a training checkpoint that holds one, or a zip that holds either.

    Raises:
        WeightsError: It is none of these, or not safe to read.
    """
    if path.suffix == ".zip":
        with _member(path) as (extracted, member):
            inner = read_checkpoint(extracted)
            parts = [part for part in Path(member).with_suffix("").parts if part not in ("..", "/")]
            return Checkpoint(state=inner.state, names=(path.stem, *parts, *inner.names), path=path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = content.get("state_dict", content)
    names = [path.stem, path.absolute().parent.name, content.get("name")]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()) or not state:
        keys = ", ".join(map(str, list(content)[:SHOWN]))
        raise WeightsError(f"{path} holds no weights by name: its first entries are {keys or 'none'}.")
    return Checkpoint(
        state={WRAPPERS.sub("", key): value for key, value in state.items()},
        names=tuple(name for name in names if isinstance(name, str)),
        path=path,
    )


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], *, what: str, into: str) -> None:
    """Put all weights into a model.

    Args:
        model: Its weights are replaced.
        state: The weights by name.
        what: The weights, for messages.
        into: The model, for messages.

    Raises:
        WeightsError: A weight is missing, left over or of another shape; nothing was loaded.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {_shape(state[key])} in the file and {_shape(own[key])} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = _listed("missing", missing) + _listed("left over", unexpected) + _listed("of another shape", shapes)
    if problems:
        raise WeightsError(
            f"The weights of {what} do not fit {into}: {'; '.join(problems)}. Give the architecture that they"
            " were trained with."
        )
    model.load_state_dict(dict(state))


def _listed(problem: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return [f"{problem}: {', '.join(items[:SHOWN])}{more}"]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def write_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write weights as safetensors.

    Raises:
        OSError: The disk refused; safetensors itself raises an error of its own.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({key: tensor.cpu().contiguous() for key, tensor in state.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); fetch it again.") from error


def _read_torch(path: Path) -> dict[str, Any]:
    if _is_torchscript(path):
        raise WeightsError(
            f"{path} is a TorchScript program, as OpenAI published its models, and programs are not run. The same"
            " weights are 'openclip:ViT-B-32-quickgelu/openai' (and so on for the other architectures)."
        )
    try:
        # Mapped, not read: two thirds of a training checkpoint is the optimiser's, and is not touched.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged files raise anything: EOFError, KeyError, UnpicklingError …
        reason = str(error).split("\n", 1)[0].split(". ", 1)[0]
        raise WeightsError(
            f"{path} could not be read as weights only ({type(error).__name__}: {reason}). It is damaged, or it holds"
            " Python objects, which are never unpickled; fetch it again, or save its state dict as safetensors."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not weights by name.")
    return content


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


@contextmanager
def _member(path: Path) -> Iterator[tuple[Path, str]]:
    """The one file of weights in a zip, under a name of our own in a temporary folder, and its name in the zip."""
    with tempfile.TemporaryDirectory(prefix="geovlm-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "weights"
        member = extract_weights(path, target)
        yield target.rename(target.with_suffix(Path(member).suffix)), member


def extract_weights(path: Path, target: Path) -> str:
    """Copy the one file of weights in a zip to `target`; returns its name in the zip, which is never used as a path.

    Raises:
        WeightsError: It is no zip, is damaged, or holds none or several.
        StorageError: The disk is full.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = [info for info in archive.infolist() if Path(info.filename).suffix in SUFFIXES[:-1]]
            found = [info for info in found if not info.filename.startswith("__MACOSX/")]
            if len(found) != 1:
                names = ", ".join(info.filename for info in found[:SHOWN]) or "none"
                raise WeightsError(
                    f"{path} should hold one file of weights ({', '.join(SUFFIXES[:-1])}); it holds: {names}."
                    " Unpack it and give the path of the file."
                )
            with archive.open(found[0]) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            return found[0].filename
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{path} is not a whole zip archive ({error}); fetch it again.") from error
    except OSError as error:
        raise StorageError(f"{path} could not be unpacked to {target} ({error.strerror or error}).") from error
