"""The files that a fine-tuning learns from: exported from records, or given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import frozen

from geovlm._files import digest, file_digest
from geovlm.pixtral.chat_data import ChatData, find_files, write_chat_data
from geovlm.records import Report

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geovlm.pixtral.parsing import LabelSet
    from geovlm.pixtral.requests import RequestBuilder
    from geovlm.records import Record


@frozen(kw_only=True)
class TuningData:
    """Conversations to learn from, and those that are held out."""

    train: ChatData
    val: ChatData | None


def prepare(
    train: Iterable[Record] | str | os.PathLike[str],
    val: Iterable[Record] | str | os.PathLike[str] | None,
    *,
    labels: LabelSet | None,
    requests: RequestBuilder,
    out: Path,
    progress: bool | None,
) -> TuningData:
    """Write records into `out/data`; a path is a JSONL file, or a folder of them, that is there already.

    Raises:
        UsageError: There is nothing to learn from.
    """

    def one(source: Iterable[Record] | str | os.PathLike[str], name: str) -> ChatData:
        if isinstance(source, str | os.PathLike):
            return _given(source)
        return write_chat_data(source, out / "data", labels=labels, requests=requests, name=name, progress=progress)

    return TuningData(train=one(train, "train"), val=None if val is None else one(val, "val"))


def _given(path: str | os.PathLike[str]) -> ChatData:
    files = [file.absolute() for file in find_files(path)]
    return ChatData(files=tuple(files), report=Report(stage="export"), digest=digest([file_digest(f) for f in files]))
