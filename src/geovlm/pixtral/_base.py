"""What the two clients share: settings, checked, and the library's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geovlm._files import digest
from geovlm._vectors import check_count
from geovlm.errors import UsageError
from geovlm.pixtral._compat import library
from geovlm.pixtral._endpoint import find_endpoint
from geovlm.pixtral._policy import Caller, Policy
from geovlm.pixtral.images import ImageEncoding
from geovlm.pixtral.messages import CAPTION_PROMPT
from geovlm.pixtral.models import find_model
from geovlm.pixtral.requests import RequestBuilder
from geovlm.pixtral.tokens import PIXTRAL_GRID

if TYPE_CHECKING:
    from geovlm.pixtral.tokens import VisionGrid


class ClientBase:
    """Settings of a client; sends nothing. `PixtralClient` says what the arguments are.

    Attributes:
        model: The id of the model.
        requests: Makes the requests that this client sends.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 4,
        pause: float = 0.5,
        concurrency: int = 4,
        structured: bool | None = None,
        temperature: float = 0.0,
        max_tokens: int = 256,
        image_tokens: int | None = None,
        max_images: int = 8,
        jpeg_quality: int = 85,
        grid: VisionGrid | None = None,
        caption_prompt: str = CAPTION_PROMPT,
    ) -> None:
        if not isinstance(model, str) or not model.strip():
            raise UsageError(f"model is the id of a model, such as 'ministral-14b-2512', not {model!r:.80}.")
        known = find_model(model)
        self.model = model
        self._concurrency = check_count(concurrency, name="concurrency")
        grid = grid or (known.grid if known else PIXTRAL_GRID)
        self.requests = RequestBuilder(
            model=model,
            encoding=ImageEncoding(grid=grid, max_tokens=image_tokens, quality=jpeg_quality),
            structured=bool(known and known.structured) if structured is None else structured,
            temperature=temperature,
            max_tokens=max_tokens,
            max_images=max_images,
            caption_prompt=caption_prompt,
        )
        policy = Policy(timeout=timeout, max_retries=max_retries, pause=pause)
        self._endpoint = find_endpoint(api_key=api_key, base_url=base_url)
        self._caller = Caller(policy=policy, endpoint=self._endpoint, model=model)
        self._mistral: Any = library().open(
            api_key=self._endpoint.api_key, server_url=self._endpoint.url, timeout=policy.timeout
        )
        self._chat: Any = self._mistral.chat  # imported on use, which threads must not do at once

    @property
    def name(self) -> str:
        """The id of the model."""
        return self.model

    @property
    def base_url(self) -> str:
        """The server, without `/v1`."""
        return self._endpoint.url

    @property
    def fingerprint(self) -> str:
        """Changes with what changes captions: the model, the server, the prompt, the encoding of images."""
        made = self.requests
        encoding = made.encoding
        return digest(
            {
                "kind": "pixtral",
                "model": made.model,
                "url": self.base_url,
                "prompt": made.caption_prompt,
                "temperature": made.temperature,
                "max_tokens": made.max_tokens,
                "grid": [encoding.grid.patch, encoding.grid.merge, encoding.grid.max_side],
                "image_tokens": encoding.max_tokens,
                "quality": encoding.quality,
            }
        )

    @property
    def image_size(self) -> int:
        """The longest side in pixels that the model looks at."""
        return self.requests.encoding.grid.max_side

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"
