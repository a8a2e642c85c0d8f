"""Find things in a GeoTIFF by naming them, and put them on a map.

    python examples/scan_geotiff.py
    python examples/scan_geotiff.py region.tif --query "a pond, a lake" --query "a vineyard" --encoder ViT-B-16.pt

Places go into GeoJSON and GeoParquet, the scores of all cells into a GeoTIFF, and everything onto a map that any
browser opens without a network. Without a raster, one is drawn. Without `--encoder`, a small one is trained on drawn
land in about a minute and kept in `--out`; it knows these drawings and nothing of the real Earth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import geovlm as gv
from geovlm.sources.raster import Raster, Window
from geovlm.testing.rasters import PLANTED, planted_raster

BARE = "bare ground"
SIDE = 64  # of the pieces that the small encoder looks at, in pixels
SCALE = 48  # length in pixels of the largest things that are planted
SMALL_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIDE, "patch_size": 8, "layers": 2, "width": 96, "head_width": 32, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def lessons(path: Path, *, size: int) -> list[gv.Record]:
    """Pieces of drawn land with captions: what is planted there, or bare ground."""
    boxes = [feature["properties"] for feature in planted_raster(path, size=size, seed=1, scale=SCALE)["features"]]
    rng = np.random.default_rng(0)
    places = [((box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2, box["query"]) for box in boxes]
    wanted = [(*rng.uniform(-0.5, 0.5, 2) * SIDE + (x, y), name) for x, y, name in places * 12]
    for x, y in rng.uniform(0, size, size=(8 * len(places), 2)):
        if all(max(abs(x - u), abs(y - v)) > 1.5 * SIDE for u, v, _ in places):
            wanted.append((x, y, BARE))
    raster = Raster(path)
    records: list[gv.Record] = []
    for x, y, name in wanted:
        col, row = np.clip([x - SIDE / 2, y - SIDE / 2], 0, size - SIDE).astype(int).tolist()
        pixels, _ = raster.read(Window(col=col, row=row, width=SIDE, height=SIDE))
        records.append(gv.Record(id=f"{len(records):05}", image=pixels, captions=name))
    return records


def small_encoder(out: Path, *, size: int, epochs: int) -> gv.Encoder:
    """The one of an earlier run, or a new one."""
    if not (out / "training" / "encoder").is_dir():
        print("Training a small encoder on drawn land; later runs use it again.")
        config = gv.TrainingConfig(epochs=epochs, batch_size=64, learning_rate=1.5e-3, precision="float32")
        pairs = lessons(out / "lessons.tif", size=size)
        gv.ContrastiveTrainer(gv.new_encoder(SMALL_CLIP), config).fit(pairs, out=out / "training")
    return gv.load_encoder(out / "training" / "encoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raster", nargs="?", type=Path, help="a GeoTIFF; without one, some land is drawn")
    parser.add_argument("--query", action="append", help="what to look for; may be repeated")
    parser.add_argument("--against", action="append", help="what else may be there; may be repeated")
    parser.add_argument("--encoder", help="a preset, an open_clip or Hugging Face name, a folder or a checkpoint")
    parser.add_argument("--gsd", type=float, help="metres a pixel to look with; the raster's own if left out")
    parser.add_argument("--threshold", type=float, default=0.5, help="the least probability of a place")
    parser.add_argument("--out", type=Path, default=Path("runs/scan"), help="where everything goes")
    parser.add_argument("--train-size", type=int, default=3000, help="pixels a side of the drawn land to train on")
    parser.add_argument("--epochs", type=int, default=8, help="of the small encoder's training")
    arguments = parser.parse_args()

    out, path = arguments.out, arguments.raster
    out.mkdir(parents=True, exist_ok=True)
    if path is None:
        path = out / "land.tif"
        planted_raster(path, size=1000, seed=2, scale=SCALE)
    if arguments.encoder is None:
        encoder = small_encoder(out, size=arguments.train_size, epochs=arguments.epochs)
        # It was trained on bare words and knows no others.
        queries, against, templates = arguments.query or PLANTED[:3], arguments.against or [BARE, *PLANTED], "{}"
    else:
        encoder = gv.load_encoder(arguments.encoder)
        queries, against, templates = arguments.query or ["a lake, a pond"], arguments.against, "overhead"

    found = gv.scan(
        path,
        queries,
        encoder,
        against=against,
        templates=templates,
        gsd=arguments.gsd,
        threshold=arguments.threshold,
    )
    print(found)
    for place in found[:5]:
        area = "" if place.area_m2 is None else f", {place.area_m2:,.0f} m²"
        print(f"  {place.score:.2f} {place.query} at {place.point[0]:.8g}, {place.point[1]:.8g}{area}")
    files = [
        found.to_geojson(out / "places.geojson"),
        found.to_geoparquet(out / "places.parquet"),
        found.to_heatmap(out / "scores.tif"),
        found.save_map(out / "map.html"),
    ]
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    try:
        main()
    except gv.GeovlmError as error:
        sys.exit(f"{type(error).__name__}: {error}")
