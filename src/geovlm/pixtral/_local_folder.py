"""A model in a local folder: which kind it is, its processor, its weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from geovlm._files import digest, file_digest, must_exist, read_json
from geovlm._optional import require
from geovlm.errors import UsageError, WeightsError

if TYPE_CHECKING:
    import os

    import torch

CLASSES = {"llava": "LlavaForConditionalGeneration", "mistral3": "Mistral3ForConditionalGeneration"}
EXTRA = "pixtral-local"
ADAPTER = "adapter_config.json"
CONFIG = "config.json"


@frozen(kw_only=True)
class LocalFolder:
    """A whole model, or an adapter and the model it belongs to.

    Args:
        base: The folder with the whole model.
        adapter: The folder with the adapter, if there is one.
        kind: `"llava"` for Pixtral 12B, `"mistral3"` for Ministral 3 and Mistral Small 3.x.
    """

    base: Path
    adapter: Path | None = None
    kind: str

    @property
    def path(self) -> Path:
        """What is loaded."""
        return self.adapter or self.base

    def about(self) -> str:
        """Changes with the settings of the model and with the sizes of its weights; reads little."""
        return digest({folder.name: _listing(folder) for folder in (self.base, self.adapter) if folder is not None})

    def fingerprint(self) -> str:
        """Changes with every byte of the model; reads all of it."""
        folders = [folder for folder in (self.base, self.adapter) if folder is not None]
        return digest([[path.name, file_digest(path)] for folder in folders for path in _files(folder)])

    def processor(self) -> Any:
        """What turns text and images into the model's inputs.

        Raises:
            UsageError: It is not there, or not Pixtral's.
        """
        transformers = require("transformers", extra=EXTRA, purpose="a local model")
        require("torchvision", extra=EXTRA, purpose="a local model")
        try:
            found = transformers.AutoProcessor.from_pretrained(str(self.base), local_files_only=True)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.base} has no processor that can be loaded ({error}).") from error
        if not isinstance(found, transformers.PixtralProcessor):
            raise UsageError(f"{self.base} has a {type(found).__name__}, not a PixtralProcessor.")
        return found

    def weights(self, *, device: torch.device, dtype: torch.dtype | str) -> Any:
        """The model, ready to answer; with the dtype `"auto"` in the precision that it was saved in.

        Raises:
            WeightsError: The weights cannot be loaded.
        """
        model = self._whole(device=device, dtype=dtype)
        if self.adapter is not None:
            model = _adapted(model, self.adapter)
        return model.eval()

    def _whole(self, *, device: torch.device, dtype: torch.dtype | str) -> Any:
        transformers = require("transformers", extra=EXTRA, purpose="a local model")
        from geovlm._torch import loading_quietly

        kind = getattr(transformers, CLASSES[self.kind])
        options = {"dtype": dtype, "local_files_only": True, "use_safetensors": True, "output_loading_info": True}
        try:
            with loading_quietly():
                model, told = kind.from_pretrained(str(self.base), **options)
        except (OSError, RuntimeError, ValueError, _damage()) as error:
            raise WeightsError(f"The weights in {self.base} cannot be loaded: {error}") from error
        absent = sorted(told["missing_keys"])
        if absent:  # they would be random
            raise WeightsError(f"{self.base} lacks {len(absent)} weights of the model, the first is {absent[0]}.")
        return model.to(device)


def _adapted(model: Any, adapter: Path) -> Any:
    peft = require("peft", extra=EXTRA, purpose="an adapter")
    try:
        with warnings.catch_warnings():
            # peft asks transformers for what has another name now, and only warns of weights that are not there.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return peft.PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
    except (OSError, RuntimeError, ValueError, UserWarning, _damage()) as error:
        raise WeightsError(f"The adapter {adapter} cannot be loaded, or does not fit its model: {error}") from error


def _damage() -> type[Exception]:
    """What a damaged file of weights raises."""
    kind: type[Exception] = require("safetensors", extra=EXTRA, purpose="a local model").SafetensorError
    return kind


def is_local_model(name: str | os.PathLike[str]) -> bool:
    """Whether a name is a folder with a model in it, or with an adapter."""
    folder = Path(name)
    return any((folder / file).is_file() for file in (ADAPTER, CONFIG))


def find_folder(path: str | os.PathLike[str]) -> LocalFolder:
    """Look at a folder; loads nothing.

    Raises:
        UsageError: There is no model of a known kind in it.
    """
    folder = Path(path).absolute()
    must_exist(folder)
    if (folder / ADAPTER).is_file():
        base = _base_of(folder)
        return LocalFolder(base=base, adapter=folder, kind=_kind_of(base))
    return LocalFolder(base=folder, kind=_kind_of(folder))


def _base_of(adapter: Path) -> Path:
    named = read_json(adapter / ADAPTER).get("base_model_name_or_path")
    base = Path(str(named))
    if not named or not base.is_absolute() or not (base / CONFIG).is_file():
        raise UsageError(
            f"{adapter} is an adapter for {named!r}, where there is no model. Write the folder that the model is in as"
            f" base_model_name_or_path into {adapter / ADAPTER}."
        )
    return base


def _kind_of(folder: Path) -> str:
    if not (folder / CONFIG).is_file():
        hint = " It is in Mistral's own form." if (folder / "params.json").is_file() else ""
        raise UsageError(
            f"{folder} holds no model in the form of transformers ({CONFIG}).{hint} For Pixtral 12B that is"
            " mistral-community/pixtral-12b."
        )
    config = read_json(folder / CONFIG)
    kind = config.get("model_type")
    vision = (config.get("vision_config") or {}).get("model_type", "pixtral" if kind == "mistral3" else None)
    if kind not in CLASSES or vision != "pixtral":
        raise UsageError(
            f"{folder} holds a model of the type {kind!r} that sees by {vision!r}; a local model is of the type"
            f" {' or '.join(map(repr, CLASSES))} and sees by 'pixtral'."
        )
    return str(kind)


def _files(folder: Path) -> list[Path]:
    kept = {".json", ".jinja", ".safetensors", ".model"}
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in kept)


def _listing(folder: Path) -> list[Any]:
    return [
        [path.name, path.stat().st_size if path.suffix == ".safetensors" else file_digest(path)]
        for path in _files(folder)
    ]
