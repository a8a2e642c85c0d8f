"""Files of the service: uploads, results, downloads."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.testing._loopback import Response
from geovlm.testing.mistral_api.multipart import read_form
from geovlm.testing.mistral_api.wire import Refused, Request, answered, page_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from geovlm.testing.mistral_api.ids import Ids

MOST_BYTES = 512 * 1024 * 1024
PURPOSES = ("fine-tune", "batch", "ocr")


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file."""

    id: str
    filename: str
    content: bytes
    purpose: str
    sample_type: str
    source: str
    created_at: int

    def describe(self) -> dict[str, Any]:
        """As the service tells it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "sample_type": self.sample_type,
            "num_lines": self.content.count(b"\n") + (not self.content.endswith(b"\n")),
            "mimetype": "application/jsonl",
            "source": self.source,
            "signature": hashlib.sha256(self.content).hexdigest()[:16],
        }


class Files:
    """The files, in memory.

    Args:
        ids: Where names come from.
        most_bytes: Larger uploads are refused with 413.
    """

    def __init__(self, ids: Ids, *, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.stored: dict[str, StoredFile] = {}
        self._ids = ids

    def handlers(self) -> dict[str, Callable[[Request], Response]]:
        """What it answers."""
        return {
            "files.upload": self._upload,
            "files.list": self._list,
            "files.retrieve": lambda request: answered({**self._asked(request).describe(), "deleted": False}),
            "files.delete": self._delete,
            "files.download": self._download,
            "files.get_signed_url": self._sign,
            "files.signed": self._signed,
        }

    def get(self, file_id: Any) -> StoredFile:
        """A file.

        Raises:
            Refused: There is none of that id.
        """
        found = self.stored.get(str(file_id))
        if found is None:
            raise Refused(404, f"No file matches the given query: {file_id}", kind="not_found")
        return found

    def add(self, filename: str, content: bytes, *, purpose: str, sample_type: str, source: str = "upload") -> str:
        """Keep a file; its id."""
        kept = StoredFile(
            id=self._ids.uuid(),
            filename=filename,
            content=content,
            purpose=purpose,
            sample_type=sample_type,
            source=source,
            created_at=int(time.time()),
        )
        self.stored[kept.id] = kept
        return kept.id

    def _upload(self, request: Request) -> Response:
        if len(request.body) > self.most_bytes:
            raise Refused(413, f"The file is larger than {self.most_bytes} bytes.", kind="payload_too_large")
        form = read_form(request.headers.get("content-type", ""), request.body)
        purpose = form.fields.get("purpose", "fine-tune")
        if form.filename is None or purpose not in PURPOSES:
            raise Refused(422, f"An upload has a file, and a purpose of {', '.join(PURPOSES)}; not {purpose!r}.")
        if not form.content:
            raise Refused(422, "The file is empty.")
        sample = "batch_request" if purpose == "batch" else "instruct"
        file_id = self._twin(form.filename, form.content, purpose) or self.add(
            form.filename, form.content, purpose=purpose, sample_type=sample
        )
        return answered(self.stored[file_id].describe())

    def _twin(self, filename: str, content: bytes, purpose: str) -> str | None:
        # The service hands out the existing file for the same training data.
        same = (
            kept.id
            for kept in self.stored.values()
            if purpose == kept.purpose == "fine-tune" and (kept.filename, kept.content) == (filename, content)
        )
        return next(same, None)

    def _list(self, request: Request) -> Response:
        kept = [file for file in reversed(self.stored.values()) if _matches(file, request)]
        data = [file.describe() for file in page_of(kept, request)]
        return answered({"object": "list", "data": data, "total": len(kept)})

    def _asked(self, request: Request) -> StoredFile:
        return self.get(request.params["file"])

    def _delete(self, request: Request) -> Response:
        del self.stored[self._asked(request).id]
        return answered({"id": request.params["file"], "object": "file", "deleted": True})

    def _download(self, request: Request) -> Response:
        return Response(body=self._asked(request).content, content_type="application/octet-stream")

    def _sign(self, request: Request) -> Response:
        hours = int(request.one("expiry", "24"))
        if not 1 <= hours <= 168:
            raise Refused(422, f"expiry is 1 to 168 hours, not {hours}.")
        asked = self._asked(request)
        return answered({"url": f"{request.base_url}/signed/{asked.id}?sig={_signature(asked)}"})

    def _signed(self, request: Request) -> Response:
        if request.one("sig") != _signature(self._asked(request)):
            raise Refused(403, "The signature is wrong.")
        return self._download(request)


def _signature(file: StoredFile) -> str:
    return hashlib.sha256(file.id.encode()).hexdigest()[:32]


def _matches(file: StoredFile, request: Request) -> bool:
    purpose, search = request.one("purpose"), request.one("search")
    samples, sources = request.many("sample_type"), request.many("source")
    return (
        (not purpose or file.purpose == purpose)
        and search in file.filename
        and (not samples or file.sample_type in samples)
        and (not sources or file.source in sources)
    )
