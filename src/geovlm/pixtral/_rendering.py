"""Conversations as the inputs of a local model, in the form that the model's own chat template gives them.

What is learned is the answer to a prompt, and the prompt is rendered as it is when a question is asked. Rendering the
whole conversation at once, as is usual, gives something else: Pixtral's template tells the system prompt in the last
turn only if that is the user's, so that a conversation that ends with an answer loses it without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from geovlm.errors import UsageError
from geovlm.pixtral._chat_rules import chunks_of, images_in, images_of, text_of
from geovlm.pixtral.tokens import VisionGrid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from PIL import Image

    Messages = Sequence[Mapping[str, Any]]

PROBE = "geovlm"


@frozen(kw_only=True)
class Sample:
    """One prompt and its answer as tokens.

    Args:
        prompt: Ids, those of the images among them.
        answer: Ids of what is learned, the end of the turn among them.
        pixels: Inputs of the vision tower; none without images.
    """

    prompt: list[int]
    answer: list[int]
    pixels: Mapping[str, torch.Tensor]

    @property
    def length(self) -> int:
        """Tokens together."""
        return len(self.prompt) + len(self.answer)


class Renderer:
    """Turns conversations into inputs.

    Args:
        processor: A `PixtralProcessor`.

    Attributes:
        grid: How images are cut into tokens.

    Raises:
        UsageError: The processor has no chat template, or one that does not put answers after prompts.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer: Any = processor.tokenizer
        if processor.chat_template is None:
            raise UsageError("The model's processor has no chat template; its folder needs a chat_template.jinja.")
        longest = processor.image_processor.size["longest_edge"]
        self.grid: VisionGrid = VisionGrid(
            patch=_side(processor.patch_size), merge=processor.spatial_merge_size, max_side=int(longest)
        )
        self._before, self._after = self._frame()

    def _frame(self) -> tuple[str, str]:
        """What the template puts around an answer: nothing and the end of the turn, usually."""
        asked = [{"role": "user", "content": PROBE}]
        prompt = self._text(asked)
        whole = self._text([*asked, {"role": "assistant", "content": PROBE}], prompt=False)
        before, found, after = whole[len(prompt) :].partition(PROBE)
        if not whole.startswith(prompt) or not found:
            raise UsageError("The model's chat template does not put an answer after its prompt; it cannot be used.")
        return before, after

    @property
    def filler(self) -> int:
        """The id of the token that fills up shorter inputs."""
        own = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id or 0) if own is None else int(own)

    def prompt(self, messages: Messages) -> tuple[list[int], Mapping[str, torch.Tensor]]:
        """Ids of a prompt, and its images.

        Raises:
            UsageError: The chat template does not take these messages.
            ImageError: An image cannot be read.
        """
        return self._encode(self._text(messages), [self._fitted(image) for image in images_in(messages)])

    def sample(self, messages: Messages, answer: str) -> Sample:
        """A prompt with its answer.

        Raises:
            UsageError: As for `prompt`.
            ImageError: As for `prompt`.
        """
        prompt, pixels = self.prompt(messages)
        return Sample(prompt=prompt, answer=self._answer(answer), pixels=pixels)

    def length(self, messages: Messages, answer: str) -> int:
        """Tokens of a sample, without preparing its pixels; the images are decoded.

        Raises:
            UsageError: As for `prompt`.
            ImageError: As for `prompt`.
        """
        ids = self._ids(self._text(messages))
        images = list(images_in(messages))
        self._check_images(ids.count(self.processor.image_token_id), len(images))
        return len(ids) + len(self._answer(answer)) + sum(self.grid.tokens(*image.size) - 1 for image in images)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without the tokens that frame it."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _text(self, messages: Messages, *, prompt: bool = True) -> str:
        from jinja2 import TemplateError

        plain = [_plain(message) for message in messages]
        try:
            text: str = self.processor.apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt)
        except TemplateError as error:
            raise UsageError(f"The model's chat template does not take this conversation: {error}") from error
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=self._lacks_start(text)).input_ids
        return ids

    def _lacks_start(self, text: str) -> bool:
        """Whether the tokenizer has to add the first token, which most templates write themselves."""
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)

    def _answer(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(f"{self._before}{text}{self._after}", add_special_tokens=False).input_ids
        self._check_images(ids.count(self.processor.image_token_id), 0)
        return ids

    def _encode(self, text: str, images: list[Image.Image]) -> tuple[list[int], Mapping[str, torch.Tensor]]:
        self._check_images(text.count(self.processor.image_token), len(images))
        if not images:
            return self._ids(text), {}
        made = self.processor(
            text=[text], images=[images], add_special_tokens=self._lacks_start(text), return_tensors="pt"
        )
        ids: list[int] = made["input_ids"][0].tolist()
        return ids, {"pixel_values": made["pixel_values"], "image_sizes": made["image_sizes"]}

    def _check_images(self, told: int, given: int) -> None:
        if told != given:
            raise UsageError(
                f"{told} places for images and {given} images do not go together; perhaps the text holds"
                f" {self.processor.image_token!r}."
            )

    def _fitted(self, image: Image.Image) -> Image.Image:
        """As the client sends it: the processor rounds the sides of larger ones otherwise than Mistral's own does."""
        from PIL import Image

        size = self.grid.fit(*image.size)
        return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as chat templates read it; they find the text of a part under one name or the other."""
    if message["role"] != "user" or not images_of(message):
        return {"role": message["role"], "content": text_of(message)}
    parts = [
        {"type": "image"} if chunk["type"] == "image_url" else {**chunk, "content": chunk["text"]}
        for chunk in chunks_of(message)
    ]
    return {"role": "user", "content": parts}


def _side(patch: Any) -> int:
    """The side of a patch, which some processors have as a mapping."""
    return int(patch["height"] if isinstance(patch, dict) else patch)
