"""Encoders of open_clip: presets, folders, hub models, registry names, and checkpoints of its training."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen
from torch import Tensor

from geovlm._optional import require
from geovlm._torch import first_line
from geovlm.encoders._architectures import (
    check_activation,
    choose,
    find_config,
    has_right_activation,
    usual_preprocessing,
    with_long_texts,
)
from geovlm.encoders._checkpoint import load_strictly, read_checkpoint, write_weights
from geovlm.encoders._class_token import of_openclip
from geovlm.encoders._dense_openclip import tower_of
from geovlm.encoders._download import preset_weights
from geovlm.encoders._preprocessing import Preprocessing
from geovlm.encoders._short_texts import CausalTower
from geovlm.encoders._torch import TorchEncoder
from geovlm.encoders.presets import PRESETS
from geovlm.errors import UnknownName, UsageError, WeightsError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from geovlm.encoders._class_token import ClassTokenVit
    from geovlm.encoders._dense_vit import DenseTower
    from geovlm.encoders._torch import Tokens

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"

# In the order in which open_clip itself looks for them.
WEIGHTS_NAMES = (
    WEIGHTS,
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)


class OpenClipEncoder(TorchEncoder):
    """A model of open_clip.

    Args:
        model: An `open_clip.CLIP`, `CustomTextCLIP` or `CoCa`.
        name: For reading.
        config: Its `model_cfg`, as open_clip's registry and `open_clip_config.json` have it.
        preprocessing: How pictures are prepared.
        tokenizer: A tokenizer of open_clip's.
        device: Where it computes; `None` takes a GPU if there is one.
        dtype: The precision of the arithmetic; `None` takes the fastest that the device computes in.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        config: Mapping[str, Any],
        preprocessing: Preprocessing,
        tokenizer: Any,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._model_config = dict(config)
        super().__init__(
            model,
            name=name,
            dim=config["embed_dim"],
            preprocessing=preprocessing,
            config=_deciding(config),
            device=device,
            dtype=dtype,
        )

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids `(n, context length)`, on the CPU; what is longer than the context is cut."""
        tokens: Tensor = self._tokenizer(list(texts))
        return tokens

    def shorten(self, tokens: Tokens) -> Tensor:
        """Token ids without the filling that no text of the batch needs; features are the same, and sooner there.

        Texts are filled up to the full context, which is most of the text tower's work. Models whose tokens see those
        after them get all of it.
        """
        assert isinstance(tokens, Tensor)
        tower = CausalTower.of(self.model)
        return tokens if tower is None else tower.shorten(tokens)

    def _embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        features: Tensor = model.encode_image(pixels, normalize=False)
        return features

    def _class_token_tower(self, model: Any) -> ClassTokenVit | None:
        return of_openclip(model.visual)

    def _embed_texts(self, model: Any, tokens: Tokens) -> Tensor:
        assert isinstance(tokens, Tensor)
        if tokens.shape[1] < _context(self._model_config["text_cfg"]):
            tower = CausalTower.of(model)
            if tower is not None:
                return tower.encode(model, tokens)
        features: Tensor = model.encode_text(tokens, normalize=False)
        return features

    def _short_reader(self, model: Any) -> Callable[[Tensor], Tensor] | None:
        tower = CausalTower.of(model)
        return None if tower is None else tower.reader(model)

    def _dense_tower(self, model: Any) -> DenseTower | None:
        return tower_of(model.visual)

    def _write(self, folder: Path) -> None:
        write_weights(self.model.state_dict(), folder / WEIGHTS)
        if hasattr(self._tokenizer, "save_pretrained"):
            self._tokenizer.save_pretrained(folder)
        preprocess = self.preprocessing.to_json()
        config = {
            "model_cfg": self._model_config,
            "preprocess_cfg": {
                **{key: preprocess[key] for key in ("mean", "std", "interpolation", "resize_mode")},
                "fill_color": preprocess["fill"],
            },
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


@frozen(kw_only=True)
class _Plan:
    """A model to be built.

    Args:
        name: For reading.
        model: What the weights must fit, for messages.
        config: Its `model_cfg`.
        preprocess: What differs from open_clip's usual preprocessing.
        tokenizer: A folder or hub id to take the tokenizer from instead of the one that the config names.
    """

    name: str
    model: str
    config: dict[str, Any]
    preprocess: Mapping[str, Any] = field(factory=dict)
    tokenizer: str | None = None

    def build(
        self, state: Mapping[str, Tensor], *, what: object, device: str | None, dtype: str | None
    ) -> OpenClipEncoder:
        """Make the model and put the weights into it; `what` they are is for messages."""
        import torch

        # The weights are drawn only to be replaced; the program around it must not notice.
        with torch.random.fork_rng(devices=[]):
            model = _new_model(self.config)
        load_strictly(model, _as_named_here(state, model), what=str(what), into=self.model)
        return OpenClipEncoder(
            model,
            name=self.name,
            config=self.config,
            preprocessing=_preprocessing(self.preprocess, model.visual.image_size),
            tokenizer=_tokenizer(self.config["text_cfg"], self.tokenizer),
            device=device,
            dtype=dtype,
        )


def load_preset(
    name: str, *, weights: str | os.PathLike[str] | None, device: str | None, dtype: str | None
) -> OpenClipEncoder:
    """Load a preset, from the published weights or from a local copy: a file, or a folder with tokenizer."""
    preset = PRESETS[name]
    given = None if weights is None else Path(weights).expanduser()
    folder = given if given is not None and given.is_dir() and preset.format == "open_clip" else None
    if folder is not None:
        path = _weights_in(folder)
    else:
        path = preset_weights(name, preset, WEIGHTS_NAMES) if given is None else _existing(given)
    config, state = with_long_texts(find_config(preset.architecture), read_checkpoint(path).state)
    tokenizer = None if folder is None else str(folder)
    plan = _Plan(name=name, model=preset.architecture, config=config, preprocess=preset.preprocess, tokenizer=tokenizer)
    return plan.build(state, what=path, device=device, dtype=dtype)


def new(
    config: Mapping[str, Any],
    *,
    preprocess: Mapping[str, Any],
    seed: int,
    name: str,
    device: str | None,
    dtype: str | None,
) -> OpenClipEncoder:
    """Make an untrained model from its `model_cfg` and `preprocess_cfg`."""
    import torch

    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if missing:
        raise UsageError(f"A model's config has embed_dim, vision_cfg and text_cfg; {', '.join(missing)} is missing.")
    # The draw must not depend on, nor change, the random numbers of the program around it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _new_model(config)
    return OpenClipEncoder(
        model,
        name=name,
        config=config,
        preprocessing=_preprocessing(preprocess, model.visual.image_size),
        tokenizer=_tokenizer(config["text_cfg"], None),
        device=device,
        dtype=dtype,
    )


def load_file(path: Path, *, architecture: str | None, device: str | None, dtype: str | None) -> OpenClipEncoder:
    """Load a checkpoint whose architecture is given, or known by its name."""
    if architecture is not None:
        find_config(architecture)
    checkpoint = read_checkpoint(path)
    plan = _plan(str(path), choose(checkpoint, architecture))
    config, state = with_long_texts(plan.config, checkpoint.state)
    return evolve(plan, config=config).build(state, what=path, device=device, dtype=dtype)


def load_architecture(
    spec: str, *, weights: str | os.PathLike[str] | None, device: str | None, dtype: str | None
) -> OpenClipEncoder:
    """Load `architecture/tag` of open_clip's own table, or an architecture with local weights."""
    architecture, _, tag = spec.partition("/")
    find_config(architecture)
    if weights is not None:
        if tag:
            raise UsageError(f"Give either the tag {tag!r} or weights, not both.")
        return load_file(_existing(weights), architecture=architecture, device=device, dtype=dtype)
    published = _published(architecture, tag)
    check_activation(architecture, tag, published)
    path = _fetched(spec, published)
    plan = evolve(_plan(f"openclip:{spec}", architecture), preprocess=published)
    return plan.build(read_checkpoint(path).state, what=path, device=device, dtype=dtype)


