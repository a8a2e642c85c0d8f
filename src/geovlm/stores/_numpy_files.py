"""The files of a saved `NumpyStore`: vectors as `.npy`, ids and metadata as Parquet, and a manifest that names them.

A save writes new files beside the old ones and then replaces the manifest, in one step that happens or does not. A save
that is killed therefore leaves the earlier one whole; what it left behind is removed by the next.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from attrs import frozen

from geovlm._files import locked, read_json, write_atomically, write_json
from geovlm.errors import StorageError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from geovlm.protocols import Vectors

KIND = "numpy-store"
FORMAT = 1


@frozen(kw_only=True)
class Saved:
    """What is in a saved store."""

    dim: int | None
    fingerprint: str | None
    ids: Sequence[str]
    vectors: Vectors
    metadata: Sequence[dict[str, Any]]


def write(folder: Path, content: Saved) -> None:
    """Save; the earlier save stays whole until this one is.

    Raises:
        StoreError: The folder holds something else.
        RunLocked: Another process is saving there.
        StorageError: The disk refused.
    """
    with locked(folder):
        generation = _generation(folder) + 1
        vectors, rows = f"vectors-{generation}.npy", f"rows-{generation}.parquet"
        write_atomically(folder / vectors, lambda path: _write_vectors(path, content.vectors))
        write_atomically(folder / rows, lambda path: pq.write_table(_to_table(content), path, compression="zstd"))
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "generation": generation,
            "dim": content.dim,
            "fingerprint": content.fingerprint,
            "count": len(content.ids),
            "vectors": vectors,
            "rows": rows,
        }
        write_json(folder / "manifest.json", manifest)
        for pattern in ("vectors-*.npy", "rows-*.parquet", ".vectors-*.npy.tmp", ".rows-*.parquet.tmp"):
            for path in folder.glob(pattern):
                if path.name not in (vectors, rows):
                    with suppress(OSError):  # a leftover costs room, not correctness
                        path.unlink()


def read(folder: Path) -> Saved:
    """Read what was saved last.

    Raises:
        StoreError: There is no store, a newer geovlm wrote it, or a file is missing or broken.
    """
    manifest = _read_manifest(folder)
    if manifest is None:
        raise StoreError(f"{folder} holds no saved NumpyStore; save() makes one.")
    try:
        vectors = _read_vectors(folder / manifest["vectors"])
        table = pq.read_table(folder / manifest["rows"])
        content = Saved(
            dim=manifest["dim"],
            fingerprint=manifest["fingerprint"],
            ids=table["id"].to_pylist(),
            vectors=vectors,
            metadata=[json.loads(text) for text in table["metadata"].to_pylist()],
        )
        shape = (manifest["count"], manifest["dim"] or 0)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from error
    if vectors.shape != shape or vectors.dtype != np.float32 or len(set(content.ids)) != len(vectors):
        raise _broken(folder, f"its files do not fit together: {shape}, {vectors.shape}, {len(content.ids)} ids")
    return content


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
    return dict(manifest)


def _generation(folder: Path) -> int:
    manifest = _read_manifest(folder)
    return 0 if manifest is None else int(manifest["generation"])


def _write_vectors(path: Path, vectors: Vectors) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, vectors, allow_pickle=False)


def _read_vectors(path: Path) -> Vectors:
    with path.open("rb") as file:
        vectors: Vectors = np.lib.format.read_array(file, allow_pickle=False)
    return vectors


def _to_table(content: Saved) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(content.ids, type=pa.string()),
            "metadata": pa.array([json.dumps(row, ensure_ascii=False) for row in content.metadata], type=pa.string()),
        }
    )
