"""What a store does, as plans that send nothing: `AstraStore` and `AsyncAstraStore` run the same."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from geovlm._vectors import check_count, unit_rows
from geovlm.errors import StoreError, UsageError
from geovlm.filters import compile_filter, parse_filter
from geovlm.stores._astra_documents import ROW_FIELDS, is_unicode, metadata_of, prepare, rows_of, vectors_of
from geovlm.stores._astra_filters import push_down
from geovlm.stores._astra_reads import Count, Exact, Pages, Search, by_ids
from geovlm.stores._astra_setup import About, Setup, refuse_other, write_own
from geovlm.stores._astra_writes import Removal, Upsert, truncation
from geovlm.stores._checks import check_ids, json_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.filters import Predicate
    from geovlm.protocols import Vectors, Where
    from geovlm.stores._astra_filters import Pushed
    from geovlm.stores._astra_reads import Document, Found
    from geovlm.stores._astra_run import Plan
    from geovlm.stores._astra_send import Policy
    from geovlm.stores._astra_writes import Outcome, Rule

ROWS_A_LOOK = 4096


@frozen(kw_only=True)
class AstraMatches:
    """The nearest rows of one query, best first."""

    ids: list[str]
    scores: list[float]
    metadata: list[dict[str, Any]]


class Plans:
    """The plans of one store, and what it knows of its collection.

    Args:
        name: Of the collection.
        dim: The length of vectors, if it is known.
        policy: How requests are repeated.
    """

    def __init__(self, name: str, dim: int | None, policy: Policy) -> None:
        Setup(name, dim)
        self.name = name
        self._dim = dim
        self._policy = policy
        self._about: About | None = None

    def forget(self) -> None:
        """Look at the collection again when it is next used."""
        self._about = None

    def look(self) -> Plan[About | None]:
        """What the collection says of itself; `None` if there is none."""
        if self._about is None:
            setup = Setup(self.name, self._dim)
            yield from setup.look()
            self._about = setup.about
        return self._about

    def known(self) -> Plan[About | None]:
        """As `look`, asking again as long as no encoder is known."""
        if self._about is not None and self._about.fingerprint is None:
            self.forget()
        return (yield from self.look())

    def _make(self, dim: int) -> Plan[About]:
        about = yield from self.look()
        if about is None:
            setup = Setup(self.name, dim)
            yield from setup.make()
            about = self._about = setup.about
        assert about is not None
        return about

    @property
    def dim(self) -> int | None:
        """The length of vectors, as far as it is known without asking."""
        return self._about.dim if self._about else self._dim

    def bind(self, dim: int, fingerprint: str) -> Plan[None]:
        """Tie the collection to an encoder."""
        check_count(dim, name="dim")
        self.forget()
        about = yield from self._make(dim)
        if about.fingerprint is None and about.dim == dim:
            yield write_own(dim, fingerprint)
            setup = Setup(self.name, dim)
            # Another process may have been faster.
            yield from setup.read(dim)
            about = self._about = setup.about or about
        refuse_other(about, dim=dim, fingerprint=fingerprint)

    def upsert(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.floating[Any]],
        metadata: Sequence[Mapping[str, Any]] | None,
        rule: Rule,
    ) -> Plan[list[Outcome]]:
        """Write rows."""
        if rule not in ("replace", "skip", "error"):
            raise UsageError(f"on_conflict is 'replace', 'skip' or 'error', not {rule!r}.")
        keys = _sendable(check_ids(ids))
        if not keys and np.size(vectors) == 0:
            return []
        rows = prepare(json_rows(metadata, len(keys)))
        unit = unit_rows(vectors, dim=self.dim)
        if len(unit) != len(keys):
            raise UsageError(f"There are {len(keys)} ids and {len(unit)} vectors; they go in pairs.")
        if rule == "error":
            _refuse_repeated(keys)
        about = yield from self._make(unit.shape[1])
        if about.dim != unit.shape[1]:
            raise UsageError(f"A vector needs {about.dim} numbers here, not {unit.shape[1]}; are both of one encoder?")
        plan = Upsert(keys, unit, rows, rule, self._policy)
        yield from plan.steps()
        return plan.outcomes()

    def query(
        self, vectors: NDArray[np.floating[Any]], k: int, where: Where | None, *, exact: bool
    ) -> Plan[list[AstraMatches]]:
        """The nearest rows."""
        count, queries = check_count(k, name="k"), unit_rows(vectors, dim=self.dim, what="query vector")
        pushed, passes = compiled(where)
        about = yield from self.look()
        if about is None:
            return [AstraMatches(ids=[], scores=[], metadata=[]) for _ in queries]
        if about.dim != queries.shape[1]:
            raise UsageError(f"A query vector needs {about.dim} numbers here, not {queries.shape[1]}.")
        found: list[Found | None] = [None] * len(queries)
        if not exact:
            search = Search(queries, count, pushed, passes)
            yield from search.steps()
            found = search.found
            if passes is None and None in found:
                raise UsageError(
                    f"Astra DB finds at most the 1,000 nearest rows, and k is {count}. With exact=True all rows are"
                    " read and compared here."
                )
        rest = [query for query, rows in enumerate(found) if rows is None]
        if rest:
            all_compared = yield from self._compare(queries[rest], count, pushed, passes)
            for query, rows in zip(rest, all_compared, strict=True):
                found[query] = rows
        return [_matches(rows or []) for rows in found]

    def _compare(self, queries: Vectors, k: int, pushed: Pushed, passes: Predicate | None) -> Plan[list[Found]]:
        """The nearest of all rows, read and compared here."""
        exact, waiting = Exact(queries, k), list[Any]()
        pages = Pages(pushed.among_documents(), ROW_FIELDS)
        for step in pages.steps():
            yield step
            waiting += passing(pages.documents, passes)
            if len(waiting) >= ROWS_A_LOOK:
                exact.show(*rows_of(waiting, queries.shape[1]))
                waiting = []
        exact.show(*rows_of(waiting, queries.shape[1]))
        return exact.found()

    def get(self, ids: Sequence[str]) -> Plan[list[Mapping[str, Any] | None]]:
        """Metadata by id."""
        keys = check_ids(ids)
        documents = yield from self._documents(keys, {"metadata": 1, "payload": 1})
        # A copy for each, as an id may be asked for twice.
        return [deepcopy(metadata_of(documents[key])) if key in documents else None for key in keys]

    def get_vectors(self, ids: Sequence[str]) -> Plan[list[Vectors | None]]:
        """Vectors by id."""
        keys = check_ids(ids)
        documents = yield from self._documents(keys, {"$vector": 1})
        if not documents or self.dim is None:
            return [None] * len(keys)
        found = dict(zip(documents, vectors_of(list(documents.values()), self.dim), strict=True))
        return [found[key].copy() if key in found else None for key in keys]

    def _documents(self, keys: Sequence[str], projection: Mapping[str, Any]) -> Plan[dict[str, Document]]:
        wanted = list(dict.fromkeys(key for key in keys if is_unicode(key)))
        documents: dict[str, Document] = {}
        if (yield from self.look()) is not None:
            yield from by_ids(wanted, projection, lambda one: documents.update({one["_id"]: one}))
        return documents

    def delete(self, ids: Sequence[str] | None, where: Where | None) -> Plan[int]:
        """Remove rows."""
        if (ids is None) == (where is None):
            raise UsageError("delete takes ids or where, one of the two; where={} removes every row.")
        keys = None if ids is None else [key for key in check_ids(ids) if is_unicode(key)]
        pushed, passes = compiled(where)
        about = yield from self.look()
        if about is None:
            return 0
        if keys is None and pushed.clause is True and passes is None:
            removed = yield from self._delete_all(about)
            return removed
        if keys is None:
            keys = yield from self._ids(pushed, passes)
        removal = Removal(keys)
        yield from removal.steps()
        return len(removal.found)

    def _delete_all(self, about: About) -> Plan[int]:
        removed = yield from self.count(None)
        yield truncation()
        if about.fingerprint is not None:
            yield write_own(about.dim, about.fingerprint)
        return removed

    def _ids(self, pushed: Pushed, passes: Predicate | None) -> Plan[list[str]]:
        found: list[str] = []
        pages = Pages(pushed.among_documents(), {"sha": 1} if passes is None else {"metadata": 1, "payload": 1})
        for step in pages.steps():
            yield step
            found += [one["_id"] for one in passing(pages.documents, passes)]
        return found

    def count(self, where: Where | None) -> Plan[int]:
        """How many rows there are."""
        pushed, passes = compiled(where)
        about = yield from self.look()
        if about is None:
            return 0
        count = Count(pushed, passes)
        yield from count.steps()
        return count.rows


def compiled(where: Where | None) -> tuple[Pushed, Predicate | None]:
    """What the service answers of a filter, and what is left to test here."""
    pushed = push_down(parse_filter(where))
    return pushed, None if pushed.exact else compile_filter(where)


def passing(documents: list[Document], passes: Predicate | None) -> list[Document]:
    """The documents whose metadata passes."""
    return [one for one in documents if passes is None or passes(metadata_of(one))]


def _matches(found: Found) -> AstraMatches:
    return AstraMatches(
        ids=[key for key, _, _ in found],
        scores=[score for _, score, _ in found],
        metadata=[metadata for _, _, metadata in found],
    )


def _sendable(ids: list[str]) -> list[str]:
    for key in ids:
        if not is_unicode(key):
            raise UsageError(f"Astra DB takes ids that are Unicode; {key!r:.80} holds half of a surrogate pair.")
    return ids


def _refuse_repeated(ids: list[str]) -> None:
    twice = [key for key, times in Counter(ids).items() if times > 1]
    if twice:
        raise StoreError(
            f"{len(twice)} ids come twice, the first is {twice[0]!r:.80}; nothing was written. on_conflict='replace'"
            " or 'skip' says what to do with them."
        )
