"""What the emulated model answers: a function from the body of a chat request to text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from PIL import Image

from geovlm.testing.mistral_api.wire import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

Brain = Callable[[Mapping[str, Any]], str]
"""Takes the JSON body of a chat request; may raise `Refused` for one that is to fail."""


def chunks_of(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All parts of all messages, plain text among them as a text part."""
    for message in body.get("messages") or []:
        content = message.get("content") or []
        yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


def images_of(body: Mapping[str, Any]) -> list[bytes]:
    """The encoded images of a request, in order.

    Args:
        body: Of the chat request, as a brain is given it.

    Raises:
        Refused: One is not a base64 data URL.

    Examples:
        >>> body = {"messages": [{"role": "user", "content": "What is this?"}]}
        >>> images_of(body)
        []
    """
    return [_decoded(url_of(chunk)) for chunk in chunks_of(body) if chunk.get("type") == "image_url"]


def url_of(chunk: Mapping[str, Any]) -> str:
    """The URL of an image part, in either of its two forms."""
    image = chunk.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise Refused(422, "image_url has no url.")
    return url


def _decoded(url: str) -> bytes:
    head, _, payload = url.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise Refused(400, f"Image URL {url[:40]!r} cannot be fetched: the emulator takes base64 data URLs.")
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:
        raise Refused(400, "The image is not valid base64.") from error


def sizes_of(body: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Width and height of the images of a request.

    Args:
        body: Of the chat request, as a brain is given it.

    Raises:
        Refused: One is not an image of a kind that the service takes.

    Examples:
        >>> body = {"messages": [{"role": "user", "content": "What is this?"}]}
        >>> sizes_of(body)
        []
    """
    sizes = []
    for encoded in images_of(body):
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                if image.format not in {"JPEG", "PNG", "WEBP", "GIF"} or getattr(image, "is_animated", False):
                    raise Refused(400, f"Images are JPEG, PNG, WEBP or still GIF, not {image.format}.")
                sizes.append(image.size)
        except OSError as error:
            raise Refused(400, "Image could not be loaded as a valid image.") from error
    return sizes


def text_of(body: Mapping[str, Any]) -> str:
    """All texts of a request, a line each.

    Args:
        body: Of the chat request, as a brain is given it.

    Examples:
        >>> body = {"messages": [{"role": "user", "content": "What is this?"}]}
        >>> text_of(body)
        'What is this?'
    """
    return "\n".join(chunk["text"] for chunk in chunks_of(body) if chunk.get("type") == "text")


def labels_of(body: Mapping[str, Any]) -> list[str]:
    """The labels that a JSON schema allows; empty where there is none.

    Args:
        body: Of the chat request, as a brain is given it.

    Examples:
        >>> body = {"messages": [{"role": "user", "content": "What is this?"}]}
        >>> labels_of(body)
        []
    """
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema") or {}
    found: list[str] = ((schema.get("properties") or {}).get("label") or {}).get("enum") or []
    return found


def describe(body: Mapping[str, Any]) -> str:
    """The brain by default: always the same for the same images.

    Where a schema allows some labels it takes one by the digest of the images, as JSON; else it tells the size and the
    digest of each image.

    Args:
        body: Of the chat request, as a brain is given it.

    Examples:
        >>> body = {"messages": [{"role": "user", "content": "What is this?"}]}
        >>> describe(body)
        'You said: What is this?'
    """
    digests = [hashlib.sha256(encoded).hexdigest()[:8] for encoded in images_of(body)]
    labels = labels_of(body)
    if labels:
        choice = int(hashlib.sha256("".join(digests).encode()).hexdigest(), 16) % len(labels)
        return json.dumps({"label": labels[choice]})
    shown = [f"{w}x{h} px, {name}" for (w, h), name in zip(sizes_of(body), digests, strict=True)]
    text = f"An overhead image of {'; and one of '.join(shown)}." if shown else f"You said: {text_of(body)[:200]}"
    return json.dumps({"text": text}) if (body.get("response_format") or {}).get("type") == "json_object" else text
