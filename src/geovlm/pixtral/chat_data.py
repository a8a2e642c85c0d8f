"""Conversations to learn from, in files: the JSONL format of vision fine-tuning.

One conversation a line, `{"messages": [system?, user with image, assistant, …]}`, images as base64 data URLs. It is
what Mistral's service took, and what `fine_tune` trains on locally.
"""

from __future__ import annotations

import json
import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import field, frozen

from geovlm import _progress
from geovlm._files import digest, must_exist
from geovlm._parts import IdSet
from geovlm._vectors import check_count
from geovlm.errors import ImageError, UsageError
from geovlm.pixtral import _chat_rules as rules
from geovlm.pixtral._chat_files import FILE_BYTES, Line, export, lines_of
from geovlm.pixtral.requests import RequestBuilder, as_labels
from geovlm.records import Failure, Record, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from geovlm.pixtral.parsing import LabelSet

__all__ = ["ChatData", "ChatLine", "Paths", "check_chat_data", "label_answer", "read_chat_data", "write_chat_data"]

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"
"""A JSONL file, a folder of them, or a list of files."""


@frozen(kw_only=True)
class ChatLine:
    """One conversation in a file.

    Args:
        messages: In the form of the chat API.
        file: Where it is.
        number: Its line, from 1.

    Examples:
        >>> ChatLine(messages=({"role": "user", "content": "Hello"},), file=Path("train.jsonl"), number=3).place
        'train.jsonl:3'
    """

    messages: tuple[dict[str, Any], ...] = field(repr=lambda value: f"<{len(value)} messages>")
    file: Path
    number: int

    @property
    def place(self) -> str:
        """File and line, as `train-00000.jsonl:3`."""
        return f"{self.file}:{self.number}"


@frozen(kw_only=True)
class ChatData:
    """Files of conversations.

    Args:
        files: In order.
        report: What became of every record.
        digest: Changes with what is in the files.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> scene = Record(id="a", image=Image.new("RGB", (32, 32)), label="Beach")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = write_chat_data([scene], folder, labels=["Beach", "Forest"])
        ...     print(len(list(data)), data.report.done)
        1 1
    """

    files: tuple[Path, ...]
    report: Report
    digest: str

    @property
    def bytes(self) -> int:
        """Their size together."""
        return sum(path.stat().st_size for path in self.files)

    def __iter__(self) -> Iterator[ChatLine]:
        return read_chat_data(self.files)


def label_answer(label: str) -> str:
    """The answer that `classify` asks for.

    Args:
        label: The class, as it is in the labels.

    Examples:
        >>> label_answer("Beach")
        '{"label": "Beach"}'
    """
    return json.dumps({"label": label}, ensure_ascii=False)


def write_chat_data(
    source: Iterable[Record],
    out: str | os.PathLike[str],
    *,
    labels: LabelSet | Iterable[str] | None = None,
    requests: RequestBuilder | None = None,
    name: str = "train",
    max_bytes: int = FILE_BYTES,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool | None = None,
) -> ChatData:
    """Write records as conversations: `train-00000.jsonl`, `train-00001.jsonl`, …, none larger than 512 MB.

    The question is what `classify` or `caption` of a client asks, word for word, with the image encoded in the same
    way; the answer is the record's label or its first caption. (To learn all captions, let the source yield a record
    for each.) Images are encoded in threads and streamed. Files appear whole; beside each lies `….ids` with the id of
    the record of each line. A finished export is not written again: the same call gives what is there.

    Args:
        source: Records with labels, or with captions.
        out: The folder.
        labels: To choose from; `None` writes captions.
        requests: Asks the questions; `client.requests` for those of a client.
        name: What the files' names begin with.
        max_bytes: The most in one file; Mistral's service takes 512 MB.
        on_error: `"raise"` stops at the first record that cannot be used.
        progress: Show a bar; `None` decides by where the output goes.

    Raises:
        UsageError: No record can be used.
        ConfigMismatch: The folder holds an export of other records, or with other settings.
        ImageError: With `on_error="raise"`, the first record that cannot be used.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> scenes = [Record(id=name, image=Image.new("RGB", (32, 32)), label=name) for name in ("Beach", "Vineyard")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = write_chat_data(scenes, folder, labels=["Beach", "Forest"])
        ...     [line.messages[-1]["content"] for line in data]
        ['{"label": "Beach"}']
        >>> print(data.report)
        export: 1 done, 0 skipped, 1 failed of 2
          Vineyard: export: its label 'Vineyard' is not one of the labels
    """
    if isinstance(source, str | Path):
        raise UsageError(f"Records are read from a source: FolderSource({str(source)!r}), or TableSource for a table.")
    if on_error not in ("skip", "raise"):
        raise UsageError(f"on_error is 'skip' or 'raise', not {on_error!r}.")
    asks = RequestBuilder(model="pixtral") if requests is None else requests
    known = None if labels is None else as_labels(labels)
    with _progress.bar(progress, total=_length(source), desc="export", unit="img") as bar:
        files, report, name_of_all = export(
            source,
            Path(out),
            name=name,
            max_bytes=check_count(max_bytes, name="max_bytes"),
            config=_config(asks, known, max_bytes),
            line=lambda record: _line(record, known, asks),
            on_error=on_error,
            advance=bar.update,
        )
    if not files:
        raise UsageError(f"No record can be learned from. {report}")
    return ChatData(files=tuple(files), report=report, digest=name_of_all)


