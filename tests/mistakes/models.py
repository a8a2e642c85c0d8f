"""Mistakes with models and weights."""

from __future__ import annotations

from unittest import mock

import geovlm as gv
from tests.mistakes.kit import TINY_CLIP, mistake, tiny_clip, without

MODELS = "Models and weights"


@mistake(
    MODELS,
    "A typo in a preset",
    "No encoder is called 'skyclip-vit-l-41'. Did you mean skyclip-vit-l-14 or skyclip-vit-b-32 or"
    " skyclip-vit-l-14-top50?",
    "Take a name that is offered; `geovlm.encoders.presets_table()` shows all.",
)
def _():
    gv.load_encoder("skyclip-vit-l-41")


@mistake(
    MODELS,
    "No weights and no network",
    "The weights of 'skyclip-vit-b-32' could not be fetched (HF_HUB_OFFLINE is set). Fetch"
    " https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/ckpt/SkyCLIP_ViT_B32_top50pct.zip on a"
    " machine that can, and give your copy: load_encoder('skyclip-vit-b-32',"
    " weights='SkyCLIP_ViT_B32_top50pct.zip').",
    "Fetch the file elsewhere, and give it as `weights=`.",
)
def _():
    gv.load_encoder("skyclip-vit-b-32")


@mistake(
    MODELS,
    "A name of the Hugging Face hub without `hf:`",
    "There is no file or folder 'openai/clip-vit-base-patch32'. A model of a hub is"
    " 'hf:openai/clip-vit-base-patch32' (transformers) or 'hf-hub:openai/clip-vit-base-patch32' (open_clip).",
    "Write `hf:`, or `hf-hub:` for a model of open_clip.",
)
def _():
    gv.load_encoder("openai/clip-vit-base-patch32")


@mistake(
    MODELS,
    "A name of the hub, without a network",
    "'hf:openai/clip-vit-base-patch32' could not be fetched (…). Fetch it on a machine that can, and give the folder.",
    '`hf download NAME --local-dir FOLDER` where there is a network, and `load_encoder("FOLDER")`.',
)
def _():
    gv.load_encoder("hf:openai/clip-vit-base-patch32")


@mistake(
    MODELS,
    "A folder without a model",
    "scenes holds no encoder: neither open_clip_config.json (open_clip) nor config.json (transformers), only"
    " beach, forest. For a checkpoint give its file, and its architecture ('ViT-B-32').",
    "Give the folder that the training wrote (`run/train/encoder`), or a checkpoint's file.",
)
def _():
    gv.load_encoder("scenes")


@mistake(
    MODELS,
    "A damaged checkpoint",
    "weights/model.pt could not be read as weights only (…). It is damaged, or it holds Python objects, which"
    " are never unpickled; fetch it again, or save its state dict as safetensors.",
    "Fetch it again. Files that hold Python objects are refused on purpose.",
)
def _():
    gv.load_encoder("weights/model.pt", architecture="ViT-B-32")


@mistake(
    MODELS,
    "A checkpoint of another architecture",
    "The weights of weights/other.pt do not fit RN50: missing: positional_embedding, text_projection,"
    " logit_scale and … more; left over: visual.proj. Give the architecture that they were trained with.",
    "Give the architecture it was trained with; its config, card or file name tells.",
)
def _():
    import torch

    torch.save({"state_dict": {"visual.proj": torch.zeros(4, 4)}}, "weights/other.pt")
    gv.load_encoder("weights/other.pt", architecture="RN50")


@mistake(
    MODELS,
    "A typo in an architecture",
    "No open_clip architecture is called 'ViT-B32'. Did you mean ViT-B-32 or ViT-S-32 or ViT-M-32?",
    "Take a name that is offered.",
)
def _():
    gv.load_encoder("weights/model.pt", architecture="ViT-B32")


@mistake(
    MODELS,
    "A device that is not there",
    "There is no device 'cuda:7' here (…). Try 'cpu', or None to choose.",
    "Leave `device` out, or install a PyTorch for your GPU.",
)
def _():
    with mock.patch("torch.cuda.is_available", return_value=False):
        gv.new_encoder(TINY_CLIP, device="cuda:7")


@mistake(
    MODELS,
    "A typo in a dtype",
    "dtype is one of float32, bfloat16, float16, or None to choose; not 'fp16'.",
    '`dtype="float16"`, or leave it out.',
)
def _():
    gv.new_encoder(TINY_CLIP, device="cpu", dtype="fp16")


@mistake(
    MODELS,
    "A missing library",
    "lancedb is needed for LanceStore: pip install 'geovlm[lance]' brings it.",
    "Run the command.",
)
def _():
    with without("lancedb"):
        gv.LanceStore("scenes.lance")


@mistake(
    MODELS,
    "A typo in a captioner",
    "No captioner is called 'blip2-opt-2.7'. Did you mean blip2-opt-2.7b or blip2-opt-6.7b or blip2-opt-2.7b-coco?",
    "Take a name that is offered.",
)
def _():
    gv.load_captioner("blip2-opt-2.7")


@mistake(
    MODELS,
    "One text where a list is meant",
    "encode_texts takes a list of strings; for one text write encode_texts([text]).",
    '`encoder.encode_texts(["a beach"])`.',
)
def _():
    tiny_clip().encode_texts("a beach")


@mistake(
    MODELS,
    "A name where an encoder is meant",
    "An Index needs an encoder, such as load_encoder('skyclip-vit-b-32') gives.",
    '`gv.Index(gv.load_encoder("skyclip-vit-b-32"))`.',
)
def _():
    gv.Index("skyclip-vit-b-32")
