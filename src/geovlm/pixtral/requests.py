"""From a question to the request that asks it: the same for one call, a batch job and a local model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from geovlm.errors import UsageError
from geovlm.pixtral._checks import number, text, whole
from geovlm.pixtral.images import EncodedImage, ImageEncoding, as_list
from geovlm.pixtral.messages import CAPTION_PROMPT, classification_prompt, label_format, system, user
from geovlm.pixtral.parsing import LabelSet
from geovlm.pixtral.values import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geovlm.pixtral.images import ImageInput
    from geovlm.pixtral.messages import Message

__all__ = ["RequestBuilder", "as_labels"]


def as_labels(labels: LabelSet | Iterable[str]) -> LabelSet:
    """Labels as a checked set; a set that is one already is not checked again."""
    return labels if isinstance(labels, LabelSet) else LabelSet(labels)


@frozen(kw_only=True)
class RequestBuilder:
    """Makes the requests of a client.

    Args:
        model: Its id.
        encoding: How images are encoded.
        structured: Whether a label is asked for with a JSON schema, which the model then cannot leave.
        temperature: 0 for the likeliest answer; at most 1.5.
        max_tokens: The longest answer.
        max_images: The most images in one request.
        caption_prompt: What is asked for a caption.

    Examples:
        >>> from PIL import Image
        >>> builder = RequestBuilder(model="ministral-8b-2512", structured=True)
        >>> request = builder.classify(Image.new("RGB", (8, 8)), ["Beach", "Forest"])
        >>> request.response_format["json_schema"]["schema"]["properties"]["label"]["enum"]
        ['Beach', 'Forest']
    """

    model: str = field(validator=text)
    encoding: ImageEncoding = field(factory=ImageEncoding)
    structured: bool = False
    temperature: float = field(default=0.0, validator=number(0, 1.5))
    max_tokens: int = field(default=256, validator=whole(1))
    max_images: int = field(default=8, validator=whole(1))
    caption_prompt: str = field(default=CAPTION_PROMPT, validator=text)

    def ask(
        self, prompt: str, images: ImageInput | Sequence[ImageInput] = (), *, instructions: str = ""
    ) -> ChatRequest:
        """Ask something about images that are seen together.

        Args:
            prompt: The question.
            images: One or more; none for a question without.
            instructions: What the model is told beforehand.

        Raises:
            UsageError: There are more images than one request takes, or there is no question.
            ImageError: An image cannot be read.
        """
        if not isinstance(prompt, str) or not prompt.strip():
            raise UsageError(f"The prompt is text that is not empty, not {prompt!r:.80}.")
        sources = [] if isinstance(images, tuple) and not images else as_list(images)
        if len(sources) > self.max_images:
            raise UsageError(
                f"{len(sources)} images are more than one request takes ({self.max_images}); ask in several, or set"
                " max_images= if your server takes more."
            )
        asked = user(prompt, [self.encoding.encode(source) for source in sources])
        return self._request([*([system(instructions)] if instructions else []), asked])

    def classify(
        self, image: ImageInput | EncodedImage, labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> ChatRequest:
        """Ask for the label of an image.

        Args:
            image: One, or one that is encoded already.
            labels: To choose from.
            context: What else is known of the image, in words.

        Raises:
            UsageError: The labels cannot be chosen from.
            ImageError: The image cannot be read.
        """
        known = as_labels(labels)
        messages = [system(classification_prompt(known, context=context)), user("", [self._encoded(image)])]
        return self._request(messages, label_format(known) if self.structured else None)

    def caption(self, image: ImageInput | EncodedImage) -> ChatRequest:
        """Ask for a caption.

        Raises:
            ImageError: The image cannot be read.
        """
        return self._request([user(self.caption_prompt, [self._encoded(image)])])

    def _encoded(self, image: ImageInput | EncodedImage) -> EncodedImage:
        return image if isinstance(image, EncodedImage) else self.encoding.encode(image)

    def _request(self, messages: list[Message], response_format: Message | None = None) -> ChatRequest:
        return ChatRequest(
            model=self.model,
            messages=messages,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            response_format=response_format,
        )
