"""Planted objects found in a big generated GeoTIFF: scores of places against scores of windows.

    python benchmarks/detect_planted.py [--size 8000] [--epochs 6] [--out detect_planted.json]

A small encoder, a convolutional tower that averages over places, is trained from scratch on one core: on windows of a
generated raster with one object on them, or none, and captions that name it. It never sees where an object lies. Then
`geovlm.scan` looks for the six kinds of objects in another raster, with the same encoder: with `dense=True` each cell
of 16 px has a score, with `dense=False` each window of 128 px. How much windows overlap and the threshold are chosen
for either path by itself, by the average precision on a third raster; what is told was measured with those.

Average precision is that of `geovlm.evaluation.evaluate_detections` against the true outlines. Errors of position are
distances between the middle of a true place and that of the best scored one whose peak lies in it.

The imagery is drawn: the numbers say what scores of cells add to one encoder, not how well anything is found on the
real Earth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
import torch
from timm.models import build_model_with_cfg, register_model
from timm.models.resnet import BasicBlock, ResNet

import geovlm as gv
from geovlm.evaluation import evaluate_detections
from geovlm.testing.rasters import PLANTED, planted_raster

SIDE, CELL, GSD = 128, 16, 0.5
NOTHING = "bare ground"
OVERLAPS, THRESHOLDS = (0.5, 0.75), (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
SEEDS = {"train": 1, "choose": 2, "test": 3}
ENCODER = {
    "embed_dim": 64,
    "vision_cfg": {
        "timm_model_name": "planted_resnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": SIDE,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    "init_logit_scale": math.log(30),
}

Truth = dict[str, Any]


@register_model
def planted_resnet(pretrained: bool = False, **settings: Any) -> ResNet:
    """A ResNet of four blocks with a place every 16 px; timm's own have one every 32 px."""
    shape = {"layers": (1, 1, 1, 1), "channels": (24, 32, 48, 64), "stem_type": "deep", "stem_width": 12}
    about = {"num_classes": 10, "pool_size": (8, 8), "first_conv": "conv1", "classifier": "fc"}
    settings |= {"block": BasicBlock, "output_stride": CELL, "pretrained_cfg": about, "pretrained_cfg_overlay": None}
    return build_model_with_cfg(ResNet, "planted_resnet", pretrained, **shape, **settings)


# --- training ---------------------------------------------------------------------------------------------------------


