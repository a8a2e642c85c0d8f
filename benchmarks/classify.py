"""Transductive and few-shot classification on published embeddings of WHU-RS19, and how long a million images take.

    python benchmarks/classify.py path/to/clip_reference_embeddings [--seeds 10] [--aid vectors.npz] [--out rows.json]
    OMP_NUM_THREADS=2 python benchmarks/classify.py --million [--images 1000000]

The embeddings are those of the authors of RS-TransCLIP (El Khoury et al., 2024): 1,005 scenes of 19 classes by CLIP and
by SkyCLIP50, both ViT-B/32, and 106 prompts, whose normalised mean is used. Their own figures are 81.29 % inductive and
90.35 % transductive for CLIP, 91.04 % and 97.81 % for SkyCLIP50. One setting of `geovlm.evaluation.classify` is used
for everything. Few-shot rows are over the images that are not in the support. Robustness rows tell the gain of
transductive over inductive inference on random subsets: mean and worst over the seeds. `--aid` adds a file of arrays
`images`, `labels`, `texts` and `logit_scale`.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from geovlm.evaluation import classify

FILES = {"CLIP ViT-B/32": "whu_rs19__CLIP_ViT-B-32.npz", "SkyCLIP50 ViT-B/32": "whu_rs19__SkyCLIP50_ViT-B-32.npz"}
METHODS: tuple[Any, ...] = ("inductive", "prototypes", "linear_probe", "transductive")


def published(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as data:
        chosen = data["prompts"] != "averageprompt"
        texts = data["text_embeddings"][chosen]
        return {"images": data["image_embeddings"], "labels": data["labels"], "texts": texts, "scale": 100.0}


def own(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as data:
        return {
            "images": data["images"],
            "labels": data["labels"],
            "texts": data["texts"],
            "scale": float(data["logit_scale"]),
        }


def top1(data: dict[str, Any], rows: Any, method: Any, support: Any = None) -> tuple[float, float]:
    """Accuracy and expected calibration error, in per cent, over some rows."""
    shots = {} if support is None else {"support": data["images"][support], "support_labels": data["labels"][support]}
    found = classify(data["images"][rows], data["texts"], method=method, logit_scale=data["scale"], **shots)
    right = found.labels == data["labels"][rows]
    return 100 * float(right.mean()), 100 * calibration_error(found.confidence, right)


def calibration_error(confidence: Any, right: Any, bins: int = 15) -> float:
    """Expected calibration error with bins of equal width (Guo et al., 2017)."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in set(place)]
    return float(sum(gaps))


def subset(labels: Any, kind: str, seed: int) -> Any:
    """Rows of a harder set: half of the classes, classes from 1 to 1/20 of their images, or 10 images a class."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(labels))
    rows = {name: rng.permutation(np.flatnonzero(labels == name)) for name in names}
    if kind == "half of the classes absent":
        kept = [rows[name] for name in names[: len(names) // 2]]
    elif kind == "classes 20:1":
        shares = np.geomspace(1, 1 / 20, len(names))
        kept = [rows[name][: max(1, round(share * len(rows[name])))] for name, share in zip(names, shares, strict=True)]
    else:
        kept = [rows[name][:10] for name in names]
    return np.concatenate(kept)


def shots(labels: Any, count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == name))[:count] for name in np.unique(labels)])


def measure(name: str, data: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    everything = np.arange(len(data["labels"]))
    found = []
    for method in ("inductive", "transductive"):
        accuracy, error = top1(data, everything, method)
        found.append({"what": f"{method}, no labels", "top1": accuracy, "ece": error})
    for count in (1, 5, 10):
        supports = [shots(data["labels"], count, seed) for seed in range(seeds)]
        for method in METHODS:
            each = [top1(data, np.setdiff1d(everything, support), method, support)[0] for support in supports]
            found.append({"what": f"{method}, {count} a class", "top1": np.mean(each), "worst": min(each)})
    for kind in ("half of the classes absent", "classes 20:1", "10 images a class"):
        sets = [subset(data["labels"], kind, seed) for seed in range(seeds)]
        gains = [top1(data, rows, "transductive")[0] - top1(data, rows, "inductive")[0] for rows in sets]
        found.append({"what": f"gain, {kind}", "top1": np.mean(gains), "worst": min(gains)})
    return [{"data": name, **row} for row in found]


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| embeddings | what | top-1 or gain, % | worst seed | ECE, % |", "|" + " --- |" * 5]
    for row in rows:
        told = [f"{row[key]:.2f}" if key in row else "" for key in ("top1", "worst", "ece")]
        lines.append(f"| {row['data']} | {row['what']} | {' | '.join(told)} |")
    return "\n".join(lines)


def million(images: int) -> dict[str, Any]:
    """Time and peak memory of one call on random images of 100 classes, 512 numbers each."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(100, 512)).astype(np.float32)
    labels = rng.integers(100, size=images)
    vectors = rng.standard_normal((images, 512), dtype=np.float32)
    for start in range(0, images, 10_000):
        vectors[start : start + 10_000] += 0.35 * texts[labels[start : start + 10_000]]
    texts += rng.normal(size=texts.shape)
    started, cpu = time.perf_counter(), time.process_time()
    found = classify(vectors, texts, method="transductive", logit_scale=20.0)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    top = float((found.labels == labels).mean())
    return {"images": images, "seconds": seconds, "cpu_seconds": cpu, "peak_gib": peak, "top1": top}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--aid", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.million:
        rows.append(million(arguments.images))
        print(rows[-1])
    if arguments.data:
        sets = {name: published(arguments.data / file) for name, file in FILES.items()}
        if arguments.aid:
            sets[arguments.aid.stem] = own(arguments.aid)
        rows += [row for name, data in sets.items() for row in measure(name, data, arguments.seeds)]
        print(table([row for row in rows if "data" in row]))
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
