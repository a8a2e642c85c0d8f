"""Encoders by name: `load_encoder("skyclip-vit-b-32")`, a folder, a checkpoint, or a model of a hub."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovlm._optional import require
from geovlm.encoders._probe import Probe, check_folder, check_probe, record_probe
from geovlm.encoders.presets import PRESETS, presets_table
from geovlm.errors import UsageError
from geovlm.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.protocols import Encoder

__all__ = [
    "ENCODERS",
    "PRESETS",
    "Probe",
    "check_probe",
    "load_encoder",
    "new_encoder",
    "presets_table",
    "record_probe",
]

ENCODERS = Registry(
    "encoder",
    group="geovlm.encoders",
    builtin=dict.fromkeys(PRESETS, "geovlm.encoders:load_preset"),
)
"""Name → factory. A factory is called as `factory(name, weights=…, device=…, dtype=…)` and returns an `Encoder`."""


def load_encoder(
    name_or_path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    architecture: str | None = None,
    device: str | Sequence[str] | None = None,
    dtype: str | None = None,
    backend: str = "torch",
) -> Encoder:
    """Load an encoder of images and texts.

    What computes is what was trained: weights that are missing, left over or of another shape are an error, and so is a
    checkpoint that fits two architectures which differ only in their activation, until one of them is named. Where some
    of a model's vectors are known (`probe.json` in a saved folder, some presets), they are compared.

    Args:
        name_or_path: One of

            - a preset, such as `skyclip-vit-b-32` or `georsclip-vit-h-14` (`geovlm.encoders.presets_table()`), fetched
              once;
            - a folder in the format of open_clip (`open_clip_config.json`) or transformers (CLIP, SigLIP), such as
              `encoder.save()` writes;
            - a checkpoint of open_clip (`.pt`, `.pth`, `.bin`, `.safetensors`, or a zip with one of these);
            - `openclip:` with an architecture and a tag of open_clip's, such as
              `openclip:ViT-B-32/laion2b_s34b_b79k`, or with an architecture and `weights`;
            - `hf-hub:` and the hub id of an open_clip model;
            - `hf:` and the hub id of a CLIP or SigLIP model of transformers, such as
              `hf:openai/clip-vit-base-patch32`.
        weights: With a preset or an architecture: a local copy of the weights, as they were published; with a preset
            whose weights are a model of the hub, also its folder.
        architecture: With a checkpoint: the open_clip architecture it was trained with, such as `ViT-L-14-quickgelu`.
        device: Where it runs, such as `"cuda:0"`; `None` takes a GPU if there is one. Of a list, such as
            `["cuda:0", "cuda:1"]`, each gets a share of every batch (`ReplicatedEncoder`).
        dtype: `"float32"`, `"bfloat16"` or `"float16"`; `None` takes the fastest that the device computes in. Vectors
            are float32 in any case; those of ViT-B/32 in bfloat16 have a mean cosine of 0.9999 to those in float32.
        backend: `"openvino"` computes vectors by OpenVINO, faster on a CPU than torch; `"inductor"` those of images by
            `torch.compile`, for long runs on a GPU. The first call converts or compiles the model. The fingerprint
            stays the same, since the vectors do within the precision.

    Raises:
        UnknownName: No encoder or back end is called so; the message offers the nearest names.
        UsageError: The path does not exist, or the arguments do not go together.
        WeightsError: The weights cannot be fetched or read, do not fit, do not say which activation they need, or give
            other vectors than are known of them.
        MissingExtra: torch, open_clip, transformers or openvino is not installed.

    Examples:
        >>> load_encoder("skyclip-vit-b32")
        Traceback (most recent call last):
        ...
        geovlm.errors.UnknownName: No encoder is called 'skyclip-vit-b32'. Did you mean skyclip-vit-b-32 or ...?
    """
    devices = [device] if device is None or isinstance(device, str) else list(device)
    if not devices:
        raise UsageError("device is a name such as 'cuda:0', a list of one or more names, or None to choose; not [].")
    encoder = _load(name_or_path, weights=weights, architecture=architecture, device=devices[0], dtype=dtype)
    return encoder if len(devices) == 1 and backend == "torch" else _arranged(encoder, devices, backend)


def _arranged(encoder: Encoder, devices: Sequence[str | None], backend: str) -> Encoder:
    """The encoder computed by another back end, and on all of the devices."""
    from geovlm.encoders._torch import TorchEncoder
    from geovlm.encoders.replicas import ReplicatedEncoder

    if not isinstance(encoder, TorchEncoder):
        raise UsageError(
            f"{encoder.name} is no encoder on torch: it takes neither several devices nor another back end."
        )
    everywhere = [encoder, *(encoder.on_device(device) for device in devices[1:] if device)]
    arranged = [one.with_backend(backend) for one in everywhere]
    return arranged[0] if len(arranged) == 1 else ReplicatedEncoder(arranged)


def _load(
    name_or_path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None,
    architecture: str | None,
    device: str | None,
    dtype: str | None,
) -> Encoder:
    name = os.fspath(name_or_path)
    is_text = isinstance(name_or_path, str)
    scheme, _, rest = name.partition(":")
    if is_text and rest and scheme in ("openclip", "hf-hub", "hf"):
        _refuse(architecture=architecture, weights=None if scheme == "openclip" else weights)
        return _load_from_library(scheme, rest, weights, device=device, dtype=dtype)
    if is_text and _is_name(name):
        _refuse(architecture=architecture)
        encoder: Encoder = ENCODERS[name](name, weights=weights, device=device, dtype=dtype)
        return encoder
    _refuse(weights=weights)
    return _load_path(Path(name).expanduser(), architecture, device=device, dtype=dtype)


def new_encoder(
    config: Mapping[str, Any],
    *,
    preprocess: Mapping[str, Any] | None = None,
    seed: int = 0,
    name: str = "new",
    device: str | None = None,
    dtype: str | None = None,
) -> Encoder:
    """Make an untrained encoder, to be trained from scratch.

    Args:
        config: What open_clip calls `model_cfg`: `embed_dim`, `vision_cfg` and `text_cfg`.
        preprocess: What open_clip calls `preprocess_cfg`, where it is to differ from CLIP's: `mean`, `std`,
            `interpolation`, `resize_mode`.
        seed: Of the first weights; equal seeds make equal encoders.
        name: For reading.
        device: Where it runs; `None` takes a GPU if there is one.
        dtype: The precision of the arithmetic; `None` takes the fastest that the device computes in.

    Raises:
        UsageError: The config lacks a part.
        MissingExtra: torch or open_clip is not installed.

    Examples:
        >>> vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
        >>> text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}).encode_texts(["a river"]).shape
        (1, 8)
    """
    encoder: Encoder = _backend("openclip").new(
        config, preprocess=preprocess or {}, seed=seed, name=name, device=device, dtype=dtype
    )
    return encoder


def load_preset(
    name: str, *, weights: str | os.PathLike[str] | None = None, device: str | None = None, dtype: str | None = None
) -> Encoder:
    """Load one of `PRESETS`; arguments and errors as in `load_encoder`."""
    preset = PRESETS[name]
    module = "huggingface" if preset.format == "transformers" else "openclip"
    encoder: TorchEncoder = _backend(module).load_preset(name, weights=weights, device=device, dtype=dtype)
    if preset.probe is not None:
        check_probe(encoder, preset.probe)
    return encoder


def _load_from_library(
    scheme: str, rest: str, weights: str | os.PathLike[str] | None, *, device: str | None, dtype: str | None
) -> Encoder:
    if scheme == "openclip":
        encoder: Encoder = _backend("openclip").load_architecture(rest, weights=weights, device=device, dtype=dtype)
        return encoder
    module = "openclip" if scheme == "hf-hub" else "huggingface"
    hub_encoder: Encoder = _backend(module).load_hub(rest, device=device, dtype=dtype)
    return hub_encoder


def _load_path(path: Path, architecture: str | None, *, device: str | None, dtype: str | None) -> Encoder:
    if not path.exists():
        hub = f" A model of a hub is 'hf:{path}' (transformers) or 'hf-hub:{path}' (open_clip)."
        raise UsageError(f"There is no file or folder {str(path)!r}.{hub if len(path.parts) == 2 else ''}")
    if path.is_file():
        encoder: Encoder = _backend("openclip").load_file(path, architecture=architecture, device=device, dtype=dtype)
        return encoder
    _refuse(architecture=architecture)
    saved: TorchEncoder = _backend(_format_of(path)).load_folder(path, device=device, dtype=dtype)
    check_folder(saved, path)
    return saved


def _format_of(folder: Path) -> str:
    if (folder / "open_clip_config.json").exists():
        return "openclip"
    if (folder / "config.json").exists():
        return "huggingface"
    found = sorted(item.name for item in folder.iterdir())
    raise UsageError(
        f"{folder} holds no encoder: neither open_clip_config.json (open_clip) nor config.json (transformers), only"
        f" {', '.join(found[:5]) or 'nothing'}. For a checkpoint give its file, and its architecture ('ViT-B-32')."
    )


def _backend(module: str) -> Any:
    require("torch", extra="transformers" if module == "huggingface" else "openclip", purpose="an encoder")
    return import_module(f"geovlm.encoders.{module}")


def _is_name(name: str) -> bool:
    """A known name, or one that can only be a misspelt name; a folder of a known name is `./name`."""
    if name in PRESETS:
        return True
    path = Path(name).expanduser()
    is_place = "/" in name or os.sep in name or path.suffix in (".pt", ".pth", ".bin", ".safetensors", ".zip")
    return name in ENCODERS or not (is_place or path.exists())


def _refuse(**given: Any) -> None:
    for argument, value in given.items():
        if value is not None:
            raise UsageError(f"{argument}={value!r} does not go with this name: {_PURPOSE[argument]}")


_PURPOSE = {
    "weights": "weights is a local copy for a preset or for 'openclip:' with an architecture.",
    "architecture": "architecture says what a checkpoint file is; presets, folders and hub models know it.",
}
