"""Tiny random Pixtral (Llava) and Mistral 3 models in the real format: weights, tokenizer, processor.

The tokenizer is byte-level BPE, learned from a few sentences by the real trainer. The chat templates have the form of
the published ones: Pixtral's tells the system prompt only in the last turn, and only if that is the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PixtralImageProcessor,
    PixtralProcessor,
    PreTrainedTokenizerFast,
)

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<pad>"]
IMAGE_TOKENS = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
SENTENCES = [
    "You label overhead images from satellites and aircraft. Choose the one label that fits the image best",
    'and write it exactly as it stands there. Answer with JSON and nothing else, in the form {"label": "Beach"}.',
    "Describe this overhead image in one sentence: what is there, and where. Write the sentence only.",
    "Airport Beach Forest Harbor Meadow Viaduct Parking Playground River School Stadium Square",
]

PIXTRAL_TEMPLATE = """
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\\n\\n" }}
        {%- else %}
            {{- "[INST]" }}
        {%- endif %}
        {%- if message["content"] is not string %}
            {%- for chunk in message["content"] %}
                {%- if chunk["type"] == "text" %}
                    {{- chunk["content"] }}
                {%- elif chunk["type"] == "image" %}
                    {{- "[IMG]" }}
                {%- else %}
                    {{- raise_exception("Unrecognized content type!") }}
                {%- endif %}
            {%- endfor %}
        {%- else %}
            {{- message["content"] }}
        {%- endif %}
        {{- "[/INST]" }}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"] + eos_token }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported.") }}
    {%- endif %}
{%- endfor %}
"""

MISTRAL_TEMPLATE = """
{{- bos_token }}
{%- for message in messages %}
    {%- if message["role"] == "user" %}
        {{- "[INST]" }}
        {%- if message["content"] is string %}
            {{- message["content"] }}
        {%- else %}
            {%- for block in message["content"] %}
                {%- if block["type"] == "text" %}
                    {{- block["text"] }}
                {%- elif block["type"] in ["image", "image_url"] %}
                    {{- "[IMG]" }}
                {%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- "[/INST]" }}
    {%- elif message["role"] == "system" %}
        {{- "[SYSTEM_PROMPT]" + message["content"] + "[/SYSTEM_PROMPT]" }}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"] + eos_token }}
    {%- endif %}
{%- endfor %}
"""

VISION = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 16,
    "image_size": 64,
    "initializer_range": 0.2,
}
TEXT = {
    "model_type": "mistral",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
    "sliding_window": None,
    "tie_word_embeddings": False,
}


def save_pixtral(folder: Path, *, seed: int = 0) -> Path:
    """Save a model of Pixtral 12B's form: patches of 16 pixels, images of at most 64."""
    tokenizer = _tokenizer(PIXTRAL_TEMPLATE)
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config={**VISION, "patch_size": 16},
        text_config=_text(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=1,
    )
    return _save(folder, LlavaForConditionalGeneration(config), tokenizer, patch=16, merge=1)


def save_mistral3(folder: Path, *, seed: int = 0) -> Path:
    """Save a model of the form of Mistral Small 3.1: patches of 14 pixels, two by two in a token."""
    tokenizer = _tokenizer(MISTRAL_TEMPLATE)
    torch.manual_seed(seed)
    config = Mistral3Config(
        vision_config={**VISION, "patch_size": 14, "image_size": 56},
        text_config=_text(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return _save(folder, Mistral3ForConditionalGeneration(config), tokenizer, patch=14, merge=2)


BUILDERS = {"pixtral": save_pixtral, "mistral3": save_mistral3}


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    names = {"bos_token_id": "<s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"}
    ids = {key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()}
    return {**TEXT, **ids, "vocab_size": len(tokenizer)}


def _tokenizer(template: str) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[*SPECIAL, *IMAGE_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=[*SPECIAL[3:7], *IMAGE_TOKENS],
        chat_template=template,
    )


def _save(folder: Path, model: Any, tokenizer: PreTrainedTokenizerFast, *, patch: int, merge: int) -> Path:
    images = PixtralImageProcessor(size={"longest_edge": 64 // patch * patch}, patch_size=patch)
    processor = PixtralProcessor(
        images, tokenizer, patch_size=patch, spatial_merge_size=merge, chat_template=tokenizer.chat_template
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