def load_folder(path: Path, *, device: str | None, dtype: str | None) -> OpenClipEncoder:
    """Load a folder with `open_clip_config.json` and weights."""
    weights = _weights_in(path)
    plan = _read_plan(path / CONFIG, name=str(path), tokenizer=str(path))
    return plan.build(read_checkpoint(weights).state, what=weights, device=device, dtype=dtype)


def load_hub(repo: str, *, device: str | None, dtype: str | None) -> OpenClipEncoder:
    """Load an open_clip model of the Hugging Face hub, or of its cache on this machine."""
    config, weights = _from_hub(repo, (CONFIG,)), _from_hub(repo, WEIGHTS_NAMES)
    plan = _read_plan(config, name=f"hf-hub:{repo}", tokenizer=None)
    return plan.build(read_checkpoint(weights).state, what=repo, device=device, dtype=dtype)


def _weights_in(folder: Path) -> Path:
    weights = next((folder / name for name in WEIGHTS_NAMES if (folder / name).exists()), None)
    if weights is None:
        raise WeightsError(f"{folder} holds no weights: none of {', '.join(WEIGHTS_NAMES)} is there.")
    return weights


def _plan(name: str, architecture: str) -> _Plan:
    config = find_config(architecture)
    return _Plan(name=name, model=architecture, config=config, preprocess=usual_preprocessing(architecture))


def _read_plan(path: Path, *, name: str, tokenizer: str | None) -> _Plan:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config, preprocess = content["model_cfg"], content.get("preprocess_cfg", {})
        _ = config["embed_dim"], config["vision_cfg"], config["text_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is not a configuration of open_clip ({type(error).__name__}: {error}).") from error
    return _Plan(name=name, model=path.name, config=config, preprocess=preprocess, tokenizer=tokenizer)


