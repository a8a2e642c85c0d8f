"""Mistakes with images, folders and tables."""

from __future__ import annotations

import numpy as np

import geovlm as gv
from geovlm.testing import HashEncoder
from tests.mistakes.kit import mistake, pairs

FILES = "Images, folders and tables"


@mistake(
    FILES,
    "A folder that is not there",
    "…/scnes does not exist. Did you mean …/scenes?",
    "Correct the path; the nearest one there is, is named.",
)
def _():
    gv.FolderSource("scnes")


@mistake(
    FILES,
    "An empty folder",
    "…/empty holds no image in it or below. Looked for files that end in .jpg .jpeg .png .tif .tiff .jp2 .webp"
    " and … rarer endings; it is empty.",
    "Look whether the download or the copy is finished.",
)
def _():
    gv.FolderSource("empty")


@mistake(
    FILES,
    "A folder of other files",
    "…/texts holds no image in it or below. Looked for files that end in .jpg .jpeg .png .tif .tiff .jp2 .webp"
    " and … rarer endings; there is only notes.txt.",
    "Give the folder of the images, or `TableSource` for a table that names them.",
)
def _():
    gv.FolderSource("texts")


@mistake(
    FILES,
    "A file where a folder is meant",
    "…/captions.csv is a file, not a folder. For a table of images, use TableSource.",
    '`gv.TableSource("captions.csv")`.',
)
def _():
    gv.FolderSource("captions.csv")


@mistake(
    FILES,
    "A folder where a table is meant",
    "scenes is a folder, not a table. For a folder of images, use FolderSource.",
    '`gv.FolderSource("scenes")`.',
)
def _():
    gv.TableSource("scenes")


@mistake(
    FILES,
    "A table without a column of images",
    "places.csv has no column of images that can be told by its name, such as filepath or image; its columns"
    " are site, note. Name it: image='…'.",
    '`gv.TableSource("places.csv", image="site")`, if that is the column.',
)
def _():
    gv.TableSource("places.csv")


@mistake(
    FILES,
    "A typo in a column",
    "No column of captions.csv is called 'titel'. Did you mean title?",
    "Take the name that is offered.",
)
def _():
    gv.TableSource("captions.csv", caption="titel")


@mistake(
    FILES,
    "A table that names images elsewhere",
    "…/sites/scenes/beach/beach-1.png: the file does not exist.",
    "`root=` is the folder in which the table's paths begin.",
)
def _():
    next(iter(gv.TableSource("captions.csv", root="sites"))).open()


@mistake(
    FILES,
    "A path where a source is meant",
    "Records are read from a source: FolderSource('scenes'), or TableSource for a table.",
    '`gv.embed(gv.FolderSource("scenes"), encoder)`.',
)
def _():
    gv.embed("scenes", HashEncoder())


@mistake(
    FILES,
    "Paths or images where records are meant",
    "A source yields geovlm.Record, not str: 'beach.png'; wrap each image: Record(id='a name', image=…).",
    '`gv.Record(id="a", image=image)`; an id is what hits and reports call it by.',
)
def _():
    gv.embed(["beach.png"], HashEncoder())


@mistake(
    FILES,
    "A file that is no image",
    "broken.jpg: not an image, or of a format that Pillow does not know.",
    "Look what is in it, perhaps an error page, and fetch it again. In long calls it is one failure in the report and"
    " stops nothing.",
)
def _():
    gv.open_image("broken.jpg")


@mistake(
    FILES,
    "An array with the bands first",
    "an array must be (height, width) or (height, width, 3 or 4), not (3, 64, 64); move the bands last:"
    " array.transpose(1, 2, 0).",
    "`array.transpose(1, 2, 0)`; rasterio reads bands first.",
)
def _():
    gv.open_image(np.zeros((3, 64, 64), np.uint8))


@mistake(
    FILES,
    "An array of complex numbers",
    "samples of type complex128 have no brightness; take their magnitude first.",
    "`abs(array)` for radar images in complex samples.",
)
def _():
    gv.open_image(np.zeros((8, 8), complex))


@mistake(
    FILES,
    "A record whose id is a number",
    "A record's id is a string of at least one character, not 7.",
    "`str(7)`.",
)
def _():
    gv.Record(id=7, image="a.jpg")


@mistake(
    FILES,
    "Splitting records without labels",
    "2 of 2 records have no label; leave those out, or use Dataset.split.",
    "`data.filter(lambda record: record.label)`, or `data.split(val=0.1)`, which needs none.",
)
def _():
    gv.stratified_split(pairs("a beach", "a forest"))


@mistake(
    FILES,
    "Shards that are not there",
    "…/shards/0000.tar does not exist.",
    "Correct the pattern; braces count as in `{0000..0127}`.",
)
def _():
    gv.ShardSource("shards/{0000..0003}.tar")
