"""What a vision-language model answers, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Answer", "ChatRequest", "Classification", "Usage"]

CUT_OFF = frozenset({"length", "model_length"})


@frozen(kw_only=True)
class Usage:
    """Tokens that were read and written.

    Args:
        prompt_tokens: Read, those of images included.
        completion_tokens: Written.

    Examples:
        >>> (Usage(prompt_tokens=527, completion_tokens=31) + Usage(prompt_tokens=3)).total_tokens
        561
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


@frozen(kw_only=True)
class Answer:
    """One answer of a model.

    Args:
        text: As the model wrote it; nothing is taken away.
        model: Its name, as the server tells it.
        usage: Tokens, as the server counted them.
        finish_reason: Why it stopped: `"stop"`, `"length"` …

    Examples:
        >>> Answer(text="A harbour with", model="pixtral-12b-2409", finish_reason="length").is_cut_off
        True
    """

    text: str
    model: str
    usage: Usage = field(factory=Usage)
    finish_reason: str = "stop"

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer ended because it became too long."""
        return self.finish_reason in CUT_OFF

    def __str__(self) -> str:
        return self.text


@frozen(kw_only=True)
class Classification:
    """One label, or the reason why there is none.

    An answer ends in one of three ways: it names a label of the set (`label`); it names another (`hallucinated`, and
    `claimed` keeps it); or it cannot be read, or names several (neither). A name outside the set is never mapped to one
    inside it, apart from case, spacing and plurals.

    Args:
        answer: What the model wrote.
        label: The label, spelt as in the set.
        claimed: What the model named where that is outside the set.

    Examples:
        >>> vineyard = Answer(text="Vineyard", model="pixtral-12b-2409")
        >>> result = Classification(answer=vineyard, claimed="Vineyard")
        >>> result.label, result.hallucinated, result.parsed
        (None, True, False)
    """

    answer: Answer
    label: str | None = None
    claimed: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.label is not None and self.claimed is not None:
            raise UsageError(
                f"A label is of the set or outside it; {self.label!r} and {self.claimed!r} cannot both be."
            )

    @property
    def parsed(self) -> bool:
        """Whether a label of the set was read."""
        return self.label is not None

    @property
    def hallucinated(self) -> bool:
        """Whether the model named a label outside the set."""
        return self.claimed is not None

    @property
    def text(self) -> str:
        """The raw answer."""
        return self.answer.text

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.answer.model

    @property
    def usage(self) -> Usage:
        """Tokens of the request."""
        return self.answer.usage


def _as_tuple(messages: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(messages)


@frozen(kw_only=True)
class ChatRequest:
    """One request to a model, ready to be sent alone, in a batch job or to a local model.

    Args:
        model: Its id.
        messages: In the form of the chat API, images as data URLs.
        temperature: 0 for the likeliest answer.
        max_tokens: The longest answer.
        response_format: What the answer has to keep to; `None` for free text.

    Examples:
        >>> ChatRequest(model="ministral-14b-2512", messages=[{"role": "user", "content": "Hello"}]).max_tokens
        256
    """

    model: str
    messages: tuple[dict[str, Any], ...] = field(converter=_as_tuple, repr=lambda value: f"<{len(value)} messages>")
    temperature: float = 0.0
    max_tokens: int = 256
    response_format: dict[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body of the request."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(self.messages),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        return body if self.response_format is None else {**body, "response_format": self.response_format}
