"""From a chat completion, of a server or of a batch job's result line, to an `Answer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geovlm.errors import ServiceError
from geovlm.pixtral.values import Answer, Classification, Usage

if TYPE_CHECKING:
    from geovlm.pixtral.parsing import LabelSet

__all__ = ["read_answer", "read_classification"]


def read_answer(body: Mapping[str, Any]) -> Answer:
    """The first choice of a chat completion.

    Raises:
        ServiceError: It is not a chat completion.

    Examples:
        >>> choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A harbour."}}
        >>> read_answer({"model": "pixtral-12b-2409", "choices": [choice]}).text
        'A harbour.'
    """
    try:
        choice = body["choices"][0]
        content = choice["message"]["content"]
        usage = body.get("usage") or {}
        return Answer(
            text=_text(content),
            model=str(body.get("model") or ""),
            usage=Usage(
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
            ),
            finish_reason=str(choice.get("finish_reason") or ""),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ServiceError(
            f"The server's answer is not a chat completion ({type(error).__name__}: {error}). Is base_url right?"
        ) from error


def read_classification(answer: Answer, labels: LabelSet) -> Classification:
    """What an answer says of a label."""
    reading = labels.read(answer.text, cut_off=answer.is_cut_off)
    return Classification(answer=answer, label=reading.label, claimed=reading.claimed)


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    # Reasoning models answer in parts; their thoughts are not the answer.
    return "".join(part["text"] for part in content if isinstance(part, Mapping) and part.get("type") == "text")
