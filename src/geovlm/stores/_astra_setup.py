"""The settings of a connection, the options of a collection, and the document that says whose vectors it has."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from attrs import field, frozen

from geovlm._optional import require
from geovlm._vectors import check_count
from geovlm.errors import AuthError, ConfigMismatch, StoreError, UsageError
from geovlm.stores._astra_send import Refused, Request, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geovlm.errors import GeovlmError
    from geovlm.stores._astra_send import Answer, Body

Environment = Literal["astra", "hcd", "dse", "other"]

ENDPOINT = "ASTRA_DB_API_ENDPOINT"
TOKEN = "ASTRA_DB_APPLICATION_TOKEN"  # noqa: S105 - the name of a setting
LARGEST_DIM = 4096
CREATION_SECONDS = 120.0

# Ids of rows are text, so that this one is never a row's.
OWN_ID = 0
FORMAT = 1


@frozen(kw_only=True)
class Connection:
    """A checked way to a database; the secrets do not show in its repr."""

    endpoint: str
    environment: Environment
    keyspace: str | None
    token: str | None = field(repr=False)
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)

    def database(self) -> Any:
        """The database of astrapy; sends nothing."""
        from geovlm import __version__

        astrapy: Any = require("astrapy", extra="astra", purpose="AstraStore")
        authentication: Any = require("astrapy.authentication", extra="astra")
        kind = astrapy.constants.Environment
        environment = {"astra": kind.PROD, "hcd": kind.HCD, "dse": kind.DSE, "other": kind.OTHER}[self.environment]
        client = astrapy.DataAPIClient(environment=environment, callers=[("geovlm", __version__)])
        token = self.token or authentication.UsernamePasswordTokenProvider(self.username, self.password)
        try:
            return client.get_database(self.endpoint, token=token, keyspace=self.keyspace)
        except ValueError as error:
            raise UsageError(f"The endpoint {self.endpoint!r} or the keyspace cannot be used: {error}") from error


def connection(
    *,
    endpoint: str | None,
    token: str | None,
    keyspace: str | None,
    environment: str,
    username: str | None,
    password: str | None,
) -> Connection:
    """Settings from arguments and from the process's environment, checked.

    Raises:
        UsageError: One is missing or cannot be right; says which.
        AuthError: There is no token, and no user name with a password.
    """
    if environment not in get_args(Environment):
        raise UsageError(f"environment is one of {', '.join(get_args(Environment))}, not {environment!r}.")
    url = endpoint or os.environ.get(ENDPOINT)
    if not url:
        raise UsageError(f"No endpoint is known: set {ENDPOINT}, or give endpoint='https://…'.")
    if not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", url):
        raise UsageError(f"An endpoint is an address such as https://…apps.astra.datastax.com, not {url!r:.200}.")
    if (username is None) != (password is None):
        raise UsageError("username and password go together; give both, or a token.")
    if environment != "astra" and not keyspace:
        raise UsageError(f"A database of the environment {environment!r} needs keyspace='…'.")
    secret = token or (os.environ.get(TOKEN) if username is None else None)
    if not secret and (username is None or environment == "astra"):
        other = "" if environment == "astra" else ", or username= and password="
        raise AuthError(f"No token is known: set {TOKEN}, or give token=…{other}.")
    known: Any = {"environment": environment, "keyspace": keyspace or None, "username": username, "password": password}
    return Connection(endpoint=url, token=secret, **known)


def check_name(collection: str) -> str:
    """The name of a collection.

    Raises:
        UsageError: The Data API has none of that name.
    """
    if not isinstance(collection, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,47}", collection):
        raise UsageError(
            f"A collection's name is a letter and up to 47 letters, digits and underscores, not {collection!r:.80}."
        )
    return collection


def options_for(dim: int) -> dict[str, Any]:
    """All options of a collection of ours."""
    return {
        "vector": {"dimension": dim, "metric": "cosine", "sourceModel": "other"},
        "indexing": {"allow": ["metadata"]},
        "lexical": {"enabled": False},
        "rerank": {"enabled": False},
    }


def _comparable(options: dict[str, Any]) -> dict[str, Any]:
    """The options that matter, with what older versions of the Data API do not tell."""
    vector = dict(options.get("vector") or {})
    if vector:
        vector.setdefault("sourceModel", "other")
    enabled = {name: {"enabled": bool((options.get(name) or {}).get("enabled"))} for name in ("lexical", "rerank")}
    return {"vector": vector, "indexing": options.get("indexing") or {}, **enabled}


@frozen(kw_only=True)
class About:
    """What a collection says of itself."""

    dim: int
    fingerprint: str | None


class Setup:
    """Finds the collection and reads whose it is; makes it if asked.

    Args:
        name: Of the collection.
        dim: The length of vectors that is expected, if one is.

    Attributes:
        about: What was found; `None` if there is no such collection.
    """

    def __init__(self, name: str, dim: int | None = None) -> None:
        if dim is not None and check_count(dim, name="dim") > LARGEST_DIM:
            raise UsageError(f"Astra DB takes vectors of at most {LARGEST_DIM:,} numbers, not {dim:,}.")
        self.about: About | None = None
        self._name = name
        self._dim = dim
        self._options: dict[str, Any] | None = None
        self._own: dict[str, Any] = {}

    def look(self) -> Iterator[Step]:
        """Find the collection.

        Raises:
            ConfigMismatch: It was made with other options.
        """
        command = {"findCollections": {"options": {"explain": True}}}
        yield Step([Request(body=command, take=self._list, target="keyspace")])
        if self._options is not None:
            self._check(self._options)
            yield from self.read(self._options["vector"]["dimension"])

    def make(self) -> Iterator[Step]:
        """Make the collection, unless it is there.

        Raises:
            ConfigMismatch: It was made with other options.
        """
        assert self._dim is not None
        command = {"createCollection": {"name": self._name, "options": options_for(self._dim)}}
        creation = Request(
            body=command, take=_ignore, fail=_ignore_other_options, target="keyspace", seconds=CREATION_SECONDS
        )
        yield Step([creation])
        # Another process may have made it at the same time, perhaps otherwise.
        yield from self.look()
        if self.about is None:
            raise StoreError(f"The collection {self._name} was made and is not there; try again in a minute.")

    def read(self, dim: int) -> Iterator[Step]:
        """Read whose vectors the collection has."""
        yield Step([Request(body={"findOne": {"filter": {"_id": OWN_ID}}}, take=self._take)])
        if self._own.get("format", FORMAT) > FORMAT:
            raise StoreError(f"The collection {self._name} was written by a newer geovlm; update to read it.")
        self.about = About(dim=dim, fingerprint=self._own.get("fingerprint"))

    def _list(self, answer: Answer) -> None:
        found = {one["name"]: one.get("options") or {} for one in answer.body["status"]["collections"]}
        self._options = found.get(self._name)

    def _check(self, options: dict[str, Any]) -> None:
        there = _comparable(options)
        wanted = options_for(self._dim or there["vector"].get("dimension", 0))
        if there != wanted:
            raise ConfigMismatch(
                f"The collection {self._name} exists with other settings than geovlm needs.\n  there:  {there}\n"
                f"  needed: {wanted}\nUse another name, or drop the collection."
            )

    def _take(self, answer: Answer) -> None:
        found: Body = answer.body["data"].get("document") or {}
        self._own = found.get("store") or {}


def write_own(dim: int, fingerprint: str) -> Step:
    """Write whose vectors a collection has, unless that is written already."""
    own = {"_id": OWN_ID, "store": {"format": FORMAT, "dim": dim, "fingerprint": fingerprint}}
    return Step([Request(body={"insertOne": {"document": own}}, take=_ignore, fail=_ignore_existing)])


def _ignore(_: Answer) -> None:
    pass


def _ignore_existing(error: GeovlmError) -> None:
    if not (isinstance(error, Refused) and error.code == "DOCUMENT_ALREADY_EXISTS"):
        raise error


def _ignore_other_options(error: GeovlmError) -> None:
    if not (isinstance(error, Refused) and error.code == "EXISTING_COLLECTION_DIFFERENT_SETTINGS"):
        raise error


def refuse_other(about: About, *, dim: int, fingerprint: str) -> None:
    """Check that vectors of an encoder belong into a collection.

    Raises:
        ConfigMismatch: It holds another encoder's.
    """
    if (about.dim, about.fingerprint) != (dim, fingerprint):
        raise ConfigMismatch(
            f"This collection holds vectors of {about.dim} numbers of the encoder {about.fingerprint or '(not named)'},"
            f" and vectors of {fingerprint} with {dim} cannot be compared with them. Use that encoder, or another"
            " collection."
        )
