"""Encoders of transformers: CLIP and SigLIP (both versions, fixed resolution), from folders and from the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from geovlm._optional import require
from geovlm._torch import first_line, loading_quietly
from geovlm.encoders._class_token import of_clip
from geovlm.encoders._dense_huggingface import tower_of
from geovlm.encoders._download import preset_folder
from geovlm.encoders._preprocessing import Preprocessing
from geovlm.encoders._torch import TorchEncoder
from geovlm.encoders.presets import PRESETS
from geovlm.errors import MissingExtra, UsageError, WeightsError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from torch import Tensor, nn

    from geovlm.encoders._class_token import ClassTokenVit
    from geovlm.encoders._dense_vit import DenseTower
    from geovlm.encoders._torch import Tokens

FAMILIES = ("clip", "siglip")

# What decides a tower's vectors beside its weights, and is written in the same words by every version of transformers.
DECIDING = (
    "hidden_act",
    "num_attention_heads",
    "layer_norm_eps",
    "patch_size",
    "image_size",
    "max_position_embeddings",
)
SHOWN = 3


class HuggingFaceEncoder(TorchEncoder):
    """A `CLIPModel` or `SiglipModel` of transformers.

    Args:
        model: The model.
        name: For reading.
        processor: The processor that belongs to it: image processor and tokenizer.
        device: Where it computes; `None` takes a GPU if there is one.
        dtype: The precision of the arithmetic; `None` takes the fastest that the device computes in.
    """

    def __init__(
        self, model: nn.Module, *, name: str, processor: Any, device: str | None = None, dtype: str | None = None
    ) -> None:
        config: Any = model.config
        self._processor = processor
        self._family: str = config.model_type
        self._context: int = config.text_config.max_position_embeddings
        super().__init__(
            model,
            name=name,
            dim=config.projection_dim if self._family == "clip" else config.vision_config.hidden_size,
            preprocessing=_preprocessing(processor.image_processor.to_dict(), name),
            config={
                "family": self._family,
                "text": _deciding(config.text_config),
                "vision": _deciding(config.vision_config),
            },
            device=device,
            dtype=dtype,
        )

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the tokenizer makes of texts, on the CPU; what is longer than the model's context is cut.

        SigLIP has learned from texts filled up to its full context, and is given the same.
        """
        padding = "max_length" if self._family == "siglip" else "longest"
        tokens = self._processor.tokenizer(
            list(texts), padding=padding, truncation=True, max_length=self._context, return_tensors="pt"
        )
        return dict(tokens)

    def _embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        features: Tensor = model.get_image_features(pixel_values=pixels).pooler_output
        return features

    def _class_token_tower(self, model: Any) -> ClassTokenVit | None:
        return of_clip(model)

    def _embed_texts(self, model: Any, tokens: Tokens) -> Tensor:
        assert isinstance(tokens, dict)
        features: Tensor = model.get_text_features(**tokens).pooler_output
        return features

    def _dense_tower(self, model: Any) -> DenseTower | None:
        return tower_of(model)

    def _write(self, folder: Path) -> None:
        with loading_quietly():
            self.model.save_pretrained(folder)
        self._processor.save_pretrained(folder)


def load_folder(path: Path, *, device: str | None, dtype: str | None) -> HuggingFaceEncoder:
    """Load a folder that `save_pretrained` of a model and of its processor wrote."""
    require("transformers", extra="transformers", purpose="models of transformers")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path / 'config.json'} is not valid JSON ({error}).") from error
    _check_family(config.get("model_type"), str(path))
    return _load(str(path), name=str(path), device=device, dtype=dtype)


def load_preset(
    name: str, *, weights: str | os.PathLike[str] | None, device: str | None, dtype: str | None
) -> HuggingFaceEncoder:
    """Load a preset, from the hub or from a local copy of its folder."""
    preset = PRESETS[name]
    folder = preset_folder(name, preset) if weights is None else Path(weights).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{name} is a model of transformers: weights is the folder of a copy, and {folder} is none.")
    encoder = load_folder(folder, device=device, dtype=dtype)
    encoder.name = name
    _check_activation(encoder.model.config, preset.activation, f"{folder} as {name!r}")
    return encoder


