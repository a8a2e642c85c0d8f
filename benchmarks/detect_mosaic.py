"""Scenes of AID laid out as one GeoTIFF, and each class looked for in it: scores of patches against scores of windows.

    python benchmarks/detect_mosaic.py --data AID --encoder RUN/encoder [--split val test] [--overlap 0.75] [--out FILE]

The scenes, each of a known class, become the cells of one raster of 1 m a pixel, in an order drawn from the seed, so
that neighbours are of any class. `geovlm.scan` looks for all classes in one pass, each against the names of the others,
twice with the same encoder and windows: with `dense=True` each patch has a score, with `dense=False` each window. The
score of a cell is the mean, or the largest, of the heat map in it; the average precision of a class is over all cells.

Windows know nothing of the borders of cells: most look at several scenes at once. What the encoder is worth if somebody
cuts the scenes out for it is the last row, "scene by scene".

`--data` is a folder with `images/<Class>/…` and `captions.json` in Karpathy's form (`images[].filepath`, `class`,
`split`). The encoder is a local one, trained on scenes of the training part; without `--encoder` a random one runs,
which tries the script and measures chance.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rasterio
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

import geovlm as gv
from geovlm.encoders.dense import is_dense
from geovlm.prompts import clean_class_name, fill_templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIDE = 150
CRS, LEFT, TOP = "EPSG:32633", 500_000, 5_000_000


def read_scenes(data: Path, splits: Sequence[str], *, limit: int | None, seed: int) -> list[tuple[Path, str]]:
    """Paths and classes, in the order in which they become cells."""
    entries = json.loads((data / "captions.json").read_text(encoding="utf-8"))["images"]
    scenes = [(data / entry["filepath"], entry["class"]) for entry in entries if entry["split"] in splits]
    order = np.random.default_rng(seed).permutation(len(scenes))[:limit]
    return [scenes[place] for place in order]


def lay_out(scenes: Sequence[tuple[Path, str]], path: Path) -> int:
    """Write the mosaic; cells without a scene have no data. Returns the number of columns."""
    columns = int(np.ceil(np.sqrt(len(scenes))))
    rows = -(-len(scenes) // columns)
    profile = {
        "driver": "GTiff",
        "width": columns * SIDE,
        "height": rows * SIDE,
        "count": 4,
        "dtype": "uint8",
        "crs": CRS,
        "photometric": "RGB",
        "alpha": "YES",
        "transform": rasterio.Affine(1, 0, LEFT, 0, -1, TOP),
    }
    with rasterio.open(path, "w", **profile) as file:
        for row in range(rows):
            strip = np.zeros((4, SIDE, columns * SIDE), dtype=np.uint8)
            for column, (scene, _) in enumerate(scenes[row * columns : (row + 1) * columns]):
                picture = gv.open_image(scene).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                strip[:3, :, column * SIDE : (column + 1) * SIDE] = np.moveaxis(np.asarray(picture), -1, 0)
                strip[3, :, column * SIDE : (column + 1) * SIDE] = 255
            file.write(strip, window=rasterio.windows.Window(0, row * SIDE, columns * SIDE, SIDE))
    return columns


def cell_scores(heat: gv.HeatMap, columns: int, cells: int) -> dict[str, NDArray[np.float64]]:
    """The mean and the largest score of each scene's cell; of a cell of the heat map its middle counts."""
    a, _, left, _, e, top = heat.transform
    rows, width = heat.scores.shape
    x = (left + a * (np.arange(width) + 0.5) - LEFT) // SIDE
    y = (TOP - top - e * (np.arange(rows) + 0.5)) // SIDE
    scene = (y[:, None] * columns + x[None, :]).astype(int)
    known = np.isfinite(heat.scores) & (x < columns)[None, :] & (scene < cells)
    values = pd.Series(np.asarray(heat.scores)[known]).groupby(scene[known])
    return {
        name: values.agg(name).reindex(range(cells), fill_value=0.0).to_numpy(dtype=np.float64)
        for name in ("mean", "max")
    }


def mean_average_precision(scores: dict[str, NDArray[np.float64]], labels: NDArray[np.str_]) -> dict[str, float]:
    return {name: float(average_precision_score(labels == name, values)) for name, values in scores.items()}


