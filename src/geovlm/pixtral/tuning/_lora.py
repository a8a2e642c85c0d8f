"""Adapters beside the frozen weights of a vision-language model, by peft."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING, Any

import torch

from geovlm._files import to_disk
from geovlm._optional import require
from geovlm.errors import StorageError, UsageError
from geovlm.pixtral._local_folder import EXTRA, find_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from geovlm.pixtral.tuning.config import FineTuningConfig

_BLOCKS = r".*\.(language_model{vision})\..*layers\.\d+\..*(q|k|v|o|gate|up|down)_proj"
TARGETS = {
    "language": _BLOCKS.format(vision=""),
    "all": _BLOCKS.format(vision="|vision_tower") + r"|.*\.multi_modal_projector\.(.*\.)?(linear_\d|merging_layer)",
}


def add_adapters(model: Any, config: FineTuningConfig) -> Any:
    """Freeze a model and put adapters beside its layers; they add nothing yet.

    Raises:
        MissingExtra: peft is not installed.
    """
    peft = require("peft", extra=EXTRA, purpose="fine-tuning")
    settings = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank if config.lora_alpha is None else config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=TARGETS[config.train],
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Newer versions of transformers have other names for this, and older ones do not have those.
        warnings.simplefilter("ignore", FutureWarning)
        torch.default_generator.manual_seed(config.seed)
        adapted = peft.get_peft_model(model, settings)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return adapted


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    """What is trained, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapters in peft's format (safetensors); the folder is whole or absent.

    Raises:
        StorageError: The disk refused.
    """
    # What peft would look up about embeddings is on a hub.
    write_folder(folder, lambda path: model.save_pretrained(str(path), save_embedding_layers=False))


def merge(adapter: str | os.PathLike[str], out: Path) -> None:
    """Write the whole model with an adapter's changes in its weights, in their precision.

    Raises:
        UsageError: There is no adapter, or `out` is not empty.
        WeightsError: It does not fit.
        StorageError: The disk refused.
    """
    folder = find_folder(adapter)
    if folder.adapter is None:
        raise UsageError(f"{adapter} holds a whole model, not an adapter; there is nothing to merge.")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; choose another folder for the merged model.")
    processor = folder.processor()
    merged = folder.weights(device=torch.device("cpu"), dtype="auto").merge_and_unload(safe_merge=True)

    def write(path: Path) -> None:
        merged.save_pretrained(str(path))
        processor.save_pretrained(str(path))

    write_folder(out, write)


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Fill a folder under another name, then move it into place; one that is there is replaced."""
    from geovlm._torch import loading_quietly

    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with loading_quietly():
            write(temporary)
        for path in temporary.iterdir():
            to_disk(path)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
        to_disk(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(f"{folder} could not be written ({error.strerror or error}).") from error
