"""Images a second of `geovlm.embed` against what people write by hand, with ViT-B/32 on this machine's CPU.

    python benchmarks/encode.py [--images FOLDER] [--count 128] [--out encode.json]

In one process, in turns, several rounds, on the same files and the same weights (random, of real size):

- *loop*: open one image, run transformers' processor and `CLIPModel.get_image_features` in float32, next image;
- *data loader*: open_clip's usual way, its transform in a torch `DataLoader` with a worker a core, batches in float32;
- *embed*: `geovlm.embed` with the encoder as `load_encoder` gives it.

Fidelity is the cosine between the vectors of *embed* and those of *loop*.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from open_clip.transform import image_transform
from PIL import Image
from torch.utils.data import DataLoader

import geovlm as gv

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 600


def write_images(folder: Path, count: int) -> gv.FolderSource:
    """JPEGs of 600 px that compress like scenes: synthetic ones, enlarged, with grain."""
    from geovlm.testing.scenes import draw_scene

    folder.mkdir(exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        scene = np.asarray(draw_scene(rng, side=300)[0].resize((SIDE, SIDE)), dtype=np.float32)
        grain = rng.normal(scale=9, size=scene.shape)
        Image.fromarray((scene + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=80)
    return gv.FolderSource(folder)


def save_model(folder: Path) -> None:
    """ViT-B/32 in the format of transformers, with the tokenizer that the encoder needs to load."""
    from open_clip.tokenizer import SimpleTokenizer

    torch.manual_seed(0)
    transformers.CLIPModel(transformers.CLIPConfig()).save_pretrained(folder)
    bpe = SimpleTokenizer()
    merges = [" ".join(pair) for pair in bpe.bpe_ranks]
    tokenizer = transformers.CLIPTokenizer(vocab=bpe.encoder, merges=[tuple(m.split(" ")) for m in merges])
    processor = transformers.CLIPProcessor(transformers.CLIPImageProcessor(), tokenizer)
    processor.save_pretrained(folder)


class Files(torch.utils.data.Dataset[Any]):
    """Paths as pixel tensors."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.transform = image_transform(224, is_train=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.open(self.paths[index]))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    value = work()
    return time.perf_counter() - started, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of your own images")
    parser.add_argument("--count", type=int, default=128, help="images a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        source = gv.FolderSource(arguments.images) if arguments.images else write_images(work / "in", arguments.count)
        records = list(islice(source, arguments.count))
        save_model(work / "model")
        figures = measure(work / "model", records, arguments.rounds)
    print(json.dumps(figures, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, records: list[gv.Record], rounds: int) -> dict[str, Any]:
    paths = [record.uri or "" for record in records]
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    encoder = gv.load_encoder(folder)

    def features(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model.get_image_features(pixel_values=pixels).pooler_output

    def loop() -> np.ndarray:
        opened = (Image.open(path).convert("RGB") for path in paths)
        return torch.cat([features(processor(image, return_tensors="pt").pixel_values) for image in opened]).numpy()

    def loader() -> np.ndarray:
        batches = DataLoader(Files(paths), batch_size=64, num_workers=os.cpu_count() or 1)
        return torch.cat([features(pixels) for pixels in batches]).numpy()

    def embed() -> np.ndarray:
        return gv.embed(records, encoder, progress=False).to_numpy()[1]

    ways: dict[str, Callable[[], np.ndarray]] = {"loop": loop, "data loader": loader, "embed": embed}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, np.ndarray] = {}
    embed()  # the first run of a model chooses its kernels
    for _ in range(rounds):
        for name, way in ways.items():
            taken, vectors[name] = timed(way)
            seconds[name].append(taken)
    exact = vectors["loop"] / np.linalg.norm(vectors["loop"], axis=1, keepdims=True)
    cosines = (exact * vectors["embed"]).sum(axis=1)
    rate = {name: len(paths) / statistics.median(taken) for name, taken in seconds.items()}
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
        "images": len(paths),
        "precision": encoder.dtype,
        "images_per_second": {name: round(value, 1) for name, value in rate.items()},
        "embed_over_loop": round(statistics.median(np.divide(seconds["loop"], seconds["embed"])), 2),
        "embed_over_data_loader": round(statistics.median(np.divide(seconds["data loader"], seconds["embed"])), 2),
        "cosine_mean": round(float(cosines.mean()), 5),
        "cosine_min": round(float(cosines.min()), 5),
    }


if __name__ == "__main__":
    main()
