"""What a conversation to learn from must be: Mistral's rules for vision fine-tuning, and the images inside it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geovlm.errors import ImageError
from geovlm.imaging import open_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

MOST_IMAGES = 8
MOST_IMAGE_BYTES = 10_000_000

# As mistral-common checks it: who may speak after whom.
_NEXT = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("user", "assistant"),
    "assistant": ("user", "assistant"),
}
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")


def problem_of(messages: Any) -> str | None:
    """The first thing that is wrong with a conversation, in words; `None` if it can be learned from.

    Images are not decoded.
    """
    if not isinstance(messages, list | tuple) or not messages:
        return "there are no messages"
    before = None
    for place, message in enumerate(messages, start=1):
        role = message.get("role") if isinstance(message, Mapping) else None
        wrong = _wrong_turn(role, before) if isinstance(role, str) else "it has no role"
        wrong = wrong or _wrong_content(message, role)
        if wrong:
            return f"message {place}: {wrong}"
        before = role
    if before != "assistant":
        return f"the last message is the {before}'s; it must be the assistant's, which is what is learned"
    if sum(map(len, map(images_of, messages))) > MOST_IMAGES:
        return f"there are more than {MOST_IMAGES} images"
    if not any(is_learned(message) for message in messages):
        return "every answer has the weight 0, so there is nothing to learn"
    return None


def _wrong_turn(role: str, before: str | None) -> str | None:
    if role not in _NEXT:
        return f"its role is {role!r}, not one of system, user, assistant"
    if role not in _NEXT[before]:
        return f"the {role} cannot speak " + (f"after the {before}" if before else "first")
    return None


def _wrong_content(message: Mapping[str, Any], role: Any) -> str | None:
    content = message.get("content")
    if role == "assistant" and message.get("weight", 1) not in (0, 1):
        return f"its weight is {message['weight']!r}, not 0 or 1"
    if isinstance(content, str):
        return None if content.strip() else f"what the {role} says is empty"
    if not isinstance(content, list) or not content:
        return f"what the {role} says is neither text nor a list of parts"
    return next((wrong for chunk in content if (wrong := _wrong_chunk(chunk, role))), None)


def _wrong_chunk(chunk: Any, role: Any) -> str | None:
    kind = chunk.get("type") if isinstance(chunk, Mapping) else None
    if kind == "text":
        text = chunk.get("text")
        return None if isinstance(text, str) and text.strip() else "a part of the text is empty"
    if kind != "image_url":
        return f"a part is of the type {kind!r}, not text or image_url"
    if role != "user":
        return f"there is an image in the {role}'s turn; images belong to the user's"
    url = url_of(chunk)
    if not isinstance(url, str) or not _DATA_URL.match(url):
        return "an image is not a data URL, such as data:image/jpeg;base64,…"
    if len(url) * 3 // 4 > MOST_IMAGE_BYTES:
        return f"an image is larger than {MOST_IMAGE_BYTES // 1_000_000} MB"
    return None


def is_learned(message: Mapping[str, Any]) -> bool:
    """Whether a message is an answer to learn."""
    return bool(message["role"] == "assistant" and message.get("weight", 1) == 1)


def chunks_of(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What a message says, as parts."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def images_of(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images of a message."""
    return [chunk for chunk in chunks_of(message) if chunk["type"] == "image_url"]


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message."""
    return "".join(chunk["text"] for chunk in chunks_of(message) if chunk["type"] == "text")


def url_of(chunk: Mapping[str, Any]) -> Any:
    """The URL of an image, in either form that is in use."""
    url = chunk.get("image_url")
    return url.get("url") if isinstance(url, Mapping) else url


def images_in(messages: Sequence[Mapping[str, Any]]) -> Iterator[Image.Image]:
    """Decode the images of a conversation, in order.

    Raises:
        ImageError: One cannot be read.
    """
    for message in messages:
        for chunk in images_of(message):
            yield decode(str(url_of(chunk)))


def decode(url: str) -> Image.Image:
    """The image in a data URL, as RGB.

    Raises:
        ImageError: It is not one, or cannot be read.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise ImageError("an image is not a data URL, such as data:image/jpeg;base64,…")
    try:
        encoded = base64.b64decode(url[head.end() :], validate=True)
    except binascii.Error as error:
        raise ImageError(f"a data URL is not base64 ({error})") from error
    return open_image(encoded)
