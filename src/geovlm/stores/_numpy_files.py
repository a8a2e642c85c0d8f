"""The files of a saved `NumpyStore`: vectors as `.npy`, ids and metadata as Parquet, and a manifest that names them.

A save writes new files beside the old ones and then replaces the manifest, in one step that happens or does not. A save
that is killed therefore leaves the earlier one whole; what it left behind is removed by the next. Files are never
changed once they are written, so that stores that have them mapped into memory go on undisturbed.
"""

from __future__ import annotations

import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from attrs import frozen

from geovlm._files import locked, read_json, write_atomically, write_json
from geovlm.errors import StorageError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

KIND = "numpy-store"
FORMAT = 1
PATTERNS = ("vectors-*.npy", "rows-*.parquet", "codes-*.npz")


@frozen(kw_only=True)
class Saved:
    """What is in a saved store: metadata as JSON texts, and arrays that make the first query faster."""

    dim: int | None
    fingerprint: str | None
    ids: Sequence[str]
    vectors: Vectors
    texts: Sequence[str]
    codes: Mapping[str, NDArray[Any]] | None = None
    generation: int = 0


def write(folder: Path, content: Saved, *, after: int | None = None) -> int:
    """Save; the earlier save stays whole until this one is.

    Args:
        folder: Where to.
        content: What; its `generation` is not looked at.
        after: The generation that this content is made from; `None` to replace whatever is there.

    Returns:
        The generation of this save.

    Raises:
        StoreError: The folder holds something else, or another save than the one this content is made from.
        RunLocked: Another process is saving there.
        StorageError: The disk refused.
    """
    with locked(folder):
        found = _generation(folder)
        if after is not None and found not in (0, after):
            raise StoreError(
                f"The store in {folder} was saved by another writer after it was opened here; saving would undo that."
                " Open it again and repeat the changes, or save to another folder."
            )
        generation = max(found, after or 0) + 1
        names = _write_files(folder, content, generation)
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "generation": generation,
            "dim": content.dim,
            "fingerprint": content.fingerprint,
            "count": len(content.ids),
            **names,
        }
        write_json(folder / "manifest.json", manifest)
        _remove_others(folder, set(names.values()))
    return generation


def _write_files(folder: Path, content: Saved, generation: int) -> dict[str, str]:
    vectors, rows, codes = (pattern.replace("*", str(generation)) for pattern in PATTERNS)
    write_atomically(folder / vectors, lambda path: _write_vectors(path, content.vectors))
    write_atomically(folder / rows, lambda path: pq.write_table(_to_table(content), path, compression="zstd"))
    arrays = content.codes
    if arrays is None:
        return {"vectors": vectors, "rows": rows}
    write_atomically(folder / codes, lambda path: _write_codes(path, arrays))
    return {"vectors": vectors, "rows": rows, "codes": codes}


def _remove_others(folder: Path, kept: set[str]) -> None:
    for pattern in PATTERNS:
        for path in [*folder.glob(pattern), *folder.glob(f".{pattern}.tmp")]:
            if path.name not in kept:
                with suppress(OSError):  # a leftover costs room, not correctness
                    path.unlink()


def read(folder: Path) -> Saved:
    """Read what was saved last; the vectors are mapped into memory, and what is written to them stays there.

    Raises:
        StoreError: There is no store, a newer geovlm wrote it, or a file is missing or broken.
    """
    manifest = _read_manifest(folder)
    if manifest is None:
        raise StoreError(f"{folder} holds no saved NumpyStore; save() makes one.")
    try:
        content = _read_files(folder, manifest)
        shape = (manifest["count"], manifest["dim"] or 0)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, pa.ArrowException) as error:
        if manifest["generation"] != _generation(folder):
            return read(folder)  # another process saved meanwhile, and removed the files
        raise _broken(folder, f"{type(error).__name__}: {error}") from error
    vectors = content.vectors
    if vectors.shape != shape or vectors.dtype != np.float32 or len(set(content.ids)) != len(vectors):
        raise _broken(folder, f"its files do not fit together: {shape}, {vectors.shape}, {len(content.ids)} ids")
    return content


def _read_files(folder: Path, manifest: dict[str, Any]) -> Saved:
    table = pq.read_table(folder / manifest["rows"])
    return Saved(
        dim=manifest["dim"],
        fingerprint=manifest["fingerprint"],
        ids=_texts(table["id"]),
        vectors=_read_vectors(folder / manifest["vectors"]),
        texts=_texts(table["metadata"]),
        codes=_read_codes(folder / manifest["codes"]) if "codes" in manifest else None,
        generation=manifest["generation"],
    )


def _broken(folder: Path, reason: str) -> StoreError:
    return StoreError(
        f"The store saved in {folder} is broken ({reason}). Bring a whole copy, or remove it and fill a new store."
    )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = read_json(folder / "manifest.json")
    except FileNotFoundError:
        return None
    except (OSError, StorageError) as error:
        raise _broken(folder, str(error)) from error
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind != KIND:
        raise StoreError(f"{folder} holds {kind or 'something else'}, not a NumpyStore; choose another folder.")
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"{folder} was saved in format {manifest.get('format')}, and this geovlm reads {FORMAT}: update geovlm."
        )
    if not isinstance(manifest.get("generation"), int):
        raise _broken(folder, "its manifest has no generation")
    return dict(manifest)


def _generation(folder: Path) -> int:
    manifest = _read_manifest(folder)
    return 0 if manifest is None else int(manifest["generation"])


def _write_vectors(path: Path, vectors: Vectors) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, vectors, allow_pickle=False)


def _read_vectors(path: Path) -> Vectors:
    """Mapped copy-on-write: a page is read when it is needed, and copied when it is written to."""
    return np.asarray(np.lib.format.open_memmap(path, mode="c"))


def _write_codes(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read_codes(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _to_table(content: Saved) -> pa.Table:
    return pa.table(
        {"id": pa.array(content.ids, type=pa.string()), "metadata": pa.array(content.texts, type=pa.string())}
    )


def _texts(column: pa.ChunkedArray) -> list[str]:
    if column.null_count or column.type != pa.string():
        raise ValueError(f"a column of {column.type} with {column.null_count} nulls")
    texts: list[str] = column.to_numpy().tolist()
    return texts
