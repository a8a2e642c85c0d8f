"""Which prompts and answers there are to learn, and which are not fit for it; found out before anything is trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import frozen

from geovlm import _progress
from geovlm.errors import ImageError, UsageError
from geovlm.pixtral._chat_files import ids_of, line_at, lines_of
from geovlm.pixtral._chat_rules import is_learned, text_of
from geovlm.pixtral.chat_data import ChatLine, parse
from geovlm.records import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from geovlm.pixtral._chat_files import Line
    from geovlm.pixtral._rendering import Renderer, Sample


@frozen
class Example:
    """One answer in a conversation, and all that was said before it.

    Args:
        file: Where the conversation is.
        offset: The first byte of its line.
        turn: The place of the answer among the messages.
    """

    file: Path
    offset: int
    turn: int

    def sample(self, renderer: Renderer) -> Sample:
        """Its tokens and pixels."""
        value: Any = json.loads(line_at(self.file, self.offset))
        messages = value["messages"] if isinstance(value, dict) else value
        return renderer.sample(messages[: self.turn], text_of(messages[self.turn]))


@frozen(kw_only=True)
class Examples:
    """What can be learned from some files.

    Args:
        items: The examples, in order.
        conversations: How many conversations they are of.
        failures: Those that cannot be learned from.
        tokens: Of all examples together.
    """

    items: tuple[Example, ...]
    conversations: int
    failures: tuple[Failure, ...]
    tokens: int


def find_examples(
    files: Iterable[Path], renderer: Renderer, *, max_length: int, progress: bool | None, desc: str
) -> Examples:
    """Look at every conversation: its form, its images, its length.

    A conversation with several answers gives an example for each, with all before it as the prompt; it fails if one of
    them is too long.
    """
    items: list[Example] = []
    failures: list[Failure] = []
    conversations = tokens = 0
    with _progress.bar(progress, total=None, desc=desc, unit="line") as bar:
        for line, key in _named(files):
            found = _examples_in(line, renderer, max_length)
            bar.update(1)
            if isinstance(found, str):
                failures.append(Failure(id=key, uri=f"{line.file}:{line.number}", stage="prepare", reason=found))
            else:
                items += [example for example, _ in found]
                tokens += sum(length for _, length in found)
                conversations += 1
    return Examples(items=tuple(items), conversations=conversations, failures=tuple(failures), tokens=tokens)


def _named(files: Iterable[Path]) -> Iterator[tuple[Line, str]]:
    """Lines with the id of their record, or their place if that is not known."""
    for path in files:
        ids = ids_of(path)
        for line in lines_of(path):
            known = ids is not None and line.number <= len(ids)
            yield line, ids[line.number - 1] if ids is not None and known else f"{path}:{line.number}"


def _examples_in(line: Line, renderer: Renderer, max_length: int) -> list[tuple[Example, int]] | str:
    """The examples of a conversation with their lengths, or why there are none."""
    chat = parse(line)
    if isinstance(chat, Failure):
        return chat.reason
    try:
        found = [
            (Example(line.file, line.offset, turn), _length(chat, turn, renderer))
            for turn, message in enumerate(chat.messages)
            if is_learned(message)
        ]
    except ImageError as error:
        return error.reason
    except UsageError as error:
        return str(error)
    longest = max(length for _, length in found)
    if longest > max_length:
        return f"it has {longest} tokens, more than max_length={max_length}; send smaller images (image_tokens=)"
    return found


def _length(chat: ChatLine, turn: int, renderer: Renderer) -> int:
    return renderer.length(chat.messages[:turn], text_of(chat.messages[turn]))