def _new_model(config: Mapping[str, Any]) -> Any:
    """Make an untrained model, as `open_clip.create_model` would, which writes to the root logger as it goes."""
    open_clip = require("open_clip", extra="openclip", purpose="open_clip models")
    settings = deepcopy(dict(config))
    settings["vision_cfg"]["timm_model_pretrained"] = False
    settings["text_cfg"]["hf_model_pretrained"] = False
    is_custom = settings.pop("custom_text", False) or "hf_model_name" in settings["text_cfg"]
    kind = open_clip.CLIP
    if is_custom:
        kind = open_clip.CoCa if "multimodal_cfg" in settings else open_clip.CustomTextCLIP
    try:
        return kind(**settings)
    except RuntimeError as error:  # timm does not know the image tower
        raise WeightsError(
            f"The model cannot be built ({first_line(error)}). Its config may come from a newer open_clip or timm."
        ) from error


def _as_named_here(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights under the names and shapes that open_clip uses today for what it once wrote otherwise."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    own = model.state_dict()
    renamed: dict[str, Tensor] = dict(convert_state_dict(model, dict(state)))
    if "text_projection" in renamed and "text_projection" not in own:
        renamed = convert_to_custom_text_state_dict(renamed)
    renamed.pop("text.transformer.embeddings.position_ids", None)
    for name in ("logit_scale", "logit_bias"):
        if name in renamed and name in own and renamed[name].numel() == 1:
            renamed[name] = renamed[name].reshape(own[name].shape)
    return renamed


def _preprocessing(preprocess: Mapping[str, Any], image_size: int | tuple[int, int]) -> Preprocessing:
    from open_clip.transform import PreprocessCfg

    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height != width:
        raise UsageError(f"Models that look at rectangles ({height}x{width}) are not supported; squares are.")
    usual = vars(PreprocessCfg())
    chosen = {key: preprocess[key] if preprocess.get(key) is not None else usual[key] for key in usual}
    return Preprocessing(
        size=height,
        mean=chosen["mean"],
        std=chosen["std"],
        # "random" is for training; open_clip evaluates with bicubic then.
        interpolation="bilinear" if chosen["interpolation"] == "bilinear" else "bicubic",
        resize_mode=chosen["resize_mode"],
        fill=chosen["fill_color"],
    )


def _context(text: Mapping[str, Any]) -> int:
    length: int = text.get("context_length", 77)
    return length


def _tokenizer(text: Mapping[str, Any], source: str | None) -> Any:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    length, options = _context(text), text.get("tokenizer_kwargs") or {}
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(context_length=length, **options)
    wanted = source or text["hf_tokenizer_name"]
    try:
        return HFTokenizer(wanted, context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **options)
    except Exception as error:
        raise WeightsError(
            f"The tokenizer {wanted!r} could not be loaded ({first_line(error)}). Give the folder of the model, with"
            " the files of its tokenizer."
        ) from error


def _published(architecture: str, tag: str) -> dict[str, Any]:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    published: dict[str, Any] = get_pretrained_cfg(architecture, tag)
    if not published:
        tags = list_pretrained_tags_by_model(architecture)
        if not tag:
            tags = [one for one in tags if has_right_activation(architecture, get_pretrained_cfg(architecture, one))]
            raise UsageError(
                f"'openclip:{architecture}' needs a tag, as in 'openclip:{architecture}/{tags[0] if tags else '…'}', or"
                " weights='checkpoint.pt'."
            )
        raise UnknownName(f"tag of {architecture}", tag, tags)
    return published


def _fetched(spec: str, published: Mapping[str, Any]) -> Path:
    from open_clip.pretrained import download_pretrained

    try:
        return Path(download_pretrained(dict(published)))
    except Exception as error:
        raise WeightsError(
            f"The weights of 'openclip:{spec}' could not be fetched ({first_line(error)}). Give a local copy:"
            f" load_encoder('openclip:{spec.partition('/')[0]}', weights='checkpoint.pt')."
        ) from error


def _from_hub(repo: str, names: Sequence[str]) -> Path:
    hub = require("huggingface_hub", extra="openclip", purpose="models of the Hugging Face hub")
    for name in names:
        try:
            return Path(hub.hf_hub_download(repo, name))
        except Exception as error:  # noqa: BLE001 - offline, absent, private, misspelt: each in a class of its own
            reason = first_line(error)
    raise WeightsError(
        f"'hf-hub:{repo}' could not be fetched: {' or '.join(names)} ({reason}). Fetch it on a machine that can, and"
        " give the folder."
    )


def _existing(weights: str | os.PathLike[str]) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file {str(path)!r} to take weights from.")
    return path


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide vectors: not where a tokenizer or a tower's first weights once came from."""
    text = {
        key: value for key, value in config["text_cfg"].items() if not key.startswith(("hf_tokenizer", "tokenizer"))
    }
    return {**config, "text_cfg": text}
