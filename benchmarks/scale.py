"""Hours, money and storage for millions to a billion scenes, from costs that were measured or published.

    python benchmarks/scale.py [--set gpu_price=2.5 network_gbit=100 …] [--write] [--out FILE]

Prints the tables of `docs/scale.md`; `--write` puts them there, `--set` takes your own costs and prices. Nothing is
measured here. The inputs below say where each number is from: *measured* means `docs/benchmarks.md` or the command that
is named, *published* names the source, *assumed* is neither. All is arithmetic of one line each: the slowest of
decoding, network, model and writing decides how long a stage takes, and one machine has up to eight GPUs.
"""

from __future__ import annotations

import argparse
import json
import sys
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
SCENES, GPUS, GPUS_A_MACHINE = (6_000_000, 1_000_000_000), (1, 8, 64), 8
GB, HOUR = 1e9, 3600.0
TIMM = "published: timm, `benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv`, 2024; bare forward pass, batch of 1,024"
OPENCLIP = "published: Cherti et al., 2023 (arXiv 2212.07143), table of trained models"
VAST = "published: Vast.ai on demand, as collected by usagepricing.com in June 2026"


@frozen
class Input:
    """A number, its unit and where it is from."""

    value: float
    unit: str
    source: str


INPUTS: dict[str, Input] = {
    # Scenes
    "jpeg_bytes": Input(66_000, "bytes", "measured: the 600 px JPEGs of `benchmarks/encode.py`, quality 80"),
    "pairs_a_shard": Input(10_000, "scenes", "assumed: scenes in a tar shard"),
    # One core
    "decode_rate": Input(
        270, "images/s and core", "measured: `benchmarks/encode.py`, opened with `size_hint`, resized to 224 px"
    ),
    "augment_rate": Input(
        260, "pairs/s and core", "measured: `benchmarks/shards.py`, 256 px to 224 px with augmentation"
    ),
    "writing_rate": Input(10_000, "images/s and call", "measured: `benchmarks/embed_overhead.py`, one process"),
    "cpu_embed_rate": Input(32.4, "images/s on 2 cores", "measured: `benchmarks/encode.py`, ViT-B/32, bfloat16"),
    "cpu_train_rate": Input(7.3, "pairs/s on 2 cores", "measured: `benchmarks/train.py`, ViT-B/32, bfloat16, 12 words"),
    "cpu_caption_rate": Input(
        1.42, "images/s on 2 cores", "measured: `benchmarks/caption.py`, BLIP base, bfloat16, 20 tokens"
    ),
    # GPUs: none was at hand
    "gpu_share": Input(0.85, "", "assumed: what a pipeline gets of the bare forward pass; the project's aim on a GPU"),
    "gpu_embed_rate": Input(8389, "images/s, RTX 4090", f"{TIMM}; ViT-B/32 of CLIP"),
    "gpu_embed_large_rate": Input(566, "images/s, RTX 4090", f"{TIMM}; ViT-L/14 of CLIP"),
    "gpu_caption_rate": Input(
        457, "images/s, RTX 4090", f"estimated: half of ViT-B/16 at 384 px (915), BLIP base's image tower; {TIMM}"
    ),
    "gpu_train_rate": Input(729, "pairs/s, A100", f"{OPENCLIP}: ViT-B/32, 93,294 pairs/s on 128 A100"),
    "gpu_train_large_rate": Input(66, "pairs/s, A100", f"{OPENCLIP}: ViT-L/14, 67,928 pairs/s on 1,024 A100"),
    "cores_a_gpu": Input(16, "cores", "assumed: rented with each GPU"),
    "calls_a_machine": Input(
        1, "a machine", "assumed: calls of `embed` or `caption`, each with GPUs and shards of its own"
    ),
    "network_gbit": Input(25, "Gbit/s", "assumed: each machine of up to eight GPUs, from where the images are"),
    "gpu_price": Input(0.78, "$/h, RTX 4090", f"{VAST} (0.68 to 0.88)"),
    "training_gpu_price": Input(1.2, "$/h, A100 80 GB", f"{VAST} (1.17 to 1.21)"),
    # Stores
    "lance_write_rate": Input(41_600, "rows/s", "measured: `benchmarks/stores_lance.py`, one writer, 2 cores"),
    "lance_index_seconds": Input(
        53, "s a million rows", "measured: the same, to a million rows; beyond, in proportion"
    ),
    "lance_query_ms": Input(
        20.5, "ms a million rows", "measured: the same; beyond, in proportion, as all partitions are read"
    ),
    "numpy_query_ms": Input(
        39, "ms a million rows", "measured: `benchmarks/stores_numpy.py`, 17 to 72 by kind of vectors"
    ),
    "astra_write_rate": Input(
        12_000, "documents/s", "measured: `benchmarks/stores_astra.py`, one client, local stand-in"
    ),
    # Bytes a scene, vectors of 512 numbers
    "part_bytes": Input(1_900, "bytes", "measured: parts of `embed`"),
    "lance_bytes": Input(2_400, "bytes", "measured: table and indexes after `flush`, 100,000 rows"),
    "numpy_bytes": Input(2_920, "bytes of memory", "measured: 200,000 rows with three fields (2,730), and codes (192)"),
    "id_bytes": Input(16, "bytes of memory", "by construction: one id of a run that can go on"),
    # Object storage
    "storage_price": Input(
        0.023, "$/GB and month", "published: list price of Amazon S3 Standard, us-east-1, first 50 TB; check it"
    ),
    "get_price": Input(0.0004, "$ a thousand", "published: the same, GET requests"),
    "list_price": Input(0.005, "$ a thousand", "published: the same, LIST requests, each of 1,000 names"),
}


