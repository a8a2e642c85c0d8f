"""The emulator as an HTTP server on the loopback address."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from geovlm.testing._loopback import LoopbackEmulator, LoopbackHandler
from geovlm.testing.mistral_api.batch import Batches
from geovlm.testing.mistral_api.chat import Chat
from geovlm.testing.mistral_api.faults import Faults
from geovlm.testing.mistral_api.files import MOST_BYTES, Files
from geovlm.testing.mistral_api.fine_tuning import FineTuning
from geovlm.testing.mistral_api.ids import Ids
from geovlm.testing.mistral_api.log import RequestLog
from geovlm.testing.mistral_api.models import Models
from geovlm.testing.mistral_api.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.testing.mistral_api.brains import Brain
    from geovlm.testing.mistral_api.contract import Contract

# The day of Mistral's own walk-through: Pixtral answers, and fine-tuning is offered.
WALK_THROUGH = dt.date(2025, 7, 9)
FINE_TUNING_ENDED = dt.date(2026, 7, 15)


class MistralEmulator(LoopbackEmulator):
    """An emulator of Mistral's API, or of a server of one's own, for tests; it speaks HTTP on 127.0.0.1.

    Everything is in memory and repeatable. Use it as a context manager; what it holds stays until the object goes.

    Args:
        brain: Answers chat requests; see `geovlm.testing.mistral_api.brains`. By default it describes the images.
        today: What Mistral retired before this day answers 404, fine-tuning included; by default Pixtral is alive.
        hosted: False for the habits of vLLM: chat and models only, no key, images as objects only.
        serves: Ids of models that a server of one's own serves.
        api_key: That clients must show.
        contract: An OpenAPI description to compare all traffic with; departures are in `log.problems`.
        most_bytes: Larger uploads are refused.
        port: To listen on; 0 takes a free one.

    Attributes:
        faults: Faults to come, see `Faults`.
        log: Requests so far and what was billed, see `RequestLog`.
        batches: The batch jobs, and how they go.
        files: The files.
        models: The models; `today` may be changed there.
        fine_tuning: The fine-tuning jobs.

    Examples:
        >>> import json, urllib.request
        >>> with MistralEmulator(hosted=False) as api:
        ...     body = {"model": "mistralai/Pixtral-12B-2409", "messages": [{"role": "user", "content": "Hello"}]}
        ...     with urllib.request.urlopen(f"{api.url}/v1/chat/completions", json.dumps(body).encode()) as response:
        ...         answer = json.load(response)
        >>> answer["choices"][0]["message"]["content"]
        'You said: Hello'
        >>> api.log.count("chat.complete", status=200)
        1
    """

    def __init__(
        self,
        *,
        brain: Brain | None = None,
        today: dt.date = WALK_THROUGH,
        hosted: bool = True,
        serves: Sequence[str] = ("mistralai/Pixtral-12B-2409",),
        api_key: str = "emulator-key",
        contract: Contract | None = None,
        most_bytes: int = MOST_BYTES,
        port: int = 0,
    ) -> None:
        ids = Ids()
        self.api_key = api_key
        self.faults: Faults = Faults()
        self.log: RequestLog = RequestLog()
        self.files: Files = Files(ids, most_bytes=most_bytes)
        self.models: Models = Models(today=today, serves=None if hosted else serves)
        self.chat: Chat = Chat(models=self.models, log=self.log, brain=brain, hosted=hosted)
        self.batches: Batches = Batches(files=self.files, chat=self.chat, ids=ids)
        self.fine_tuning: FineTuning = FineTuning(files=self.files, models=self.models, ids=ids)
        parts: list[Any] = [self.chat, self.models]
        parts += [self.files, self.batches] if hosted else []
        parts += [self.fine_tuning] if hosted and today < FINE_TUNING_ENDED else []
        service = Service(
            {name: handler for part in parts for name, handler in part.handlers().items()},
            api_key=api_key if hosted else None,
            faults=self.faults,
            log=self.log,
            contract=contract,
        )
        super().__init__(service, _Handler, port)

    @property
    def url(self) -> str:
        """The address to give to a client as `base_url`, such as `"http://127.0.0.1:40001"`.

        Raises:
            RuntimeError: The emulator is not running.
        """
        return self._address()


class _Handler(LoopbackHandler):
    server_version = "MistralEmulator"

    def _answer(self) -> None:
        body = self.read_chunks() if self.is_chunked() else self.read_whole()
        address = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
        self.send(self.service.respond(self.command, self.path, self.headers, body or b"", base_url=address))

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - as the base class calls them