def windows(path: Path, truth: Truth, *, count: int, seed: int = 0) -> list[gv.Record]:
    """Windows with most of one object and nothing of others, as many of each kind, and as many bare ones."""
    rng = np.random.default_rng(seed)
    with rasterio.open(path) as file:
        pixels = file.read().transpose(1, 2, 0)
    names = np.array([feature["properties"]["query"] for feature in truth["features"]])
    boxes = np.array(
        [[f["properties"][side] for side in ("left", "top", "right", "bottom")] for f in truth["features"]]
    )
    records: list[gv.Record] = []
    wanted = dict.fromkeys([*PLANTED, NOTHING], count // (len(PLANTED) + 1))
    while any(wanted.values()):
        left, top = rng.integers(0, len(pixels) - SIDE, size=2)
        seen = np.clip(boxes, np.tile((left, top), 2), np.tile((left + SIDE, top + SIDE), 2))
        shares = np.prod(seen[:, 2:] - seen[:, :2], axis=1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        on_it = np.flatnonzero(shares)
        caption = NOTHING if not len(on_it) else str(names[on_it[0]])
        if len(on_it) <= 1 and (shares[on_it] > 0.6).all() and wanted[caption]:
            wanted[caption] -= 1
            image = pixels[top : top + SIDE, left : left + SIDE].copy()
            records.append(gv.Record(id=f"{len(records):05d}", image=image, captions=caption))
    return records


def train(folder: Path, *, epochs: int, count: int, size: int) -> gv.Encoder:
    truth = planted_raster(folder / "train.tif", size=size, seed=SEEDS["train"], gsd=GSD)
    records = windows(folder / "train.tif", truth, count=count)
    config = gv.TrainingConfig(
        epochs=epochs,
        batch_size=32,
        learning_rate=2e-3,
        precision="float32",
        interpolation=False,
        augmentation=gv.Augmentation(crop=(0.9, 1.0)),
    )
    started = time.process_time()
    base = gv.new_encoder(ENCODER, device="cpu", dtype="float32")
    encoder = gv.ContrastiveTrainer(base, config).fit(records, out=folder / "run").encoder
    encoder.save(folder / "encoder")
    print(f"trained on {len(records)} windows in {time.process_time() - started:.0f} s of processor time", flush=True)
    return encoder


# --- measuring --------------------------------------------------------------------------------------------------------


def look(path: Path, encoder: gv.Encoder, *, dense: bool, overlap: float, threshold: float, out: Path) -> gv.Detections:
    """A scan; one that differs in its threshold alone takes its scores from the same directory."""
    return gv.scan(
        path,
        list(PLANTED),
        encoder,
        against=[NOTHING, *PLANTED],
        templates=("{}",),
        dense=dense,
        overlap=overlap,
        threshold=threshold,
        out=out / f"{'cells' if dense else 'windows'}-{overlap}",
    )


def choose(path: Path, truth: Truth, encoder: gv.Encoder, *, dense: bool, out: Path) -> dict[str, float]:
    """The overlap and the threshold with the best average precision."""
    tried = {}
    for overlap, threshold in itertools.product(OVERLAPS, THRESHOLDS):
        found = look(path, encoder, dense=dense, overlap=overlap, threshold=threshold, out=out)
        scores = evaluate_detections(found, truth, iou=(0.5,), samples=1).table.loc["(mean)"]
        tried[overlap, threshold] = float(scores["AP50"])
    overlap, threshold = max(tried, key=lambda setting: tried[setting])
    return {"overlap": overlap, "threshold": threshold}


def position_errors(found: gv.Detections, truth: Truth) -> list[float]:
    """Pixels between the middles of true places and of those found whose peaks lie in them."""
    true = geopandas.GeoDataFrame.from_features(truth["features"], crs="EPSG:4326").to_crs(found.crs)
    errors, taken = [], set()
    for item in found:
        hits = np.flatnonzero((true["query"] == item.query) & shapely.contains_xy(true.geometry, *item.peak))
        for place in set(hits.tolist()) - taken:
            taken.add(place)
            errors.append(item.polygon.centroid.distance(true.geometry.iloc[place].centroid) / GSD)
    return errors


def measure(
    path: Path, truth: Truth, encoder: gv.Encoder, *, dense: bool, out: Path, **setting: float
) -> dict[str, Any]:
    started, wall = time.process_time(), time.monotonic()
    found = look(path, encoder, dense=dense, out=out, **setting)
    spent, wall = time.process_time() - started, time.monotonic() - wall
    scores = evaluate_detections(found, truth, iou=(0.5,)).table.loc["(mean)"]
    error = float(np.median(position_errors(found, truth) or [math.nan]))
    return {
        "scores of": "cells" if dense else "windows",
        **setting,
        "objects": len(truth["features"]),
        "found": len(found),
        "AP50": round(float(scores["AP50"]), 3),
        "AP50, 95 %": f"{scores['AP50 low']:.3f} to {scores['AP50 high']:.3f}",
        **{name: round(float(scores[name]), 3) for name in ("precision", "recall", "F1")},
        "position error, median px": round(error, 1),
        "in cells": round(error / CELL, 2),
        "processor s": round(spent),
        "wall s": round(wall),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2000, help="width and height of the raster in pixels")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--windows", type=int, default=1050, help="that the encoder is trained on")
    parser.add_argument("--train-size", type=int, default=3000, help="of the raster that they are taken from")
    parser.add_argument("--encoder", type=Path, help="the folder `encoder` of an earlier run's --work")
    parser.add_argument("--work", type=Path, help="keep the rasters and the encoder here")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        if arguments.encoder is None:
            encoder = train(folder, epochs=arguments.epochs, count=arguments.windows, size=arguments.train_size)
        else:
            encoder = gv.load_encoder(arguments.encoder, device="cpu", dtype="float32")
        rasters = {}
        for name, size in (("choose", 2000), ("test", arguments.size)):
            path = folder / f"{name}-{size}.tif"
            rasters[name] = path, planted_raster(path, size=size, seed=SEEDS[name], gsd=GSD)
        rows = []
        for dense in (True, False):
            setting = choose(*rasters["choose"], encoder, dense=dense, out=folder / "choose")
            rows.append(measure(*rasters["test"], encoder, dense=dense, out=folder / "test", **setting))
    print(table(rows))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"size": arguments.size, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
