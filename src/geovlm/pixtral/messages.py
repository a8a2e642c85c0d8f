"""The messages that ask for a label, a caption or anything else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.pixtral.images import EncodedImage
    from geovlm.pixtral.parsing import LabelSet

__all__ = ["CAPTION_PROMPT", "Message", "classification_prompt", "image_chunk", "label_format", "system", "user"]

Message = dict[str, Any]

CAPTION_PROMPT = "Describe this overhead image in one sentence: what is there, and where. Write the sentence only."


def image_chunk(image: EncodedImage) -> Message:
    """An image in a message, in the form that Mistral's service and vLLM both take."""
    return {"type": "image_url", "image_url": {"url": image.url}}


def user(text: str, images: Sequence[EncodedImage] = ()) -> Message:
    """What the user says: images first, then text; either may be absent."""
    chunks = [image_chunk(image) for image in images]
    return {"role": "user", "content": [*chunks, {"type": "text", "text": text}] if text else chunks}


def system(text: str) -> Message:
    """What the model is told beforehand."""
    return {"role": "system", "content": text}


def classification_prompt(labels: LabelSet, *, context: str = "") -> str:
    """The task, with the labels spelt as they are.

    Args:
        labels: To choose from.
        context: What else is known of the images.
    """
    names = json.dumps(list(labels.names), ensure_ascii=False)
    task = (
        "You label overhead images from satellites and aircraft. Choose the one label that fits the image best from"
        f" this list, and write it exactly as it stands there: {names}."
        ' Answer with JSON and nothing else, in the form {"label": "…"}.'
    )
    return f"{task} {context.strip()}" if context.strip() else task


def label_format(labels: LabelSet) -> Message:
    """The `response_format` that allows nothing but a label of the set."""
    return {"type": "json_schema", "json_schema": {"name": "label", "schema": labels.schema(), "strict": True}}
