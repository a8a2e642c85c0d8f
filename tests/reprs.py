"""One value of each public class that a person looks at, with markup in all the texts that come from outside."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image
from shapely import box

import geovlm as gv
from geovlm._hits import Hits
from geovlm.agents import Step, WorkflowResult
from geovlm.curation.result import CAPTIONS
from geovlm.evaluation import BenchmarkResult, BenchmarkScore, DetectionResult, classify
from geovlm.pixtral import Price
from geovlm.pixtral.batch import BatchPlan, BatchStatus, JobStatus
from geovlm.pixtral.batch.results import SCHEMA
from geovlm.pixtral.tuning.values import LossPoint, TuningResult
from geovlm.testing import HashEncoder
from geovlm.training.curves import save_curves
from geovlm.training.leaks import find_leaks
from geovlm.training.result import History, TrainingReport, TrainingResult
from geovlm.training.validation import Scores

BAD = "<script>alert('x')</script>"
"""What no page may hold as it is."""

COLOURS = ("tan", "seagreen", "steelblue", "slategray", "olive", "firebrick")


def scene(number: int) -> Image.Image:
    """A smooth picture of its own colour."""
    noise = np.random.default_rng(number).integers(0, 90, (8, 8, 3))
    base = np.array(Image.new("RGB", (1, 1), COLOURS[number % len(COLOURS)]).getpixel((0, 0)))
    return Image.fromarray((noise + base - 45).clip(0, 255).astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)


def records(folder=None):
    """Scenes on disk, or in memory, with one that cannot be read."""
    made = []
    for number in range(8):
        image = scene(number)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{number}.jpg")
            image = folder / f"{number}.jpg"
        place = gv.Footprint(west=8 + number / 50, south=47, east=8.02 + number / 50, north=47.02)
        label = ("Beach", "Port", f"Field {BAD}")[number % 3]
        captions = [f"a scene of the {label} kind", f"number {number} {BAD}"]
        made.append(
            gv.Record(
                id=f"{number} {BAD}", image=image, captions=captions, label=label, footprint=place, meta={"year": 2024}
            )
        )
    broken = b"no image" if folder is None else folder / "broken.jpg"
    if folder is not None:
        broken.write_bytes(b"no image")
    return [*made, gv.Record(id=f"broken {BAD}", image=broken, label="Port", captions="nothing to see")]


def report():
    failures = [
        gv.Failure(id=f"{n}", stage="decode", reason=f"not an image {BAD}", uri=f"scenes/{n}.jpg") for n in "ab"
    ]
    return gv.Report(stage="embed", done=1200, skipped=30, failures=failures, seconds=12.0)


def classification(*, shift=0, count=9):
    names = [*("Airport", "Beach", "Bridge", "Desert", "Farmland", "Forest", "Meadow", "Port")[: count - 1], BAD]
    random = np.random.default_rng(3 + shift)
    truth = {str(n): names[n % count] for n in range(20 * count)}
    answers = {
        key: (label if random.random() < 0.7 + shift / 10 else random.choice(names)) for key, label in truth.items()
    }
    return gv.score_labels(truth, answers, labels=names)


def detections():
    heat = np.clip(np.random.default_rng(0).normal(0.1, 0.1, (40, 60)), 0, 1).astype(np.float32)
    heat[10:20, 15:30] = 0.85
    ponds = [
        gv.Detection(
            query=f"a pond {BAD}", score=0.91, polygon=box(15, -20, 30, -10), area_m2=150, peak=(20, -15), raster=BAD
        ),
        gv.Detection(query=f"a pond {BAD}", score=0.62, polygon=box(42, -34, 50, -28), area_m2=48, peak=(45, -30)),
    ]
    made = gv.HeatMap(query=f"a pond {BAD}", scores=heat, transform=(1, 0, 0, 0, -1, 0), crs="EPSG:32632")
    return gv.Detections(items=ponds, crs="EPSG:32632", heat_maps={made.query: made}, report=report())


def training(folder):
    def scores(loss):
        recall = {k: min(1, (1 - loss) * k / 3) for k in (1, 5, 10)}
        return Scores(loss=loss, image_to_text=recall, text_to_image=recall)

    rows = [
        {"epoch": e, "step": 10 * e, "train_loss": 1 / (e + 1), "learning_rate": 1e-5, "logit_scale": 100.0}
        for e in range(4)
    ]
    curves = [{"step": s, "loss": 1 / (s + 1), "learning_rate": 1e-5, "logit_scale": 100.0} for s in range(30)]
    folder.mkdir(parents=True, exist_ok=True)
    save_curves(curves, folder / "curves.png")
    told = TrainingReport(before=scores(0.8), after=scores(0.4), pairs=40, drift={"image": 0.01}, leaks=f"leak {BAD}")
    return TrainingResult(encoder=HashEncoder(), report=told, history=History(rows=rows), data=report(), path=folder)


def curated():
    rows = [
        {"id": "1", "caption": f"a port {BAD}", "kept": None, "reason": "too short", "score": 0.1},
        {"id": "2", "caption": "a wide beach", "kept": "a wide beach", "reason": None, "score": 0.3},
    ]
    table = pa.Table.from_pylist(rows, schema=CAPTIONS)
    return gv.Curated(dataset=gv.Dataset.from_records(records()[:1]), captions=table, report=report())


def batch_result():
    row = {
        "id": f"a {BAD}",
        "uri": None,
        "state": "ok",
        "truth": "Beach",
        "label": "Beach",
        "claimed": None,
        "text": "Beach",
        "reason": None,
        "attempts": 1,
        "prompt_tokens": 527,
        "completion_tokens": 3,
        "model": "m",
    }
    lost = {**row, "id": "b", "state": "missing", "label": None, "text": None, "reason": f"no line {BAD}"}
    table = pa.Table.from_pylist([row, lost], schema=SCHEMA)
    return gv.BatchResult(table=table, labels=("Beach", "Forest"), price=Price(prompt=0.15, completion=0.15))


def benchmark():
    score = BenchmarkScore(
        name="AID", task="classification", value=0.71, low=0.69, high=0.73, images=10000, queries=10000, coverage=1.0,
        prompts=("a satellite photo of {}.",), notes=(f"note {BAD}",),
    )  # fmt: skip
    return BenchmarkResult(
        encoder=f"mine {BAD}",
        fingerprint="abc",
        scores=[score],
        architecture="ViT-B-32",
        missing={"EuroSAT": "no folder"},
    )


def detection_result():
    columns = {"truths": 4, "detections": 5, "AP50": 0.7, "AP50 low": 0.5, "AP50 high": 0.9}
    table = pd.DataFrame([columns, columns], index=pd.Index([f"a pond {BAD}", "mean"], name="query"))
    return DetectionResult(table=table, average_precision=table[["AP50"]], block=500.0, blocks=12)


def calibration():
    intervals = {"slope_interval": (1, 2), "threshold_interval": (0.4, 0.7), "f1_interval": (0.5, 0.9)}
    told = {"query": f"a pond {BAD}", "slope": 1.5, "intercept": -1.0, "threshold": 0.55, "f1": 0.8}
    return gv.Calibration(**told, **intervals, positives=20, negatives=60, notes=[f"few tiles {BAD}"])


def gallery(folder):
    """By class name, a value and a text that its repr must hold."""
    scenes = records(folder / "scenes")
    index = gv.Index(HashEncoder(dim=64))
    index.add([record for record in scenes if "broken" not in record.id])
    index.store.upsert(["gone"], np.full((1, 64), 0.125), [{"uri": str(folder / "gone.jpg"), "label": BAD}])
    hits = index.search(f"a harbour {BAD}", limit=9, against=["a beach"])
    dataset = gv.Dataset.from_records(scenes)
    vectors = gv.embed(scenes[:3], HashEncoder(dim=8), out=folder / "vectors")
    lance = gv.LanceStore(folder / f"scenes {BAD.replace('/', '')}.lance")
    lance.upsert(["a"], np.eye(1, 4))
    astra = gv.AstraStore("scenes", endpoint="http://127.0.0.1:9", token="secret")
    losses = [LossPoint(step=1, train=2.0), LossPoint(step=2, train=0.5, val=0.75)]
    tuned = TuningResult(model=f"mine {BAD}", backend="local", report=report(), losses=tuple(losses), out=folder)
    trained = training(folder / "tuned")
    before, after = classification(), classification(shift=1)
    leaks = find_leaks(scenes[:2], scenes[1:])
    jobs = (JobStatus(number=0, attempt=1, requests=900, status=f"RUNNING {BAD}", job="j-1"),)
    steps = (Step(name="captions", path=folder, report=report(), note=f"note {BAD}"),)
    page = folder / "report.html"
    workflow = WorkflowResult(
        steps=steps, pairs=dataset, training=trained, encoder=HashEncoder(), embeddings=vectors, index=index, page=page
    )
    plan = BatchPlan(
        requests=900, image_tokens=760_000, text_tokens=30_000, most_completion_tokens=51_200, bytes=60_000_000, jobs=1,
        means="jobs", price=Price(prompt=0.15, completion=0.15),
    )  # fmt: skip
    split = gv.spatial_split(scenes[:8], val=0.3, block_m=1000, buffer_m=None)
    ranks = gv.evaluation.RetrievalResult(
        ks=(1, 5), image_ranks=np.arange(10), text_ranks=np.arange(20) // 2, report=report()
    )
    return {
        "Record": (scenes[2], "Field &lt;script"),
        "Report": (report(), "1200 done"),
        "Dataset": (dataset, "9 images"),
        "SpatialSplit": (split, "dropped"),
        "Curated": (curated(), "too short"),
        "Embeddings": (vectors, "3 vectors of 8 numbers"),
        "NumpyStore": (index.store, "NumpyStore"),
        "LanceStore": (lance, "LanceStore"),
        "AstraStore": (astra, "http://127.0.0.1:9"),
        "Index": (index, "hash"),
        "Hit": (hits[0], "data:image/jpeg"),
        "Hits": (hits, "9 hits for"),
        "Places": (Hits(hits.items[:6], query=hits.query).places(), "m²"),
        "ClassificationResult": (before, "Confusion"),
        "Comparison": (gv.compare(before, after), "McNemar"),
        "RetrievalResult": (ranks, "text to image"),
        "Classification": (classify(np.eye(4), np.eye(4)), "inductive"),
        "BenchmarkResult": (benchmark(), "[69.0, 73.0]"),
        "DetectionResult": (detection_result(), "0.700 (0.500 to 0.900)"),
        "Detection": (detections()[0], "0.910"),
        "Detections": (detections(), "data:image/png"),
        "HeatMap": (next(iter(detections().heat_maps.values())), "40 × 60"),
        "Calibration": (calibration(), "0.40 to 0.70"),
        "TrainingReport": (trained.report, "mean recall"),
        "History": (trained.history, "logit_scale"),
        "TrainingResult": (trained, "data:image/png"),
        "Leaks": (leaks, "held-out"),
        "WorkflowResult": (workflow, "captions"),
        "TuningResult": (tuned, "held-out loss 0.750"),
        "BatchPlan": (plan, "$0.0631"),
        "BatchStatus": (BatchStatus(jobs=jobs, cancelled=False, finished=False), "under way"),
        "BatchResult": (batch_result(), "coverage 50.0%"),
    }
