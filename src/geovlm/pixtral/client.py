"""`PixtralClient`: one question at a time to a vision-language model, hosted or one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, overload

from geovlm.errors import UsageError
from geovlm.pixtral._base import ClientBase
from geovlm.pixtral._concurrent import in_threads
from geovlm.pixtral.answers import read_answer, read_classification
from geovlm.pixtral.images import as_list
from geovlm.pixtral.requests import as_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from PIL import Image

    from geovlm.pixtral.images import ImageInput
    from geovlm.pixtral.parsing import LabelSet
    from geovlm.pixtral.values import Answer, ChatRequest, Classification
    from geovlm.records import Record

__all__ = ["PixtralClient"]


class PixtralClient(ClientBase):
    """Asks a vision-language model about overhead images: Pixtral, Mistral's later models, or a server of one's own.

    It speaks Mistral's chat API, which vLLM and other OpenAI-compatible servers speak as well. It is a `Captioner`, so
    `geovlm.caption(source, client, out=…)` works. It may be used from several threads.

    Args:
        model: The id at the server, such as `"ministral-14b-2512"`. Mistral's own service retired Pixtral in 2025 and
            2026; its weights can be served by vLLM.
        api_key: For Mistral's own hosts `None` takes `MISTRAL_API_KEY`. Another server gets a key only if it is given
            here.
        base_url: The server, with or without `/v1`; `None` is Mistral's own.
        timeout: Seconds that one attempt may take.
        max_retries: How often a request is sent again after a time limit, a broken connection, 429 or 5xx. Paid answers
            that are lost on the way are paid again.
        pause: About the seconds before the first repetition; doubled before each further one, unless the server tells
            how long to wait (`Retry-After`).
        concurrency: Requests under way at a time, where there are several images.
        structured: Ask for labels with a JSON schema; `None` does where the model is known to keep to one, which
            Pixtral is not. vLLM can make any model keep to it.
        temperature: 0 for the likeliest answer.
        max_tokens: The longest answer.
        image_tokens: The most tokens that one image may cost; larger images are sent smaller. `None` sends what the
            model can look at.
        max_images: The most images in one request; Mistral's own service takes 8.
        jpeg_quality: 1 to 95.
        grid: How the model cuts images into tokens, for models that geovlm does not know.
        caption_prompt: What is asked for a caption.

    Raises:
        AuthError: There is no key for Mistral's own service; told before any request.
        UsageError: A setting cannot be right.
        MissingExtra: mistralai is not installed.

    Examples:
        >>> from PIL import Image
        >>> from geovlm.testing.mistral_api import MistralEmulator
        >>> with MistralEmulator(brain=lambda request: "The label is: beach") as api:
        ...     client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
        ...     result = client.classify(Image.new("RGB", (300, 300)), ["Beach", "Forest"])
        >>> result.label, result.text, result.usage.prompt_tokens > 380
        ('Beach', 'The label is: beach', True)
    """

    def complete(self, request: ChatRequest) -> Answer:
        """Send one request as it is.

        Raises:
            AuthError: The key is wrong.
            RateLimited: Too many requests, and the retries were used up.
            ServiceUnavailable: There was no answer, and the retries were used up.
            ModelRetired: The model is no longer served; the error names its replacement when known.
            RequestRefused: The server will not do it.
            ServiceError: The server does not speak Mistral's API.
        """
        response = self._caller.call(lambda: self._chat.complete(**request.body()))
        return read_answer(response.model_dump())

    def ask(self, prompt: str, images: ImageInput | Sequence[ImageInput] = (), *, instructions: str = "") -> Answer:
        """Ask anything about one or several images, which the model sees together.

        Args:
            prompt: The question.
            images: Records, paths, bytes, PIL images or arrays; none for a question without.
            instructions: What the model is told beforehand.

        Raises:
            UsageError: There are more images than one request takes, or there is no question.
            ImageError: An image cannot be read; nothing was sent.
            ServiceError: As for `complete`.
        """
        return self.complete(self.requests.ask(prompt, images, instructions=instructions))

    @overload
    def classify(  # type: ignore[overload-overlap]  # a path is text, and text a sequence of texts
        self, images: ImageInput, labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> Classification: ...

    @overload
    def classify(
        self, images: Sequence[ImageInput], labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> list[Classification]: ...

    def classify(
        self, images: ImageInput | Sequence[ImageInput], labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> Classification | list[Classification]:
        """Choose a label for an image, or one for each image of a list.

        Args:
            images: One image, or a list of them, each of which is asked about alone.
            labels: To choose from.
            context: What else is known of the images, in words.

        Returns:
            The label with the raw answer; for a list, one for each image in order. A name outside the set is told as
            `hallucinated`, never mapped to a label.

        Raises:
            UsageError: The labels cannot be chosen from, or the list is empty.
            ImageError: An image cannot be read.
            ServiceError: As for `complete`. The answers to other images of the list are lost.
        """
        known = as_labels(labels)

        def one(image: ImageInput) -> Classification:
            answer = self.complete(self.requests.classify(image, known, context=context))
            return read_classification(answer, known)

        results = in_threads(one, as_list(images), workers=self._concurrency)
        return results if isinstance(images, list | tuple) else results[0]

    @overload
    def caption(self, records: Sequence[Record], images: Sequence[Image.Image]) -> list[list[str]]: ...

    @overload
    def caption(  # type: ignore[overload-overlap]  # the same
        self, records: ImageInput, images: None = None
    ) -> Answer: ...

    @overload
    def caption(self, records: Sequence[ImageInput], images: None = None) -> list[Answer]: ...

    def caption(
        self, records: ImageInput | Sequence[ImageInput], images: Sequence[Image.Image] | None = None
    ) -> Answer | list[Answer] | list[list[str]]:
        """Describe an image, or each image of a list; with `images` as a `Captioner` does.

        Args:
            records: One image in any form, or a list of them.
            images: The decoded images of the records, as `geovlm.caption` gives them.

        Returns:
            The answer, whose `text` is the caption; for a list, one for each in order. With `images`: for each its
            captions, without spaces around, or none where the model said nothing.

        Raises:
            ImageError: An image cannot be read.
            ServiceError: As for `complete`.
        """
        shown = as_list(records) if images is None else list(images)
        if images is not None and len(shown) != len(as_list(records)):
            raise UsageError(f"{len(as_list(records))} records and {len(shown)} images do not go together.")
        answers = in_threads(
            lambda image: self.complete(self.requests.caption(image)), shown, workers=self._concurrency
        )
        if images is not None:
            return [[text] if (text := answer.text.strip()) else [] for answer in answers]
        return answers if isinstance(records, list | tuple) else answers[0]

    def close(self) -> None:
        """Let go of the connections; the client cannot be used afterwards."""
        self._mistral.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
