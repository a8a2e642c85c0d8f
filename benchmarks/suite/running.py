"""Run benchmarks one after the other, each in a process of its own, into one record."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.suite.values import Benchmark

HERE = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("geovlm", "attrs", "faiss-cpu", "lancedb", "numpy", "open_clip_torch", "openvino", "pandas", "pillow", "pyarrow"),
    *("ray", "sentence-transformers", "simplejpeg", "torch", "torchvision", "transformers", "usearch"),
)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "as libraries choose"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def versions() -> dict[str, str]:
    """Of the libraries that are measured, as far as they are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit that is measured, with a plus sign if files have changed since."""
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def new_record(*, quick: bool) -> dict[str, Any]:
    """A record without results."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "benchmarks": {},
    }


def run(
    benchmark: Benchmark, folder: Path, *, quick: bool, repeat: int = 1, given: Mapping[str, Path]
) -> dict[str, Any]:
    """Run one benchmark, some times, and tell its figures: medians over the runs.

    What it prints is kept beside its JSON, in `folder`.
    """
    words = [word.format(**given) for word in (benchmark.quick if quick else benchmark.arguments)]
    out = folder / (benchmark.out or f"{benchmark.name}.json")
    command = [sys.executable, str(HERE / benchmark.script), *words, "--out", str(out)]
    entry: dict[str, Any] = {"command": " ".join(["python", f"benchmarks/{benchmark.script}", *words])}
    entry |= {"load_before": round(os.getloadavg()[0], 2), "seconds": [], "results": []}
    for _ in range(repeat):
        started = time.perf_counter()
        failure = _in_a_process(command, folder / f"{benchmark.name}.txt")
        entry["seconds"].append(round(time.perf_counter() - started, 1))
        if failure is not None:
            return entry | {"failure": failure}
        entry["results"].append(json.loads((folder / (benchmark.result or out.name)).read_text(encoding="utf-8")))
    return entry | {"figures": medians(benchmark, entry["results"])}


def _in_a_process(command: list[str], log: Path) -> str | None:
    """The last line that a process wrote if it failed."""
    quiet = {"HF_HUB_OFFLINE": "1", "GEOVLM_PROGRESS": "0", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, env=os.environ | quiet, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"exit status {done.returncode}")


def medians(benchmark: Benchmark, results: list[Any]) -> dict[str, dict[str, float]]:
    """Median, least and largest of each figure over the runs that have it."""
    figures = {}
    for figure in benchmark.figures:
        values = [value for result in results if (value := figure.found_in(result)) is not None]
        if values:
            figures[figure.key] = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return figures