def load_hub(repo: str, *, device: str | None, dtype: str | None) -> HuggingFaceEncoder:
    """Load a model of the Hugging Face hub, or of its cache on this machine."""
    transformers = require("transformers", extra="transformers", purpose="models of transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(repo)
    except (OSError, ValueError) as error:
        raise WeightsError(f"'hf:{repo}' could not be fetched ({first_line(error)}). {_BY_HAND}") from error
    _check_family(config.model_type, f"hf:{repo}")
    return _load(repo, name=f"hf:{repo}", device=device, dtype=dtype)


_BY_HAND = "Fetch it on a machine that can, and give the folder."


def _load(place: str, *, name: str, device: str | None, dtype: str | None) -> HuggingFaceEncoder:
    import torch
    from transformers import AutoModel, AutoProcessor

    try:
        with loading_quietly():
            model, found = AutoModel.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # damaged files raise anything, and those with code in them UnpicklingError
        raise WeightsError(f"The weights of {name} could not be loaded ({first_line(error)}). {_BY_HAND}") from error
    _check_whole(found, name)
    try:
        processor = AutoProcessor.from_pretrained(place)
    except ImportError as error:
        raise MissingExtra("sentencepiece", "transformers", f"the tokenizer of {name}") from error
    except Exception as error:  # damaged tokenizers raise anything
        raise WeightsError(
            f"{name} has no processor that can be loaded ({first_line(error)}). The folder needs the files of its"
            " image processor (preprocessor_config.json) and of its tokenizer."
        ) from error
    _check_tokenizer(processor.tokenizer, name)
    return HuggingFaceEncoder(model, name=name, processor=processor, device=device, dtype=dtype)


def _check_activation(config: Any, activation: str, what: str) -> None:
    expected = {"gelu_tanh": "gelu_pytorch_tanh"}.get(activation, activation)
    for tower in (config.text_config, config.vision_config):
        if tower.hidden_act != expected:
            raise WeightsError(
                f"{what} computes the wrong activation: its config.json says {tower.hidden_act!r}, and the weights were"
                f" trained with {expected!r}."
            )


def _check_family(family: str | None, name: str) -> None:
    if family in FAMILIES:
        return
    hint = (
        " Its versions for one resolution, such as google/siglip2-base-patch16-224, are." if family == "siglip2" else ""
    )
    raise UsageError(f"{name} holds a model of the type {family!r}; {' and '.join(FAMILIES)} are supported.{hint}")


def _check_whole(found: dict[str, Any], name: str) -> None:
    """The library fills what is missing with random numbers, and only warns."""
    problems = [
        f"{what}: {', '.join(map(str, sorted(found[key], key=str)[:SHOWN]))}"
        for key, what in (
            ("missing_keys", "missing"),
            ("unexpected_keys", "left over"),
            ("mismatched_keys", "another shape"),
        )
        if found.get(key)
    ]
    if problems:
        raise WeightsError(f"The weights of {name} do not fit its config.json: {'; '.join(problems)}.")


def _check_tokenizer(tokenizer: Any, name: str) -> None:
    """Without sentencepiece, transformers reads SigLIP's tokenizer by a class that does not clean the text."""
    declared = tokenizer.init_kwargs.get("tokenizer_class")
    if declared == "SiglipTokenizer" and type(tokenizer).__name__ != declared:
        raise MissingExtra("sentencepiece", "transformers", f"the tokenizer of {name}")


def _preprocessing(settings: dict[str, Any], name: str) -> Preprocessing:
    size, crop = settings["size"], settings.get("crop_size") or {}
    crops = bool(settings.get("do_center_crop"))
    side = crop.get("height") if crops else size.get("height")
    squares = crop.get("height") == crop.get("width") if crops else size.get("height") == size.get("width")
    shortest = size.get("shortest_edge")
    steps = all(settings.get(step, True) for step in ("do_resize", "do_rescale", "do_normalize"))
    if side is None or not squares or not steps or (crops and shortest != side):
        raise UsageError(
            f"{name} prepares its pictures in a way that is not supported (size {size}, crop {crop}): only squares,"
            " whose shorter side is scaled to the crop or that are squashed."
        )
    return Preprocessing(
        size=side,
        mean=settings["image_mean"],
        std=settings["image_std"],
        interpolation=Image.Resampling(settings["resample"]).name.lower(),
        resize_mode="shortest" if crops else "squash",
        crop="floor",
    )


def _deciding(tower: Any) -> dict[str, Any]:
    return {key: getattr(tower, key) for key in DECIDING if hasattr(tower, key)}
