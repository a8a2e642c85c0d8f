"""Small random models from the real libraries, saved in the formats in which people have them.

Every builder is seeded, so that two calls give equal weights. Pictures for them come from `picture`.
"""

from __future__ import annotations

import json
import zipfile
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_SIZE = 32
DIM = 24


def picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A smooth RGB picture `(width, height)`; seeds differ in colour and layout."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def save_pictures(folder: Path, count: int, *, size: tuple[int, int] = (48, 40)) -> list[Path]:
    """`count` JPEGs named `scene-000.jpg`, `scene-001.jpg`, … in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene-{number:03}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        picture(number, size).save(path)
    return paths


# --- open_clip -------------------------------------------------------------------------------------------------------


def openclip_config(*, quick_gelu: bool = False, logit_bias: float | None = None) -> dict[str, Any]:
    """The `model_cfg` of a tiny CLIP with the real vocabulary and context length."""
    config: dict[str, Any] = {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    if quick_gelu:
        config["quick_gelu"] = True
    if logit_bias is not None:
        config["init_logit_bias"] = logit_bias
    return config


def openclip_model(*, seed: int = 0, **config: Any) -> Any:
    """A tiny `open_clip.CLIP` on the CPU, in evaluation mode."""
    import open_clip

    torch.manual_seed(seed)
    model = open_clip.CLIP(**openclip_config(**config))
    _stir(model)
    return model.eval()


def register_openclip(folder: Path, name: str = "Tiny-8", **config: Any) -> str:
    """Add a tiny architecture to open_clip's registry, by a JSON file as `add_model_config` takes it."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(openclip_config(**config)), encoding="utf-8")
    open_clip.add_model_config(path)
    return name


def openclip_folder(folder: Path, *, seed: int = 0, preprocess: dict[str, Any] | None = None, **config: Any) -> Path:
    """A folder as open_clip's `push_to_hf_hub` uploads it: config, safetensors, tokenizer files."""
    from open_clip.factory import set_model_preprocess_cfg
    from open_clip.push_to_hf_hub import save_for_hf
    from open_clip.transform import PreprocessCfg

    model = openclip_model(seed=seed, **config)
    set_model_preprocess_cfg(model, {**vars(PreprocessCfg(size=IMAGE_SIZE)), **(preprocess or {})})
    save_for_hf(model, clip_tokenizer(), openclip_config(**config), str(folder), safe_serialization=True)
    return folder


def training_checkpoint(path: Path, model: Any, *, name: str = "run-1", epoch: int = 20) -> Path:
    """A file as open_clip's training writes it, and as SkyCLIP is published (`epoch_20.pt`)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "epoch": epoch,
            "name": name,
            "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "scaler": torch.amp.GradScaler("cpu").state_dict(),
        },
        path,
    )
    return path


def training_zip(path: Path, model: Any, *, folder: str = "SkyCLIP_ViT_B32_top50pct") -> Path:
    """The zip in which SkyCLIP is published: one folder with `epoch_20.pt`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = training_checkpoint(path.with_suffix(".pt"), model)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(checkpoint, f"{folder}/epoch_20.pt")
    checkpoint.unlink()
    return path


# --- transformers ----------------------------------------------------------------------------------------------------


@cache
def clip_tokenizer() -> Any:
    """CLIP's own tokenizer for transformers, made from the vocabulary that open_clip carries."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    simple = SimpleTokenizer()
    vocabulary = dict(simple.encoder)
    for theirs, ours in (("<start_of_text>", "<|startoftext|>"), ("<end_of_text>", "<|endoftext|>")):
        vocabulary[ours] = vocabulary.pop(theirs)
    return CLIPTokenizer(vocab=vocabulary, merges=list(simple.bpe_ranks), model_max_length=77)


def clip_model(*, seed: int = 0) -> Any:
    """A tiny `transformers.CLIPModel` in evaluation mode."""
    from transformers import CLIPConfig, CLIPModel

    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(
            projection_dim=DIM,
            text_config={**layers, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407},
            vision_config={**layers, "image_size": IMAGE_SIZE, "patch_size": 8},
        )
    )
    _stir(model)
    return model.eval()


def clip_processor(size: int = IMAGE_SIZE) -> Any:
    """The processor that belongs to `clip_model`."""
    from transformers import CLIPImageProcessor, CLIPProcessor

    images = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return CLIPProcessor(image_processor=images, tokenizer=clip_tokenizer())


def clip_folder(folder: Path, *, seed: int = 0) -> Path:
    """A tiny CLIP in the format of transformers."""
    clip_model(seed=seed).save_pretrained(folder)
    clip_processor().save_pretrained(folder)
    return folder


@cache
def siglip_tokenizer() -> Any:
    """A tokenizer of the kind that SigLIP 2 has (Gemma's, no attention mask), with one letter a token."""
    from transformers import GemmaTokenizer

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [chr(code) for code in range(33, 127)]
    return GemmaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=[],
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_input_names=["input_ids"],
        model_max_length=64,
    )


def siglip_model(*, seed: int = 0) -> Any:
    """A tiny `transformers.SiglipModel` in evaluation mode."""
    from transformers import SiglipConfig, SiglipModel

    layers = {"hidden_size": DIM, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": 360, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "projection_size": DIM}
    torch.manual_seed(seed)
    model = SiglipModel(
        SiglipConfig(
            text_config={**layers, **tokens, "max_position_embeddings": 16},
            vision_config={**layers, "image_size": IMAGE_SIZE, "patch_size": 8},
        )
    )
    _stir(model)
    with torch.no_grad():
        model.logit_scale.fill_(np.log(10.0))
        model.logit_bias.fill_(-10.0)
    return model.eval()


def siglip_processor(size: int = IMAGE_SIZE) -> Any:
    """The processor that belongs to `siglip_model`."""
    from transformers import SiglipImageProcessor, SiglipProcessor

    return SiglipProcessor(
        image_processor=SiglipImageProcessor(size={"height": size, "width": size}), tokenizer=siglip_tokenizer()
    )


def siglip_folder(folder: Path, *, seed: int = 0) -> Path:
    """A tiny SigLIP in the format of transformers."""
    siglip_model(seed=seed).save_pretrained(folder)
    siglip_processor().save_pretrained(folder)
    return folder


def _stir(model: Any) -> None:
    """Make a fresh model's answers depend on its input: initial weights are so small that all pictures look alike."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.add_(torch.randn_like(parameter) * 0.08)
            elif "logit" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
