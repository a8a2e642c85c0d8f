"""What a folder that the command line made remembers: the command's arguments that later commands need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from attrs import asdict, field, frozen

import geovlm as gv
from geovlm._files import read_json, write_json
from geovlm.errors import ConfigMismatch, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geovlm.protocols import Encoder, VectorStore

__all__ = ["IndexFolder", "recall", "remember"]

INDEX = "index.json"
PLACES = {"numpy": "store", "lance": "store.lance"}


def remember(path: Path, values: Mapping[str, Any]) -> None:
    """Keep arguments in a file; those that are there already must be the same.

    Raises:
        ConfigMismatch: The folder was made with others; says which.
        StorageError: The file cannot be written.
    """
    if path.exists():
        known = recall(path)
        changed = [name for name in {**known, **values} if known.get(name) != values.get(name)]
        if changed:
            told = "; ".join(f"{name}: {known.get(name)!r} then, {values.get(name)!r} now" for name in sorted(changed))
            raise ConfigMismatch(f"{path.parent} was made with other arguments ({told}). Choose another folder.")
    else:
        write_json(path, dict(values))


def recall(path: Path) -> dict[str, Any]:
    """What `remember` kept.

    Raises:
        UsageError: There is no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path.parent} was not made by this command: it has no {path.name}.")
    values = read_json(path)
    if not isinstance(values, dict):
        raise UsageError(f"{path} is no file of this command.")
    return values


def _expanded(path: Path) -> Path:
    return path.expanduser()


@frozen(kw_only=True)
class IndexFolder:
    """The folder of `geovlm index`: `vectors`, a store, and with which encoder they were made.

    Args:
        path: The folder.
        encoder: What `load_encoder` takes as its first argument.
        weights: Of the encoder; an absolute path.
        architecture: Of the encoder.
        store: `"numpy"`, `"lance"`, or a kind of store, a colon and its place.
        source: What was indexed, and how it was cut.
    """

    path: Path = field(converter=_expanded)
    encoder: str
    weights: str | None = None
    architecture: str | None = None
    store: str = "numpy"
    source: Mapping[str, Any] = field(factory=dict)

    @property
    def vectors(self) -> Path:
        """Where the vectors lie, in parts."""
        return self.path / "vectors"

    def save(self) -> None:
        """Keep it in the folder; see `remember`."""
        values = asdict(self)
        del values["path"]
        remember(self.path / INDEX, values)

    @classmethod
    def open(cls, path: Path) -> Self:
        """What `save` kept; see `recall`."""
        return cls(path=path, **recall(path.expanduser() / INDEX))

    @classmethod
    def is_in(cls, path: Path) -> bool:
        """Whether `path` is such a folder."""
        return (path.expanduser() / INDEX).is_file()

    def load_encoder(self, *, device: str | None, dtype: str | None) -> Encoder:
        """The encoder that the folder was made with."""
        return gv.load_encoder(
            self.encoder, weights=self.weights, architecture=self.architecture, device=device, dtype=dtype
        )

    def open_store(self) -> VectorStore:
        """The store, a new one if there is none yet."""
        kind, _, place = self.store.partition(":")
        if not place and kind in PLACES:
            self.path.mkdir(parents=True, exist_ok=True)
            return gv.load_store(kind, self.path / PLACES[kind])
        return gv.load_store(kind, place or None)
