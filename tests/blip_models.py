"""Tiny random BLIP and BLIP-2 models in the real format: configuration, safetensors, tokenizer and processor.

The vocabularies are learned from a few sentences by the real tokenizer trainers, so that nothing comes from a hub.
Weights are drawn large enough for two images to get two captions.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    PreTrainedTokenizerFast,
    T5Tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE_SIZE = 32
WORDS = [
    "a",
    "an",
    "the",
    "of",
    "in",
    "with",
    "and",
    "satellite",
    "image",
    "aerial",
    "photo",
    "picture",
    "view",
    "many",
    "some",
    "green",
    "brown",
    "blue",
    "river",
    "road",
    "forest",
    "harbor",
    "bridge",
    "ships",
    "trees",
    "houses",
    "field",
    "farmland",
    "beach",
    "stadium",
    "airport",
    "pond",
    "question",
    "answer",
    "what",
    "is",
    "this",
    "describe",
]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": 8,
    "initializer_range": 0.6,
}


@contextmanager
def one_thread() -> Iterator[None]:
    """Models this small spend their time waiting for threads, not computing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save_blip(folder: Path, *, seed: int = 0, talkative: bool = False) -> Path:
    """Save a BLIP captioning model of 60 thousand weights; 32 px, WordPiece. A talkative one always finds words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer({word: number for number, word in enumerate(words)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.6,
        "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "eos_token_id": 2,
        "sep_token_id": 3,
        "pad_token_id": 0,
    }
    torch.manual_seed(seed)
    model = BlipForConditionalGeneration(BlipConfig(vision_config=VISION, text_config=text, initializer_range=0.6))
    if talkative:
        model.text_decoder.cls.predictions.decoder.bias.data[:5] = -1e4
    return _save(folder, model, BlipProcessor(_image_processor(), tokenizer))


def save_blip2(
    folder: Path, *, language_model: Literal["opt", "t5"] = "opt", old_format: bool = False, seed: int = 0
) -> Path:
    """Save a BLIP-2 model with a decoder-only (OPT) or an encoder-decoder (T5) language model.

    Args:
        folder: Where to.
        language_model: Which kind.
        old_format: As saved before transformers 4.46: no image token in the configuration and the tokenizer, no
            `num_query_tokens` in the processor.
        seed: Of the weights.
    """
    tokenizer = _byte_tokenizer() if language_model == "opt" else _t5_tokenizer()
    processor = Blip2Processor(_image_processor(), tokenizer, num_query_tokens=4)
    text = {"opt": _opt, "t5": _t5}[language_model](len(tokenizer) + 7)
    qformer = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.6,
    }
    torch.manual_seed(seed)
    config = Blip2Config(
        vision_config=VISION,
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=4,
        image_token_index=None if old_format else tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    torch.nn.init.normal_(model.language_projection.weight)
    if old_format:
        processor = BlipProcessor(_image_processor(), _byte_tokenizer() if language_model == "opt" else _t5_tokenizer())
    return _save(folder, model, processor)


def _save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _image_processor() -> BlipImageProcessor:
    return BlipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})


def _opt(vocab_size: int) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "init_std": 0.6,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _t5(vocab_size: int) -> dict[str, Any]:
    return {
        "model_type": "t5",
        "vocab_size": vocab_size,
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 2,
        "initializer_factor": 6.0,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
    }


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with OPT's special tokens, which begins every text with `</s>`."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([" ".join(WORDS)], trainer)
    core.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def _t5_tokenizer() -> T5Tokenizer:
    letters = [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz?:.,"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0), *letters]
    return T5Tokenizer([*pieces, *((f"▁{word}", -3.0) for word in WORDS if len(word) > 1)], extra_ids=0)
