"""What the tests of batches share: scenes whose right answer is known, and deaths at any step."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import contextmanager

from geovlm import Record
from geovlm.pixtral.batch.ledger import Ledger
from geovlm.pixtral.batch.service import JobService
from geovlm.pixtral.batch.spool import Spool
from geovlm.pixtral.images import ImageEncoding
from geovlm.testing.mistral_api import images_of
from tests.mistral import scene

LABELS = ["Beach", "Bridge", "Forest", "Port", "River"]
STEPS = ("upload", "list_files", "create", "list_jobs", "get", "size_of", "download", "cancel", "complete")


def label_of(jpeg: bytes) -> str:
    return LABELS[int(hashlib.sha256(jpeg).hexdigest(), 16) % len(LABELS)]


def brain(body):
    """Answers by what is in the image, so that a wrong pairing shows."""
    return label_of(images_of(body)[0])


def records(count: int, *, start: int = 0) -> list[Record]:
    odd = ["with\nnewline", '"quoted"', "äöü/漢字", " spaces ", "a,b;c"]
    keys = [odd[i] if start == 0 and i < len(odd) else f"scene-{i}" for i in range(start, start + count)]
    return [Record(id=key, image=scene(start + i, (16, 16)), label="Beach") for i, key in enumerate(keys)]


def expected(made: list[Record]) -> dict[str, str]:
    encoding = ImageEncoding()
    bodies = {r.id: {"messages": [{"content": [chunk(encoding.encode(r).url)]}]} for r in made}
    return {key: brain(body) for key, body in bodies.items()}


def chunk(url: str):
    return {"type": "image_url", "image_url": {"url": url}}


class Killed(BaseException):
    """The process ends here: nothing after this line runs."""


@contextmanager
def deaths(monkeypatch, strike, *, kill):
    """Call `strike(name)` before and after each network step, ledger line and request line; kill where it is true."""

    def around(name, function):
        def wrapped(*args, **kwargs):
            if strike(f"before {name}"):
                kill()
            result = function(*args, **kwargs)
            if strike(f"after {name}"):
                kill()
            return result

        return wrapped

    def torn(self, event, **details):
        if strike("torn ledger"):
            self._file.write(b'{"event": "step", "numb')
            kill()
        return append(self, event, **details)

    append = Ledger.append
    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(JobService, name, around(name, getattr(JobService, name)))
        patch.setattr(Ledger, "append", around("ledger", torn))
        patch.setattr(Spool, "add", around("request line", Spool.add))
        yield


def billed_twice(api, dropped: Counter[str]) -> list[str]:
    """Requests that were paid for more often than their answers were lost by the service itself."""
    charged = Counter(charge.custom_id for charge in api.log.charges)
    return [key for key, count in charged.items() if count - dropped[key] > 1]


def shipped_twice(api) -> list[tuple[str, str]]:
    """Shipments that have two jobs which are not cancelled."""
    told = [job.metadata for job in api.batches.jobs.values()]
    names = Counter((meta["geovlm_run"], meta["geovlm_shipment"]) for meta in told)
    return [name for name, count in names.items() if count > 1]
