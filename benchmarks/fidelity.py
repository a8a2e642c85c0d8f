"""How near vectors in each precision and back end come to float32 by torch, and whether searches notice.

    python benchmarks/fidelity.py path/to/aid path/to/encoder [--out FILE]

AID's held-out scenes and their captions by an encoder that was trained, such as `examples/train_aid.py` saves: random
weights place all scenes almost at one point, where rounding decides everything. `same_top_10` is the share of captions
that find the same ten scenes, in any order, among the vectors of both; `shared_of_top_10` the mean share of ten that
both find. Texts are encoded in the same way as scenes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import geovlm as gv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WAYS = (("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16"))
TOP = 10


def scenes(folder: Path) -> tuple[list[gv.Record], list[str]]:
    """The held-out scenes, and their captions, each once."""
    found = [record for split in ("val", "test") for record in gv.TableSource(folder / "captions.json", split=split)]
    return found, list(dict.fromkeys(text for record in found for text in record.captions))


def top(images: NDArray[np.float32], texts: NDArray[np.float32]) -> list[set[int]]:
    nearest = np.argsort(-(texts @ images.T), axis=1, kind="stable")[:, :TOP]
    return [set(row) for row in nearest.tolist()]


def measure(folder: Path, records: Sequence[gv.Record], texts: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    exact: tuple[NDArray[np.float32], list[set[int]]] | None = None
    for backend, dtype in WAYS:
        encoder = gv.load_encoder(folder, dtype=dtype, backend=backend)
        encoder.encode_images([records[0].open()])  # converts the model
        started = time.perf_counter()
        _, vectors = gv.embed(records, encoder, progress=False).to_numpy()
        seconds = time.perf_counter() - started
        found = top(vectors, encoder.encode_texts(texts))
        exact = exact or (vectors, found)
        shared = [len(one & other) / TOP for one, other in zip(exact[1], found, strict=True)]
        rows.append(
            {
                "backend": backend,
                "dtype": dtype,
                "images_per_second": round(len(records) / seconds, 1),
                "cosine_mean": round(float((exact[0] * vectors).sum(axis=1).mean()), 6),
                "same_top_10": round(float(np.mean([share == 1 for share in shared])), 3),
                "shared_of_top_10": round(float(np.mean(shared)), 4),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with captions.json and the images that it names")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    records, texts = scenes(arguments.folder)
    print(f"{len(records)} scenes, {len(texts)} texts")
    rows = measure(arguments.encoder, records, texts)
    if arguments.out:
        told = {"scenes": len(records), "texts": len(texts), "rows": rows}
        arguments.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
