"""Tiny versions of every layout in which the benchmark's data sets come, drawn and written to the disk."""

from __future__ import annotations

import csv
import json

from PIL import Image

from geovlm.testing.fakes import COLOURS

NAMES = tuple(COLOURS)


def paint(path, colour, spot=0):
    """A picture of one colour, with a spot that tells it from others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (16, 16), COLOURS[colour])
    image.paste((spot, 255 - spot, 128), (0, 0, 2, 2))
    image.save(path)


def write_table(path, rows, head=("filepath", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def scenes(root, *, folder="aid", table="aid_img_txt_pairs_test.csv", per_class=3, classes=NAMES[:4], wrong=0):
    """SkyScript's layout: paths from the root of all sets, a table of labels, the classes in an order of their own.

    The first `wrong` pictures of each class have the colour of the next one.
    """
    rows = []
    for place, name in enumerate(classes):
        for number in range(per_class):
            below = f"{folder}/images/{name}/{name}_{number}.png"
            shown = classes[(place + 1) % len(classes)] if number < wrong else name
            paint(root / below, shown, spot=20 * place + number)
            rows.append((below, name))
    write_table(root / folder / table, rows)
    (root / folder / "classnames.txt").write_text("\n".join(reversed(classes)) + "\n", encoding="utf-8")
    return root / folder


def class_folders(root, classes=("BareLand", "red"), colours=("brown", "red"), per_class=3):
    for name, colour in zip(classes, colours, strict=True):
        for number in range(per_class):
            paint(root / name / f"{number}.png", colour, spot=number)
    return root


def karpathy(folder, entries, *, name="dataset_rsicd.json", images="RSICD_images"):
    """`entries` are `(filename, split, captions)`; each picture has the colour that its first caption names."""
    for filename, _, captions in entries:
        colour = next((word for word in " ".join(captions).split() if word in COLOURS), "gray")
        paint(folder / images / filename, colour, spot=len(filename))
    content = [
        {"filename": filename, "split": split, "sentences": [{"raw": text, "sentid": 0} for text in captions]}
        for filename, split, captions in entries
    ]
    (folder / name).write_text(json.dumps({"dataset": "rsicd", "images": content}), encoding="utf-8")
    return folder