class Plan:
    """What follows from the inputs."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self.values = values

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def rate(self, gpus: int, *, model: str | None, decode: str = "decode_rate") -> tuple[float, str]:
        """Scenes a second, and what bounds them."""
        machines = ceil(gpus / GPUS_A_MACHINE)
        bounds = {
            "decoding": self[decode] * self["cores_a_gpu"] * gpus,
            "network": machines * self["network_gbit"] * GB / 8 / self["jpeg_bytes"],
        }
        if model is not None and "train" in model:
            bounds["GPU"] = gpus * self[model]  # whole runs were published, not the bare model
        elif model is not None:
            bounds["GPU"] = gpus * self[model] * self["gpu_share"]
            bounds["writing"] = machines * self["calls_a_machine"] * self["writing_rate"]
        return min((value, name) for name, value in bounds.items())

    def stage(self, scenes: int, gpus: int, *, model: str | None, decode: str, price: str) -> str:
        """Hours, money and the bound."""
        rate, bound = self.rate(gpus, model=model, decode=decode)
        hours = scenes / rate / HOUR
        return f"{hours_in_words(hours)}, {dollars(hours * gpus * self[price])}, {bound}"


STAGES: dict[str, dict[str, str | None]] = {
    "read and decode": {"model": None, "decode": "decode_rate", "price": "gpu_price"},
    "caption, BLIP base": {"model": "gpu_caption_rate", "decode": "decode_rate", "price": "gpu_price"},
    "train, ViT-B/32, one epoch": {"model": "gpu_train_rate", "decode": "augment_rate", "price": "training_gpu_price"},
    "train, ViT-L/14, one epoch": {
        "model": "gpu_train_large_rate",
        "decode": "augment_rate",
        "price": "training_gpu_price",
    },
    "embed, ViT-B/32": {"model": "gpu_embed_rate", "decode": "decode_rate", "price": "gpu_price"},
    "embed, ViT-L/14": {"model": "gpu_embed_large_rate", "decode": "decode_rate", "price": "gpu_price"},
}
ON_TWO_CORES = {
    "caption, BLIP base": "cpu_caption_rate",
    "train, ViT-B/32, one epoch": "cpu_train_rate",
    "embed, ViT-B/32": "cpu_embed_rate",
}


def hours_in_words(hours: float) -> str:
    """A time to plan with: two digits."""
    units = (("years", 8766.0), ("days", 24.0), ("h", 1.0), ("min", 1 / 60), ("s", 1 / 3600))
    name, size = next((unit for unit in units if hours >= 2 * unit[1]), units[-1])
    return f"{two_digits(hours / size)} {name}"


def two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{float(f'{value:.2g}'):,.0f}"


def dollars(value: float) -> str:
    return f"${value:.2f}" if value < 1 else f"${two_digits(value)}"


def size(value: float) -> str:
    name, unit = next((pair for pair in (("TB", 1e12), ("GB", 1e9)) if value >= pair[1]), ("MB", 1e6))
    return f"{two_digits(value / unit)} {name}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def stages(plan: Plan, scenes: int) -> str:
    head = ["stage", "2 cores, no GPU", *(f"{gpus} GPU{'s' if gpus > 1 else ''}" for gpus in GPUS)]
    rows = []
    for name, options in STAGES.items():
        cores = 2 * plan["decode_rate"] if options["model"] is None else plan.values.get(ON_TWO_CORES.get(name, ""), 0)
        alone = hours_in_words(scenes / cores / HOUR) if cores else ""
        given: Any = options
        rows.append([name, alone, *(plan.stage(scenes, gpus, **given) for gpus in GPUS)])
    return table(head, rows)


def storing(plan: Plan) -> str:
    """Writing and asking, which GPUs do not make faster."""

    def each(per_scene: float) -> list[str]:
        return [hours_in_words(scenes * per_scene / HOUR) for scenes in SCENES]

    def query(per_million: float) -> list[str]:
        return [hours_in_words(scenes / 1e6 * per_million / 1e3 / HOUR) for scenes in SCENES]

    rows = [
        ["store: Lance, rows written by one writer", *each(1 / plan["lance_write_rate"])],
        ["store: Lance, index after that", *each(plan["lance_index_seconds"] / 1e6)],
        ["store: Astra DB, from one client, without the service's own limits", *each(1 / plan["astra_write_rate"])],
        ["search: one query of `NumpyStore`, 2 cores", *query(plan["numpy_query_ms"])],
        ["search: one query of `LanceStore`, 2 cores", *query(plan["lance_query_ms"])],
    ]
    return table(["stage", *(f"{scenes:,} scenes" for scenes in SCENES)], rows)


def storage(plan: Plan) -> str:
    head = ["what", "a scene", *(f"{scenes:,}" for scenes in SCENES), *(f"a month, {scenes:,}" for scenes in SCENES)]
    rows = []
    kept = {"images": "jpeg_bytes", "vectors, parts of `embed`": "part_bytes", "vectors, Lance": "lance_bytes"}
    held = {"memory: `NumpyStore`": "numpy_bytes", "memory: ids of a run that can go on": "id_bytes"}
    for what, name in (kept | held).items():
        sizes = [plan[name] * scenes for scenes in SCENES]
        money = [dollars(value / GB * plan["storage_price"]) if what in kept else "" for value in sizes]
        rows.append([what, f"{plan[name]:,.0f} B", *map(size, sizes), *money])
    requests = {"files of one scene": 1.0, "tar shards": plan["pairs_a_shard"]}
    for what, scenes_each in requests.items():
        objects = [scenes / scenes_each for scenes in SCENES]
        money = [dollars(n / 1000 * plan["get_price"] + n / 1e6 * plan["list_price"]) for n in objects]
        rows.append([f"requests to list and read all once: {what}", "", *(f"{n:,.0f}" for n in objects), *money])
    return table(head, rows)


def inputs(values: Mapping[str, float]) -> str:
    rows = [
        [f"`{name}`", f"{values[name]:,g} {one.unit}".strip(), one.source if values[name] == one.value else "yours"]
        for name, one in INPUTS.items()
    ]
    lines = [["input", "value", "from"], ["---", "---:", "---"], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(values: Mapping[str, float]) -> str:
    """All tables, as they stand in `docs/scale.md`."""
    plan = Plan(values)
    parts = [f"### {scenes:,} scenes: hours, dollars, what bounds\n\n{stages(plan, scenes)}" for scenes in SCENES]
    parts += [f"### Storing and searching\n\n{storing(plan)}", f"### Storage\n\n{storage(plan)}"]
    return "\n\n".join([*parts, f"### Inputs\n\n{inputs(values)}"])


def replaced(text: str, content: str) -> str:
    before, start, rest = text.partition("<!-- tables -->\n")
    _, end, after = rest.partition("<!-- end of tables -->")
    assert start, "There is no `<!-- tables -->` in the document."
    assert end, "There is no `<!-- end of tables -->` in the document."
    return f"{before}{start}\n{content}\n\n{end}{after}"


def usual_values() -> dict[str, float]:
    return {name: one.value for name, one in INPUTS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="inputs of your own")
    parser.add_argument("--write", action="store_true", help="into docs/scale.md, with the inputs as they stand here")
    parser.add_argument("--out", type=Path, help="also write the inputs as JSON")
    arguments = parser.parse_args()
    values = usual_values()
    for name, _, value in (word.partition("=") for word in arguments.set):
        if name not in INPUTS:
            parser.error(f"there is no input {name!r}; there are {', '.join(INPUTS)}")
        values[name] = float(value)
    print(document(values))
    if arguments.write:
        if arguments.set:
            parser.error("--write takes the inputs as they stand in this file")
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), document(values)), encoding="utf-8")
    if arguments.out:
        arguments.out.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
