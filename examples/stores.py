"""One program for every store: embed scenes, keep the vectors, search with a filter. Only one line knows the store.

    python examples/stores.py --store numpy
    python examples/stores.py --store lance
    python examples/stores.py --store astra

The scenes are synthetic and the encoder is untrained, so that no weights and no network are needed; what it finds are
scenes that look alike. `--store astra` goes to the database that ASTRA_DB_API_ENDPOINT and ASTRA_DB_APPLICATION_TOKEN
name, and without these to an emulator of the Data API on this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

import geovlm as gv
from geovlm.testing.data_api import DataAPIEmulator
from geovlm.testing.scenes import write_scenes

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where each store keeps its rows: a folder, or a collection.
PLACES = {"numpy": "scenes.numpy", "lance": "scenes.lance", "astra": "geovlm_example"}

TINY_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {
        "timm_model_name": "test_resnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    },
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def scenes(out: Path, count: int) -> Iterator[gv.Record]:
    """Synthetic scenes, each with a year."""
    for number, record in enumerate(gv.TableSource(write_scenes(out / "images", count))):
        yield evolve(record, meta={**record.meta, "year": 2016 + number % 10})


def emulated_database(stack: ExitStack) -> None:
    """Run an emulator of the Data API until the program ends."""
    api = stack.enter_context(DataAPIEmulator())
    os.environ.update(ASTRA_DB_API_ENDPOINT=api.endpoint, ASTRA_DB_APPLICATION_TOKEN=api.token)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=PLACES, default="numpy")
    parser.add_argument("--out", type=Path, default=Path("stores"), help="where images, vectors and folders go")
    parser.add_argument("--scenes", type=int, default=200, help="how many synthetic scenes to draw")
    arguments = parser.parse_args()

    with ExitStack() as stack:
        if arguments.store == "astra" and "ASTRA_DB_API_ENDPOINT" not in os.environ:
            emulated_database(stack)
        encoder = gv.new_encoder(TINY_CLIP, seed=0)
        images = list(scenes(arguments.out, arguments.scenes))
        vectors = gv.embed(images, encoder, out=arguments.out / "vectors")

        place = PLACES[arguments.store]
        store = gv.load_store(arguments.store, place if arguments.store == "astra" else arguments.out / place)

        index = gv.Index(encoder, store)
        print(index.add(vectors))
        asked = Path(images[0].uri or "")
        for hit in index.search(asked, limit=5, where={"year": {"$gte": 2020, "$lt": 2025}}):
            print(f"{hit.score:6.3f}  {hit.id}  {hit.metadata['label']}  {hit.metadata['year']}")
        store.close()


if __name__ == "__main__":
    try:
        main()
    except gv.GeovlmError as error:
        sys.exit(f"{type(error).__name__}: {error}")
