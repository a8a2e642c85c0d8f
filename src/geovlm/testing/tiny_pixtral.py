"""A tiny Pixtral of random weights in the real format: to run what a 12-billion-parameter model is too large for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovlm._optional import require

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

__all__ = ["save_tiny_pixtral"]

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
VOCABULARY = 500
PATCH, SIDE = 16, 64
# The system prompt stands in the last turn, as in Pixtral's own template.
TEMPLATE = """
{%- set system = messages[0]["content"] + "\\n\\n" if messages[0]["role"] == "system" else "" %}
{{- bos_token }}
{%- for message in messages if message["role"] != "system" %}
    {%- if message["role"] == "assistant" %}
        {{- message["content"] + eos_token }}
    {%- else %}
        {{- "[INST]" + (system if loop.last else "") }}
        {%- for chunk in message["content"] %}
            {{- "[IMG]" if chunk["type"] == "image" else chunk["content"] }}
        {%- endfor %}
        {{- "[/INST]" }}
    {%- endif %}
{%- endfor %}
"""
BLOCKS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.2,
}


def save_tiny_pixtral(folder: str | os.PathLike[str], *, texts: Iterable[str] = (), seed: int = 0) -> Path:
    """Save a model of Pixtral's form with some ten thousand random weights; it answers nonsense, and can be fine-tuned.

    Args:
        folder: Where to; `PixtralClient(folder)` answers from it.
        texts: What its tokenizer is made from, such as prompts and answers; other texts take more tokens.
        seed: Of the weights.

    Raises:
        MissingExtra: transformers is not installed.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import PixtralClient
        >>> client = PixtralClient(str(save_tiny_pixtral(tempfile.mkdtemp())), max_tokens=4)
        >>> client.ask("What is this?", Image.new("RGB", (64, 64))).usage.completion_tokens
        4
    """
    torch = require("torch", extra="pixtral-local", purpose="a tiny model")
    library = require("transformers", extra="pixtral-local", purpose="a tiny model")
    from geovlm._torch import loading_quietly

    tokenizer = _tokenizer(library, texts)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {"model_type": "mistral", "num_key_value_heads": 1, "max_position_embeddings": 4096, "sliding_window": None}
    config = library.LlavaConfig(
        vision_config={"model_type": "pixtral", "image_size": SIDE, "patch_size": PATCH, **BLOCKS},
        text_config={**text, **ids, **BLOCKS, "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = library.LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with loading_quietly():
        model.save_pretrained(folder)
    images = library.PixtralImageProcessor(size={"longest_edge": SIDE}, patch_size=PATCH)
    library.PixtralProcessor(images, tokenizer, patch_size=PATCH, chat_template=TEMPLATE).save_pretrained(folder)
    return Path(folder)


def _tokenizer(library: Any, texts: Iterable[str]) -> Any:
    """Byte-level BPE, learned from some texts."""
    parts = require("tokenizers", extra="pixtral-local", purpose="a tiny model")
    core = parts.Tokenizer(parts.models.BPE())
    core.pre_tokenizer = parts.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = parts.decoders.ByteLevel()
    trainer = parts.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=parts.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = parts.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return library.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",  # noqa: S106 - a token of text
        eos_token="</s>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        additional_special_tokens=[*SPECIAL[3:5], *SPECIAL[6:]],
        chat_template=TEMPLATE,
    )
