"""From training to places on the map: an encoder that was never told where things are finds where they are."""

from __future__ import annotations

import numpy as np
import pytest

import geovlm as gv
from geovlm.evaluation import evaluate_detections
from geovlm.testing.rasters import PLANTED, planted_raster

rasterio = pytest.importorskip("rasterio")
timm = pytest.importorskip("timm")

SIDE, CELL, NOTHING = 128, 16, "bare ground"
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


@timm.models.register_model
def planted_test_resnet(pretrained=False, **settings):
    """A place every 16 px."""
    resnet = timm.models.resnet
    shape = {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48), "stem_type": "deep", "stem_width": 8}
    about = {"num_classes": 10, "pool_size": (8, 8), "first_conv": "conv1", "classifier": "fc"}
    settings |= {"block": resnet.BasicBlock, "output_stride": CELL, "pretrained_cfg": about}
    settings["pretrained_cfg_overlay"] = None
    return timm.models.build_model_with_cfg(resnet.ResNet, "planted_test_resnet", pretrained, **shape, **settings)


def windows(path, truth, each):
    """Windows with a whole object somewhere on them, and bare ones, with captions."""
    rng = np.random.default_rng(0)
    with rasterio.open(path) as file:
        pixels = file.read().transpose(1, 2, 0)
    sides = ("left", "top", "right", "bottom")
    boxes = np.array([[feature["properties"][side] for side in sides] for feature in truth["features"]])
    wanted = dict.fromkeys((*PLANTED, NOTHING), each)
    while any(wanted.values()):
        left, top = rng.integers(0, len(pixels) - SIDE, size=2)
        on_it = np.flatnonzero(((boxes[:, :2] < (left + SIDE, top + SIDE)) & (boxes[:, 2:] > (left, top))).all(axis=1))
        is_whole = ((boxes[on_it, :2] >= (left, top)) & (boxes[on_it, 2:] <= (left + SIDE, top + SIDE))).all()
        name = truth["features"][on_it[0]]["properties"]["query"] if len(on_it) else NOTHING
        if len(on_it) < 2 and is_whole and wanted[name]:
            wanted[name] -= 1
            image = pixels[top : top + SIDE, left : left + SIDE].copy()
            yield gv.Record(id=f"{name} {wanted[name]}", image=image, captions=name)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    records = list(windows(folder / "land.tif", planted_raster(folder / "land.tif", size=2048, seed=1), each=70))
    vision = {"timm_model_name": "planted_test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": SIDE}
    config = {"embed_dim": 48, "vision_cfg": vision, "text_cfg": TEXT, "init_logit_scale": np.log(30)}
    base = gv.new_encoder(config, device="cpu", dtype="float32")
    settings = gv.TrainingConfig(
        epochs=8, batch_size=32, learning_rate=3e-3, precision="float32", interpolation=False, checkpoints_kept=1
    )
    return gv.ContrastiveTrainer(base, settings).fit(records, out=folder / "run").encoder


def test_cells_outline_what_windows_only_notice(encoder, tmp_path):
    truth = planted_raster(tmp_path / "land.tif", size=1024, seed=2)
    scores = {}
    for dense in (True, False):
        found = gv.scan(
            tmp_path / "land.tif",
            list(PLANTED),
            encoder,
            against=[NOTHING, *PLANTED],
            templates=("{}",),
            dense=dense,
            overlap=0.5,
        )
        scores[dense] = evaluate_detections(found, truth, iou=(0.5,), samples=1).table.loc["(mean)"]
    assert scores[True]["recall"] > 0.7
    assert scores[True]["AP50"] > 2 * scores[False]["AP50"] + 0.1
