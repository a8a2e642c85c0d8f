"""Chat completions: what is refused, and how an answer is put together."""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

from geovlm.testing.mistral_api.brains import Brain, chunks_of, describe, sizes_of, text_of
from geovlm.testing.mistral_api.log import Charge
from geovlm.testing.mistral_api.wire import Refused, Request, answered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geovlm.testing._loopback import Response
    from geovlm.testing.mistral_api.log import RequestLog
    from geovlm.testing.mistral_api.models import Models, Served

MOST_IMAGES = 8
MOST_IMAGE_CHARS = 4 * 10_000_000 // 3
_FIELDS = frozenset(
    re.findall(
        r"\w+",
        """
        model messages temperature top_p max_tokens stream stop random_seed metadata response_format tools
        tool_choice presence_penalty frequency_penalty min_tokens repetition_penalty top_k logprobs top_logprobs
        prompt_logprobs top_prompt_logprobs n prediction parallel_tool_calls reasoning_effort prompt_mode guardrails
        prompt_cache_key service_tier safe_prompt
        """,
    )
)


class Chat:
    """The model behind the service.

    Args:
        models: That are served.
        log: Takes the charges.
        brain: Answers.
        hosted: Whether it has the habits of Mistral's service; else those of vLLM.
    """

    def __init__(self, *, models: Models, log: RequestLog, brain: Brain | None, hosted: bool) -> None:
        self.brain = brain or describe
        self._models = models
        self._log = log
        self._hosted = hosted

    def handlers(self) -> dict[str, Callable[[Request], Response]]:
        """What it answers."""
        return {"chat.complete": lambda request: answered(self.complete(request.json()))}

    def complete(
        self, body: Mapping[str, Any], *, job: str | None = None, custom_id: str | None = None
    ) -> dict[str, Any]:
        """The completion of a request, which is charged.

        Raises:
            Refused: Nothing is charged.
        """
        served = self._check(body)
        text = self.brain(body)
        limit = body.get("max_tokens")
        words = text.split(" ")
        cut = limit is not None and len(words) > limit
        text = " ".join(words[:limit]) if cut else text
        usage: dict[str, Any] = self._usage(body, served, text)
        self._log.charge(
            Charge(
                model=str(body["model"]),
                prompt_tokens=usage["prompt_tokens"],
                completion_tokens=usage["completion_tokens"],
                job=job,
                custom_id=custom_id,
            )
        )
        message: dict[str, Any] = {"role": "assistant", "content": text, "tool_calls": None, "prefix": False}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if cut else "stop", "message": message}
        if not self._hosted:
            message.update({"tool_calls": [], "refusal": None, "reasoning_content": None, "annotations": None})
            choice.update({"logprobs": None, "stop_reason": None})
            usage.update({"prompt_tokens_details": None})
        return {
            "id": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32],
            "object": "chat.completion",
            "created": int(time.time()),
            "model": str(body["model"]),
            "choices": [choice],
            "usage": usage,
        }

    def _check(self, body: Mapping[str, Any]) -> Served:
        unknown = sorted(set(body) - _FIELDS)
        if unknown and self._hosted:
            raise Refused(422, f"Extra inputs are not permitted: {', '.join(unknown)}", kind="extra_forbidden")
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise Refused(422, "messages: a list of at least one message is needed")
        if body.get("stream"):
            raise Refused(422, "The emulator does not stream.")
        served = self._models.find(body.get("model"))
        format_ = (body.get("response_format") or {}).get("type", "text")
        if format_ == "json_schema" and not served.structured:
            raise Refused(400, f"Structured output is not supported by {body['model']}")
        self._check_images(body)
        return served

    def _check_images(self, body: Mapping[str, Any]) -> None:
        images = [chunk for chunk in chunks_of(body) if chunk.get("type") == "image_url"]
        if self._hosted and len(images) > MOST_IMAGES:
            raise Refused(400, f"Too many images: {len(images)}, at most {MOST_IMAGES} are allowed.")
        if not self._hosted and any(isinstance(chunk.get("image_url"), str) for chunk in images):
            raise Refused(400, "image_url: Input should be a valid dictionary", kind="BadRequestError")
        if any(len(str(chunk)) > MOST_IMAGE_CHARS for chunk in images):
            raise Refused(400, "An image is larger than 10 MB.")

    def _usage(self, body: Mapping[str, Any], served: Served, text: str) -> dict[str, int]:
        read = sum(served.grid.tokens(*size) for size in sizes_of(body)) + _tokens(text_of(body)) + 4
        written = _tokens(text)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _tokens(text: str) -> int:
    """Roughly what a tokenizer would count; only images are counted exactly."""
    return -(-len(text) // 4)
