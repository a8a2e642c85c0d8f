"""Plans that write: upserts and removals. They make requests and take answers, and send nothing."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Literal

from geovlm.errors import AuthError, IncompleteUpsert, RateLimited, RateLimitedUpsert, StoreError
from geovlm.stores._astra_documents import content_hash, document, packed_rows
from geovlm.stores._astra_reads import IDS_A_REQUEST, by_ids
from geovlm.stores._astra_send import TRANSIENT, Refused, Request, Step, code_of, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from geovlm.errors import GeovlmError
    from geovlm.protocols import Vectors
    from geovlm.stores._astra_documents import Prepared
    from geovlm.stores._astra_reads import Document
    from geovlm.stores._astra_send import Answer, Body, Policy

# As many as the Data API takes: a request costs the client the time of some thirty documents in it.
DOCUMENTS_A_REQUEST = 100
BYTES_A_REQUEST = 10_000_000

Outcome = Literal["inserted", "replaced", "skipped"]
Rule = Literal["replace", "skip", "error"]


class Upsert:
    """Rows on their way into the collection, each id once.

    New rows go by `insertMany`, which refuses ids that exist. What is there under these is looked up: a row that this
    call has written itself, in an attempt whose answer was lost; a row with the same content; or another row, which is
    replaced. Once most of a request's rows exist, the others are looked up before they are sent.

    Args:
        ids: Of the rows; one that comes twice goes in as the rule says.
        vectors: Unit vectors `(n, dim)`.
        rows: Their metadata.
        rule: What to do about ids that are in the store.
        policy: How often rows are tried.
    """

    def __init__(
        self, ids: Sequence[str], vectors: Vectors, rows: Sequence[Prepared], rule: Rule, policy: Policy
    ) -> None:
        self._ids = ids
        self._packed = packed_rows(vectors)
        self._rows = rows
        self._rule = rule
        self._policy = policy
        self._write = secrets.token_urlsafe(9)
        places = range(len(ids)) if rule == "replace" else range(len(ids) - 1, -1, -1)
        self._place_of = {ids[place]: place for place in places}
        self._outcomes: dict[str, Outcome] = {}
        self._reasons: dict[str, str] = {}
        self._stop: GeovlmError | None = None
        self._sent_twice: set[str] = set()
        self._new: list[str] = []
        self._known: list[str] = []
        self._changed: list[str] = []
        self._rounds = 0

    def steps(self) -> Iterator[Step]:
        """The requests.

        Raises:
            StoreError: The rule is to raise, and an id is in the store; nothing was written.
        """
        keys = sorted(self._place_of, key=self._place_of.__getitem__)
        if self._rule == "error":
            yield from self._refuse_known(keys)
        first, rest = keys[:DOCUMENTS_A_REQUEST], keys[DOCUMENTS_A_REQUEST:]
        yield Step(self._insertions(first))
        if 2 * len(self._known) > len(first):
            self._known += rest
        else:
            yield Step(self._insertions(rest))
        while (self._new or self._known) and not self._stop:
            yield from self._go_on()
        yield Step(self._replacements())

    def _refuse_known(self, keys: list[str]) -> Iterator[Step]:
        known: list[str] = []
        yield from by_ids(keys, {"sha": 1}, lambda found: known.append(found["_id"]))
        if known:
            raise StoreError(
                f"{len(known)} ids are in the store already, one is {min(known)!r:.80}; nothing was written."
                " on_conflict='replace' or 'skip' says what to do with them."
            )

    def _go_on(self) -> Iterator[Step]:
        """Look up what exists, insert what does not; at most as often as a request is sent."""
        self._rounds += 1
        if self._rounds > self._policy.attempts:
            reason = "each attempt met a failing database or another writer."
            self._reasons.update(dict.fromkeys([*self._known, *self._new], reason))
            self._known, self._new = [], []
            return
        absent, self._known = dict.fromkeys(self._known), []

        def take(found: Document) -> None:
            if found["_id"] in absent:
                del absent[found["_id"]]
                self._compare(found)

        yield from by_ids(list(absent), {"sha": 1, "write": 1}, take, fail=self._end)
        delay = self._policy.before(self._rounds + 1) if self._new else 0.0
        new, self._new = [*self._new, *absent], []
        yield Step(self._insertions(new), delay)

    def _compare(self, found: Document) -> None:
        key = found["_id"]
        if found.get("write") == self._write:
            self._outcomes[key] = "inserted"
        elif self._rule == "skip":
            self._outcomes[key] = "skipped"
        elif self._rule == "error":
            self._reasons[key] = "another writer has just put this id into the store."
        elif found.get("sha") == content_hash(self._packed[self._place_of[key]].tobytes(), self._row(key)):
            self._outcomes[key] = "replaced"
        else:
            self._changed.append(key)

    def _row(self, key: str) -> Prepared:
        return self._rows[self._place_of[key]]

    def _document(self, key: str) -> Document:
        place = self._place_of[key]
        return document(key, self._packed[place].tobytes(), self._rows[place], self._write)

    def _end(self, error: GeovlmError) -> None:
        self._stop = error

    def _insertions(self, keys: Iterable[str]) -> Iterator[Request]:
        """Requests of not too many and not too long documents, made as they are sent."""
        documents: list[Document] = []
        size = 0
        for key in keys:
            if self._stop:
                return
            more = self._row(key).size + 6 * self._packed.shape[1] + len(key)
            if documents and (len(documents) == DOCUMENTS_A_REQUEST or size + more > BYTES_A_REQUEST):
                yield self._insertion(documents)
                documents, size = [], 0
            documents.append(self._document(key))
            size += more
        if documents:
            yield self._insertion(documents)

    def _insertion(self, documents: list[Document]) -> Request:
        command = {"documents": documents, "options": {"ordered": False, "returnDocumentResponses": True}}
        return Request(body={"insertMany": command}, take=self._inserted, fail=self._end)

    def _inserted(self, answer: Answer) -> None:
        errors = answer.body.get("errors") or []
        for response in answer.body["status"]["documentResponses"]:
            key = response["_id"]
            if response["status"] == "OK":
                self._outcomes[key] = "inserted"
            else:
                self._not_inserted(key, errors[response["errorsIdx"]], answer.attempts)

    def _not_inserted(self, key: str, error: Any, attempts: int) -> None:
        code = code_of(error)
        if code in TRANSIENT:
            self._sent_twice.add(key)
            self._new.append(key)
        elif code != "DOCUMENT_ALREADY_EXISTS":
            self._reasons[key] = str(refusal(error))
        elif self._rule == "skip" and attempts == 1 and key not in self._sent_twice:
            self._outcomes[key] = "skipped"
        else:
            self._known.append(key)

    def _replacements(self) -> Iterator[Request]:
        for key in self._changed:
            if self._stop:
                return
            yield self._replacement(key)

    def _replacement(self, key: str) -> Request:
        def take(_: Answer) -> None:
            self._outcomes[key] = "replaced"

        def fail(error: GeovlmError) -> None:
            if isinstance(error, Refused):
                self._reasons[key] = str(error)
            else:
                self._end(error)

        command: Body = {
            "filter": {"_id": key},
            "replacement": self._document(key),
            # Nothing of the old document comes back.
            "projection": {"*": 0},
            "options": {"upsert": True},
        }
        return Request(body={"findOneAndReplace": command}, take=take, fail=fail)

    def outcomes(self) -> list[Outcome]:
        """What became of each row, after the last step.

        Raises:
            AuthError: The token was not accepted, and nothing was written.
            IncompleteUpsert: Not all rows were written.
        """
        again: Outcome = "replaced" if self._rule == "replace" else "skipped"
        seen: set[str] = set()
        told: list[Outcome | None] = []
        for key in self._ids:
            first = self._outcomes.get(key)
            told.append(first if key not in seen or first is None else again)
            seen.add(key)
        if len(self._outcomes) == len(self._place_of):
            return [outcome for outcome in told if outcome]
        if isinstance(self._stop, AuthError) and not self._outcomes:
            raise self._stop
        missing = [key for key in self._place_of if key not in self._outcomes]
        reasons = {key: self._reasons.get(key) or str(self._stop) for key in missing}
        kind = RateLimitedUpsert if isinstance(self._stop, RateLimited) else IncompleteUpsert
        raise kind(told, reasons) from self._stop


class Removal:
    """Rows on their way out, by id. How many there are is found out first, so that a lost answer costs no count."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.found: list[str] = []
        self._ids = list(dict.fromkeys(ids))

    def steps(self) -> Iterator[Step]:
        """The requests."""
        yield from by_ids(self._ids, {"sha": 1}, lambda found: self.found.append(found["_id"]))
        found = self.found
        waiting = [found[start : start + IDS_A_REQUEST] for start in range(0, len(found), IDS_A_REQUEST)]
        while waiting:
            current, waiting = waiting, []
            yield Step([_deletion(group, waiting) for group in current])


def _deletion(group: list[str], more: list[list[str]]) -> Request:
    def take(answer: Answer) -> None:
        if answer.body["status"].get("moreData"):
            more.append(group)

    return Request(body={"deleteMany": {"filter": {"_id": {"$in": group}}}}, take=take)


def truncation() -> Step:
    """Remove every document at once, the store's own too."""
    return Step([Request(body={"deleteMany": {}}, take=lambda _: None)])
