"""Mistakes with searches and stores."""

from __future__ import annotations

import numpy as np

import geovlm as gv
from geovlm.testing import HashEncoder
from tests.mistakes.kit import filled, mistake, scenes

SEARCH = "Search and stores"


@mistake(
    SEARCH,
    "A path where `add` takes a source",
    "add takes a source of images; for a folder, FolderSource('scenes').",
    '`index.add(gv.FolderSource("scenes"))`.',
)
def _():
    gv.Index(HashEncoder()).add("scenes")


@mistake(
    SEARCH,
    "An empty query",
    "The query is empty; say in words what the scenes should show.",
    "Say what to look for; to see some rows of a store: `store.scan()`.",
)
def _():
    filled().search("  ")


@mistake(
    SEARCH,
    "An image's path as text",
    "'scenes/beach/beach-1.png' is a text here, and also a file; to search by that image, pass"
    " Path('scenes/beach/beach-1.png').",
    '`index.search(Path("scenes/beach/beach-1.png"))`.',
)
def _():
    filled().search("scenes/beach/beach-1.png")


@mistake(
    SEARCH,
    "A typo in a set of templates",
    "No set of templates is called 'overhed'. Did you mean overhead?",
    'Take the name that is offered, or give your own: `templates=["an aerial view of {}"]`.',
)
def _():
    filled().search("a beach", templates="overhed")


@mistake(
    SEARCH,
    "A typo in an operator of `where`",
    "A filter has no operator '$lts' on a value. Did you mean '$lt'?",
    "Take the operator that is offered.",
)
def _():
    filled().search("a beach", where={"year": {"$gt": 2020, "$lts": 2024}})


@mistake(
    SEARCH,
    "An operator without `$`",
    "The condition on 'year' has 'gte': did you mean '$gte'? To compare with a mapping, write {\"$eq\": {'gte':"
    " 2020}}.",
    '`{"year": {"$gte": 2020}}`.',
)
def _():
    filled().search("a beach", where={"year": {"gte": 2020}})


@mistake(
    SEARCH,
    "`where` as text",
    'A filter is a mapping such as {"year": {"$gte": 2020}}, not \'year > 2020\'.',
    '`where={"year": {"$gt": 2020}}`.',
)
def _():
    filled().search("a beach", where="year > 2020")


@mistake(
    SEARCH,
    "`$in` without a list",
    "$in and $nin take a list of values; 'label' is asked for 'beach'.",
    '`{"label": {"$in": ["beach"]}}`, or `{"label": "beach"}`.',
)
def _():
    filled().search("a beach", where={"label": {"$in": "beach"}})


@mistake(
    SEARCH,
    "A box in the wrong order",
    "The box [45.8, 10.5, 47.8, 5.9] has its south above its north; its order is [west, south, east, north].",
    "`within=(west, south, east, north)`: longitudes before latitudes.",
)
def _():
    filled().search("a beach", within=(45.8, 10.5, 47.8, 5.9))


@mistake(
    SEARCH,
    "An id that is not in the store",
    "more= names 'beach/beach-9.png', and no row of the store has that id. Ids are those of hits: hits[0].id.",
    "Pass the hits themselves: `more=hits[:3]`.",
)
def _():
    filled().search(more=["beach/beach-9.png"])


@mistake(
    SEARCH,
    "Zero hits asked for",
    "limit is a whole number of at least 1, not 0.",
    "Give `limit=1` or more.",
)
def _():
    filled().search("a beach", limit=0)


@mistake(
    SEARCH,
    "Another encoder than the store's",
    "This store holds vectors of the encoder … with 64 numbers, and vectors of … with 64 cannot be compared"
    " with them. Use that encoder, or a new store.",
    "Search and add with the encoder that filled the store, or fill a new store.",
)
def _():
    gv.Index(HashEncoder(seed=1), filled().store).add(scenes())


@mistake(
    SEARCH,
    "Embeddings made by another encoder",
    "These embeddings were made by the encoder …, and this index searches with … (hash-64). Make the index"
    " with that encoder, or embed the images again with this one, in another directory.",
    "The same: one encoder for images and queries.",
)
def _():
    gv.Index(HashEncoder()).add(gv.embed(scenes(), HashEncoder(seed=1)))


@mistake(
    SEARCH,
    "Vectors of another length",
    "A vector needs 4 numbers here, not 3; are both of the same encoder?",
    "Look which model made them.",
)
def _():
    store = gv.NumpyStore()
    store.bind(dim=4, fingerprint="a")
    store.upsert(["a"], np.eye(3, dtype=np.float32)[:1])


@mistake(
    SEARCH,
    "Ids that come twice",
    "1 ids are in the store already or come twice, the first is 'a'; nothing was written."
    " on_conflict='replace' or 'skip' says what to do with them.",
    '`on_conflict="replace"` keeps the later row, `"skip"` the earlier.',
)
def _():
    store = gv.NumpyStore()
    store.bind(dim=3, fingerprint="a")
    store.upsert(["a", "a"], np.eye(3, dtype=np.float32)[:2], on_conflict="error")


@mistake(
    SEARCH,
    "A store in a folder of other things",
    "…/scenes holds other things, such as beach; a LanceStore needs a directory of its own.",
    "Give a folder of its own, such as `scenes.lance`.",
)
def _():
    gv.Index(HashEncoder(), gv.LanceStore("scenes"))


@mistake(
    SEARCH,
    "A typo in the kind of a store",
    "No store is called 'lancedb'. Did you mean lance?",
    "Take the name that is offered.",
)
def _():
    gv.load_store("lancedb", "scenes.lance")
