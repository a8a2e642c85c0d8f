"""One model in two libraries, and tiny towers of each kind that tells where."""

from __future__ import annotations

from typing import Any

import torch

from geovlm.encoders import new_encoder
from geovlm.encoders.huggingface import HuggingFaceEncoder
from tests import models

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}

VISION: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "vit, quickgelu": {**VIT, "quick_gelu": True},
    "vit, averages": {**VIT, "pool_type": "avg"},
    "vit, layer scale": {**VIT, "ls_init_value": 0.5},
    "vit, averages before the norm": {**VIT, "pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "clip's resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
    "timm's resnet": {"image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"},
    "timm's convnext": {
        "image_size": 64,
        "timm_model_name": "test_convnext",
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
}
NOT_DENSE: dict[str, dict[str, Any]] = {
    "own attention": {**VIT, "qk_norm": True},
    "many queries": {**VIT, "attentional_pool": True},
    "efficientnet": {"image_size": 64, "timm_model_name": "test_efficientnet", "timm_pool": "avg"},
}


def encoder_of(vision: dict[str, Any]) -> Any:
    """An untrained encoder with this image tower, in float32 on the CPU, that tells pictures apart."""
    vision = dict(vision)
    config = {"embed_dim": models.DIM, "text_cfg": TEXT, "quick_gelu": vision.pop("quick_gelu", False)}
    encoder = new_encoder({**config, "vision_cfg": vision}, device="cpu", dtype="float32")
    torch.manual_seed(0)
    models._stir(encoder.model)
    return encoder


def as_transformers_clip(encoder: Any) -> HuggingFaceEncoder:
    """The image tower of an open_clip encoder (`VIT`, GELU) as a `CLIPModel` of transformers."""
    from transformers import CLIPConfig, CLIPModel

    layers = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu"}
    vision = {**layers, "intermediate_size": 128, "image_size": 32, "patch_size": 8}
    text = {**layers, "intermediate_size": 64, "bos_token_id": 0, "eos_token_id": 1, "vocab_size": 32}
    model = CLIPModel(CLIPConfig(projection_dim=models.DIM, text_config=text, vision_config=vision)).eval()
    state, theirs = encoder.model.visual.state_dict(), {}
    for name, tensor in state.items():
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            layer, kind = name.split(".")[2], name.rsplit("_", 1)[1]
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                theirs[f"encoder.layers.{layer}.self_attn.{part}_proj.{kind}"] = piece
        elif name != "proj":
            theirs[_clip_name(name)] = tensor
    model.vision_model.load_state_dict(theirs)
    model.visual_projection.weight.data = state["proj"].T.contiguous()
    processor = models.clip_processor()
    return HuggingFaceEncoder(model, name="converted", processor=processor, device="cpu", dtype="float32")


def _clip_name(name: str) -> str:
    for ours, theirs in (
        ("conv1", "embeddings.patch_embedding"),
        ("class_embedding", "embeddings.class_embedding"),
        ("positional_embedding", "embeddings.position_embedding.weight"),
        ("ln_pre", "pre_layrnorm"),
        ("ln_post", "post_layernorm"),
        ("transformer.resblocks", "encoder.layers"),
        ("attn.out_proj", "self_attn.out_proj"),
        ("ln_1", "layer_norm1"),
        ("ln_2", "layer_norm2"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
    ):
        name = name.replace(ours, theirs)
    return name


def as_timm_siglip(encoder: HuggingFaceEncoder) -> Any:
    """The image tower of a SigLIP of transformers in timm's `VisionTransformer`, within open_clip's wrapper."""
    from timm.models.vision_transformer import VisionTransformer

    trunk = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=models.DIM,
        depth=2,
        num_heads=2,
        mlp_ratio=64 / models.DIM,
        class_token=False,
        global_pool="map",
        num_classes=0,
        act_layer="gelu_tanh",
        norm_layer=lambda *size, **where: torch.nn.LayerNorm(*size, eps=1e-6, **where),
    )
    state = encoder.model.vision_model.state_dict()
    trunk.load_state_dict(_timm_state(state))
    vision = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "none"}
    twin = new_encoder(
        {"embed_dim": models.DIM, "vision_cfg": vision, "text_cfg": TEXT},
        preprocess={"mean": [0.5] * 3, "std": [0.5] * 3},
        device="cpu",
        dtype="float32",
    )
    twin.model.visual.trunk = trunk.eval()
    return twin


def _timm_state(state: dict[str, Any]) -> dict[str, Any]:
    """Weights of a `SiglipVisionModel` under timm's names."""
    theirs = {
        "pos_embed": state["embeddings.position_embedding.weight"].unsqueeze(0),
        "attn_pool.latent": state["head.probe"],
    }
    for kind in ("weight", "bias"):
        query, *rest = state[f"head.attention.in_proj_{kind}"].chunk(3)
        theirs |= {f"attn_pool.q.{kind}": query, f"attn_pool.kv.{kind}": torch.cat(rest)}
        moved = {"embeddings.patch_embedding": "patch_embed.proj", "post_layernorm": "norm"}
        moved |= {"head.attention.out_proj": "attn_pool.proj", "head.layernorm": "attn_pool.norm"}
        moved |= {"head.mlp.fc1": "attn_pool.mlp.fc1", "head.mlp.fc2": "attn_pool.mlp.fc2"}
        for layer in range(2):
            here, there = f"encoder.layers.{layer}", f"blocks.{layer}"
            qkv = [state[f"{here}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            theirs[f"{there}.attn.qkv.{kind}"] = torch.cat(qkv)
            moved |= {f"{here}.self_attn.out_proj": f"{there}.attn.proj", f"{here}.mlp.fc1": f"{there}.mlp.fc1"}
            moved |= {f"{here}.mlp.fc2": f"{there}.mlp.fc2", f"{here}.layer_norm1": f"{there}.norm1"}
            moved |= {f"{here}.layer_norm2": f"{there}.norm2"}
        theirs |= {f"{there}.{kind}": state[f"{here}.{kind}"] for here, there in moved.items()}
    return theirs
