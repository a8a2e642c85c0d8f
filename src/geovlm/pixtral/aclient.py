"""`AsyncPixtralClient`: as `PixtralClient`, for event loops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, overload

from geovlm.pixtral._base import ClientBase
from geovlm.pixtral._concurrent import in_tasks
from geovlm.pixtral.answers import read_answer, read_classification
from geovlm.pixtral.images import as_list
from geovlm.pixtral.requests import as_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from geovlm.pixtral.images import ImageInput
    from geovlm.pixtral.parsing import LabelSet
    from geovlm.pixtral.values import Answer, ChatRequest, Classification

__all__ = ["AsyncPixtralClient"]


class AsyncPixtralClient(ClientBase):
    """Asks a vision-language model about overhead images from an event loop.

    The arguments, the answers and the errors are those of `PixtralClient`. One client belongs to one event loop.
    Images are read and encoded in threads, so the loop stays free.

    Args:
        model: The id of a model, or the folder of one; the same as for `PixtralClient`, as are all arguments.
        backend: `"server"`, `"local"`, or `None` to see by the model.
        api_key: `None` for `MISTRAL_API_KEY`, which goes to Mistral's hosts only.
        base_url: Of a server of your own; `None` for Mistral's.
        device: Of a local model, such as `"cuda:0"`.
        dtype: Of a local model, such as `"bfloat16"`.
        timeout: Seconds that one attempt may take.
        max_retries: How often a request is sent again.
        pause: About the seconds before the second attempt; doubled before each further one.
        concurrency: Requests on their way at a time.
        structured: Whether to ask for JSON; `None` to see by the model.
        temperature: 0 for the likeliest answer.
        max_tokens: The longest answer.
        image_tokens: The most tokens of one image; `None` for as many as the model takes.
        max_images: The most images of one request.
        jpeg_quality: Of the images that are sent.
        grid: How the model cuts images into tokens; `None` to see by the model.
        caption_prompt: What a caption is asked for with.

    Examples:
        >>> from PIL import Image
        >>> from geovlm.testing.mistral_api import MistralEmulator
        >>> async def main(url: str, key: str) -> list[str | None]:
        ...     async with AsyncPixtralClient("pixtral-12b-2409", base_url=url, api_key=key) as client:
        ...         results = await client.classify([Image.new("RGB", (64, 64))] * 2, ["Beach", "Forest"])
        ...     return [result.label for result in results]
        >>> with MistralEmulator(brain=lambda request: "Forest") as api:
        ...     asyncio.run(main(api.url, api.api_key))
        ['Forest', 'Forest']
    """

    async def complete(self, request: ChatRequest) -> Answer:
        """As `PixtralClient.complete`."""
        if self._local:
            return await asyncio.to_thread(self._local.complete, request)
        response = await self._caller.call_async(lambda: self._chat.complete_async(**request.body()))
        return read_answer(response.model_dump())

    async def ask(
        self, prompt: str, images: ImageInput | Sequence[ImageInput] = (), *, instructions: str = ""
    ) -> Answer:
        """As `PixtralClient.ask`."""
        request = await asyncio.to_thread(self.requests.ask, prompt, images, instructions=instructions)
        return await self.complete(request)

    @overload
    async def classify(  # type: ignore[overload-overlap]  # a path is text, and text a sequence of texts
        self, images: ImageInput, labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> Classification: ...

    @overload
    async def classify(
        self, images: Sequence[ImageInput], labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> list[Classification]: ...

    async def classify(
        self, images: ImageInput | Sequence[ImageInput], labels: LabelSet | Iterable[str], *, context: str = ""
    ) -> Classification | list[Classification]:
        """As `PixtralClient.classify`."""
        known = as_labels(labels)

        async def one(image: ImageInput) -> Classification:
            request = await asyncio.to_thread(self.requests.classify, image, known, context=context)
            return read_classification(await self.complete(request), known)

        results = await in_tasks(one, as_list(images), workers=self._concurrency)
        return results if isinstance(images, list | tuple) else results[0]

    @overload
    async def caption(  # type: ignore[overload-overlap]  # the same
        self, images: ImageInput
    ) -> Answer: ...

    @overload
    async def caption(self, images: Sequence[ImageInput]) -> list[Answer]: ...

    async def caption(self, images: ImageInput | Sequence[ImageInput]) -> Answer | list[Answer]:
        """Describe an image, or each image of a list.

        Raises:
            ImageError: An image cannot be read.
            ServiceError: As for `PixtralClient.complete`.
        """

        async def one(image: ImageInput) -> Answer:
            return await self.complete(await asyncio.to_thread(self.requests.caption, image))

        answers = await in_tasks(one, as_list(images), workers=self._concurrency)
        return answers if isinstance(images, list | tuple) else answers[0]

    async def close(self) -> None:
        """Let go of the connections; the client cannot be used afterwards."""
        if self._local:
            self._local.release()
        else:
            await self._mistral.__aexit__(None, None, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
