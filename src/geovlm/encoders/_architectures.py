"""Which open_clip architecture weights belong to: asked of the user, of the file's name, of open_clip's own table.

Two architectures can have the same weights and another activation: `ViT-L-14` computes GELU, `ViT-L-14-quickgelu`
QuickGELU. Nothing in the weights tells which is right, and the wrong one gives wrong vectors without any error, so it
is never guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from geovlm._optional import require
from geovlm.encoders.presets import PRESETS
from geovlm.errors import UnknownName, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from geovlm.encoders._checkpoint import Checkpoint

LONG_CONTEXT, LONG_KEPT = 248, 20

PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode", "fill_color")


def find_config(architecture: str) -> dict[str, Any]:
    """The `model_cfg` of an architecture of open_clip's registry.

    Raises:
        UnknownName: There is none of that name.
    """
    open_clip = require("open_clip", extra="openclip", purpose="open_clip models")
    config: dict[str, Any] | None = open_clip.get_model_config(architecture)
    if config is None:
        raise UnknownName("open_clip architecture", architecture, open_clip.list_models())
    return config


def choose(checkpoint: Checkpoint, given: str | None) -> str:
    """The architecture of a checkpoint: the given one, or that of the preset whose name the file carries.

    Raises:
        WeightsError: The file does not say, or it is known and the given one computes something else.
    """
    files = ((name, preset) for name, preset in PRESETS.items() if preset.format == "checkpoint")
    known = next((name for name, preset in files if preset.stem in checkpoint.names), None)
    if known is None:
        if given is None:
            raise WeightsError(_ask(checkpoint))
        return given
    right = PRESETS[known].architecture
    if given not in (None, right):
        raise WeightsError(
            f"{checkpoint.path} holds the weights of {known!r}, which are of the architecture {right!r}; {given!r}"
            f" would compute other vectors. Leave architecture out, or give {right!r}."
        )
    return right


def check_activation(architecture: str, tag: str, published: Mapping[str, Any]) -> None:
    """Refuse a tag of open_clip's table under an architecture with another activation, which open_clip only warns of.

    Raises:
        WeightsError: They differ; names the architecture that is right.
    """
    if not has_right_activation(architecture, published):
        raise WeightsError(
            f"The weights {tag!r} were trained with QuickGELU, and {architecture!r} computes GELU. Load"
            f" 'openclip:{architecture}-quickgelu/{tag}'."
        )


def has_right_activation(architecture: str, published: Mapping[str, Any]) -> bool:
    """Whether an architecture computes QuickGELU where published weights say that they need it."""
    return bool(find_config(architecture).get("quick_gelu")) or not published.get("quick_gelu")


def with_long_texts(config: dict[str, Any], state: Mapping[str, Tensor]) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Config and weights for texts of 248 tokens, where the weights have Long-CLIP's text tower; else as they are.

    It has two tables of positions, of which it reads the first 20 rows of one and the others of the other (Zhang et
    al., "Long-CLIP", 2024): one table is the same.
    """
    positions, others = state.get("positional_embedding"), state.get("positional_embedding_res")
    if positions is None or len(positions) != LONG_CONTEXT:
        return config, state
    if others is not None:
        positions = torch.cat([positions[:LONG_KEPT], others[LONG_KEPT:]])
    rest = {key: value for key, value in state.items() if key != "positional_embedding_res"}
    text = {**config["text_cfg"], "context_length": LONG_CONTEXT}
    return {**config, "text_cfg": text}, {**rest, "positional_embedding": positions}


def usual_preprocessing(architecture: str) -> dict[str, Any]:
    """What all published weights of an architecture share, such as SigLIP's means; where they differ, nothing."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = [get_pretrained_cfg(architecture, tag) for tag in list_pretrained_tags_by_model(architecture)]
    chosen = [{key: tag[key] for key in PREPROCESS_KEYS if key in tag} for tag in tags]
    return chosen[0] if chosen and all(one == chosen[0] for one in chosen) else {}


def _ask(checkpoint: Checkpoint) -> str:
    names = fitting(checkpoint.state)
    advice = "Say which it is: load_encoder(path, architecture='…'), with a name from open_clip.list_models()."
    if names:
        advice = (
            f"They fit {' and '.join(names)}. Say which it is: load_encoder(path, architecture={names[0]!r}). An"
            " architecture with '-quickgelu' has the same weights as the one without and gives other vectors: models"
            " that started from OpenAI's weights need it (ViT-L-14 of SkyCLIP), those that started from LAION's do not"
            " (ViT-B-32 of SkyCLIP)."
        )
    return f"{checkpoint.path} does not say which architecture and activation its weights were trained with. {advice}"


def fitting(state: Mapping[str, Tensor]) -> list[str]:
    """Architectures of the plain kind (a vision transformer, CLIP's text tower) whose weights have these shapes."""
    import open_clip

    try:
        seen = _shape_of_weights(state)
    except KeyError:
        return []
    return [name for name in open_clip.list_models() if _shape_of_config(open_clip.get_model_config(name)) == seen]


def _shape_of_weights(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    patches, positions = state["visual.conv1.weight"].shape, state["positional_embedding"].shape
    return (
        state["text_projection"].shape[1],
        patches[0],
        patches[-1],
        state["visual.positional_embedding"].shape[0] - 1,
        _depth(state, "visual.transformer.resblocks."),
        positions[1],
        positions[0],
        state["token_embedding.weight"].shape[0],
        _depth(state, "transformer.resblocks."),
    )


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _shape_of_config(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    vision = {"layers": 12, "width": 768, "patch_size": 16, "image_size": 224, **config["vision_cfg"]}
    text = {"width": 512, "context_length": 77, "vocab_size": 49408, "layers": 12, **config["text_cfg"]}
    plain = isinstance(vision["layers"], int) and isinstance(vision["image_size"], int)
    if not plain or config.get("custom_text") or "timm_model_name" in vision or "hf_model_name" in text:
        return None
    return (
        config["embed_dim"],
        vision["width"],
        vision["patch_size"],
        (vision["image_size"] // vision["patch_size"]) ** 2,
        vision["layers"],
        text["width"],
        text["context_length"],
        text["vocab_size"],
        text["layers"],
    )
