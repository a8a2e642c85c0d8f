"""What the two clients share: settings, checked, and the library's client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from geovlm._files import digest
from geovlm._vectors import check_count
from geovlm.errors import UsageError
from geovlm.pixtral._compat import library
from geovlm.pixtral._endpoint import Endpoint, find_endpoint
from geovlm.pixtral._policy import Caller, Policy
from geovlm.pixtral.images import ImageEncoding
from geovlm.pixtral.local import LocalModel, is_local_model
from geovlm.pixtral.messages import CAPTION_PROMPT
from geovlm.pixtral.models import find_model
from geovlm.pixtral.requests import RequestBuilder
from geovlm.pixtral.tokens import PIXTRAL_GRID

if TYPE_CHECKING:
    from geovlm.pixtral.tokens import VisionGrid


class ClientBase:
    """Settings of a client; sends nothing. `PixtralClient` says what the arguments are.

    Attributes:
        model: The id of the model, or the folder of one.
        requests: Makes the requests that this client sends.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        backend: Literal["server", "local"] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
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
        model = os.fspath(model) if isinstance(model, os.PathLike) else model
        if not isinstance(model, str) or not model.strip():
            raise UsageError(f"model is the id of a model, such as 'ministral-14b-2512', not {model!r:.80}.")
        self.model = model
        self._local = _find_local(model, backend, base_url=base_url, device=device, dtype=dtype)
        known = None if self._local else find_model(model)
        self._concurrency = 1 if self._local else check_count(concurrency, name="concurrency")
        grid = grid or (self._local.grid if self._local else known.grid if known else PIXTRAL_GRID)
        self.requests: RequestBuilder = RequestBuilder(
            model=model,
            encoding=ImageEncoding(grid=grid, max_tokens=image_tokens, quality=jpeg_quality),
            structured=bool(known and known.structured) if structured is None else structured,
            temperature=temperature,
            max_tokens=max_tokens,
            max_images=max_images,
            caption_prompt=caption_prompt,
        )
        policy = Policy(timeout=timeout, max_retries=max_retries, pause=pause)
        if self._local:
            self._endpoint = Endpoint(url=self._local.folder.path.as_uri(), api_key=None)
        else:
            self._endpoint = find_endpoint(api_key=api_key, base_url=base_url)
        self._caller = Caller(policy=policy, endpoint=self._endpoint, model=model)
        # A local model needs no mistralai. The part for chats is imported on use, which threads must not do at once.
        self._mistral: Any = None if self._local else self._open(policy.timeout)
        self._chat: Any = self._mistral and self._mistral.chat

    def _open(self, timeout: float) -> Any:
        return library().open(api_key=self._endpoint.api_key, server_url=self._endpoint.url, timeout=timeout)

    @property
    def backend(self) -> Literal["server", "local"]:
        """Where answers come from."""
        return "local" if self._local else "server"

    @property
    def name(self) -> str:
        """The id of the model."""
        return self.model

    @property
    def base_url(self) -> str:
        """The server, without `/v1`; the folder of a local model, as a `file:` URL."""
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
                "url": self._local.fingerprint if self._local else self.base_url,
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


def _find_local(
    model: str, backend: str | None, *, base_url: str | None, device: str | None, dtype: str | None
) -> LocalModel | None:
    """The local model that is meant, or `None` if a server answers."""
    if backend not in (None, "server", "local"):
        raise UsageError(f"backend is 'server', 'local', or None to see by the model; not {backend!r}.")
    local = backend == "local" or (backend is None and base_url is None and is_local_model(model))
    if local and base_url is not None:
        raise UsageError("A local model has no base_url; leave one of the two out.")
    if not local and (device, dtype) != (None, None):
        raise UsageError("device and dtype are for local models; a server chooses its own.")
    return LocalModel(model, device=device, dtype=dtype) if local else None