def _config(requests: RequestBuilder, labels: LabelSet | None, max_bytes: int) -> dict[str, Any]:
    grid, encoding = requests.encoding.grid, requests.encoding
    return {
        "labels": None if labels is None else list(labels.names),
        "caption_prompt": None if labels else requests.caption_prompt,
        "grid": [grid.patch, grid.merge, grid.max_side],
        "image_tokens": encoding.max_tokens,
        "quality": encoding.quality,
        "max_bytes": max_bytes,
    }


def _line(record: Record, labels: LabelSet | None, requests: RequestBuilder) -> bytes | Failure:
    """The line of a record, or why it has none; an image that cannot be read raises `ImageError`."""
    answer, wrong = _answer(record, labels)
    if wrong:
        return Failure(id=record.id, uri=record.uri, stage="export", reason=wrong)
    asked = requests.caption(record) if labels is None else requests.classify(record, labels)
    messages = [*map(_documented, asked.messages), {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False).encode() + b"\n"


def _answer(record: Record, labels: LabelSet | None) -> tuple[str, str | None]:
    if labels is None:
        caption = record.captions[0].strip() if record.captions else ""
        hint = "; give labels= to learn labels" if record.label is not None else ""
        return caption, None if caption else f"it has no caption{hint}"
    if record.label is None:
        return "", "it has no label"
    wrong = None if record.label in labels.names else f"its label {record.label!r} is not one of the labels"
    return label_answer(record.label), wrong


def _documented(message: dict[str, Any]) -> dict[str, Any]:
    """Training files have an image's URL as text, where requests have an object."""
    if isinstance(message["content"], str):
        return message
    chunks = [
        {"type": "image_url", "image_url": rules.url_of(chunk)} if chunk["type"] == "image_url" else chunk
        for chunk in message["content"]
    ]
    return {**message, "content": chunks}


def read_chat_data(paths: Paths) -> Iterator[ChatLine]:
    """Read conversations one after the other; bare lists of messages are taken as well.

    Args:
        paths: A file, several, or a folder of `.jsonl` files.

    Raises:
        UsageError: A line is not a conversation to learn from; the message tells file and line. `check_chat_data` tells
            of all of them.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> scene = Record(id="a", image=Image.new("RGB", (32, 32)), label="Beach")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = write_chat_data([scene], folder, labels=["Beach", "Forest"])
        ...     [line] = read_chat_data(folder)
        >>> line.messages[-1]["content"]
        '{"label": "Beach"}'
    """
    for line in chain.from_iterable(map(lines_of, find_files(paths))):
        found = parse(line)
        if isinstance(found, Failure):
            raise UsageError(f"{found.uri}: {found.reason}.")
        yield found


def find_files(paths: Paths) -> list[Path]:
    """The files that are meant.

    Raises:
        UsageError: There are none.
    """
    given = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    files: list[Path] = []
    for path in given:
        must_exist(path)
        files += sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"There is no .jsonl file in {', '.join(map(str, given)) or 'an empty list'}.")
    return files


def parse(line: Line) -> ChatLine | Failure:
    """A line as a conversation, or what is wrong with it; images are not decoded."""
    try:
        value = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        return line.failure(line.problem or f"it is not JSON ({error})")
    messages = value.get("messages") if isinstance(value, dict) else value
    wrong = rules.problem_of(messages)
    if wrong or messages is None:
        return line.failure(wrong or "there are no messages")
    return ChatLine(messages=tuple(messages), file=line.file, number=line.number)


def check_chat_data(paths: Paths, *, max_bytes: int = FILE_BYTES, progress: bool | None = None) -> Report:
    """Check files of conversations line by line, images included.

    A line fails if it is not JSON, if its roles are out of order, if it has an image outside the user's turns, an
    empty or missing answer, more or larger images than Mistral's service takes, an image that cannot be read, or if an
    earlier line is the same. A file fails if it is empty or too large.

    Args:
        paths: A JSONL file, a folder of them, or a list of files.
        max_bytes: The most in one file.
        progress: Show a bar; `None` decides by where the output goes.

    Returns:
        Good lines as `done`; each failure has its file and line as `uri`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "train.jsonl"
        ...     size = path.write_text('{"messages": [{"role": "user", "content": "Hello"}]}')
        ...     check_chat_data(path).failures[0].reason
        "the last message is the user's; it must be the assistant's, which is what is learned"
    """
    files = find_files(paths)
    seen, failures, done = IdSet(), [], 0
    with _progress.bar(progress, total=None, desc="check", unit="line") as bar:
        for line in chain.from_iterable(map(lines_of, files)):
            wrong = _problem(line, seen)
            failures += [wrong] if wrong else []
            done += wrong is None
            bar.update(1)
    return Report(stage="check", done=done, failures=[*failures, *_wrong_files(files, max_bytes)])


def _problem(line: Line, seen: IdSet) -> Failure | None:
    found = parse(line)
    if isinstance(found, Failure):
        return found
    try:
        for _ in rules.images_in(found.messages):
            pass
    except ImageError as error:
        return line.failure(error.reason)
    name = digest(list(found.messages))
    if name in seen:
        return line.failure("an earlier line is the same")
    seen.add(name)
    return None


def _wrong_files(files: list[Path], max_bytes: int) -> Iterator[Failure]:
    for path in files:
        size = path.stat().st_size
        reason = "it is empty" if not size else f"it is larger than {max_bytes} bytes" if size > max_bytes else None
        if reason:
            yield Failure(id=str(path), uri=str(path), stage="check", reason=reason)


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None