def scene_by_scene(
    scenes: Sequence[tuple[Path, str]], classes: Sequence[str], encoder: gv.Encoder, templates: str
) -> dict[str, NDArray[np.float64]]:
    """The probability of each class among all, for each scene as it is before it is laid out."""
    texts = [encoder.encode_texts(fill_templates(templates, clean_class_name(name))).mean(axis=0) for name in classes]
    words = np.stack([vector / np.linalg.norm(vector) for vector in texts])
    parts = [scenes[start : start + 64] for start in range(0, len(scenes), 64)]
    vectors = np.concatenate([encoder.encode_images([gv.open_image(path) for path, _ in part]) for part in parts])
    logits = encoder.logit_scale * vectors @ words.T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return dict(zip(classes, shares.T.astype(np.float64), strict=True))


def random_encoder() -> gv.Encoder:
    vision = {"image_size": 64, "patch_size": 16, "layers": 2, "width": 64, "head_width": 32}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    return gv.new_encoder(config, device="cpu", dtype="float32")


def measure(
    path: Path, columns: int, labels: NDArray[np.str_], encoder: gv.Encoder, **settings: Any
) -> list[dict[str, Any]]:
    """One scan, two ways to make one score of a cell's."""
    names = {clean_class_name(name): name for name in sorted(set(labels.tolist()))}
    started = time.process_time()
    found = gv.scan(path, list(names), encoder, against=list(names), **settings)
    seconds = time.process_time() - started
    cells = {name: cell_scores(found.heat_maps[query], columns, len(labels)) for query, name in names.items()}
    rows = []
    for kind in ("mean", "max"):
        precisions = mean_average_precision({name: scores[kind] for name, scores in cells.items()}, labels)
        rows.append(
            {
                "path": "patches" if settings["dense"] else "windows",
                "score of a cell": kind,
                "mAP": round(float(np.mean(list(precisions.values()))), 4),
                "processor s": round(seconds, 1),
                "windows": found.report.done,
                "by class": precisions,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    shown = [{name: value for name, value in row.items() if name != "by class"} for row in rows]
    lines = [list(shown[0]), ["---"] * len(shown[0]), *([str(value) for value in row.values()] for row in shown)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with images/ and captions.json")
    parser.add_argument("--encoder", type=Path, help="a local encoder")
    parser.add_argument("--split", nargs="+", default=["val", "test"], help="which scenes are laid out")
    parser.add_argument("--limit", type=int, help="so many scenes only")
    parser.add_argument("--overlap", type=float, default=0.75, help="of windows")
    parser.add_argument("--zoom", type=float, default=1.0, help="scenes a window is wide; 1 as the encoder was trained")
    parser.add_argument("--templates", default="overhead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the results as JSON, by class too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = random_encoder() if arguments.encoder is None else gv.load_encoder(str(arguments.encoder), device="cpu")
    scenes = read_scenes(arguments.data, arguments.split, limit=arguments.limit, seed=arguments.seed)
    labels = np.array([name for _, name in scenes])
    settings = {
        "gsd": arguments.zoom * SIDE / encoder.image_size,
        "overlap": arguments.overlap,
        "templates": arguments.templates,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mosaic.tif"
        columns = lay_out(scenes, path)
        ways = [True, False] if is_dense(encoder) else [False]
        rows = [row for dense in ways for row in measure(path, columns, labels, encoder, dense=dense, **settings)]
    classes = sorted(set(labels.tolist()))
    precisions = mean_average_precision(scene_by_scene(scenes, classes, encoder, arguments.templates), labels)
    mean = round(float(np.mean(list(precisions.values()))), 4)
    rows.append(
        {"path": "scene by scene", "score of a cell": "", "mAP": mean, "processor s": "", "windows": len(scenes)}
    )
    print(f"{len(scenes)} scenes of {len(classes)} classes; chance {1 / len(classes):.4f}\n")
    print(table(rows))
    if arguments.out is not None:
        content = {"encoder": encoder.name, "settings": settings, "scenes": len(scenes), "rows": rows}
        content["scene by scene"] = precisions
        arguments.out.write_text(json.dumps(content, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
