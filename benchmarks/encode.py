"""Images a second of `geovlm.embed` against what people write by hand, with ViT-B/32 on this machine's CPU.

    python benchmarks/encode.py [--images FOLDER] [--model FOLDER] [--count 128] [--rounds 3] [--out encode.json]

In one process, in turns, several rounds, on the same files and the same weights (random, of real size, or a `CLIPModel`
of your own):

- *loop*: open one image, run transformers' processor and `CLIPModel.get_image_features` in float32, next image;
- *data loader*: open_clip's usual way, its transform in a torch `DataLoader` with a worker a core, batches in float32;
- *embed*: `geovlm.embed` with the encoder as `load_encoder` gives it;
- *embed, openvino*: the same with `backend="openvino"`, where openvino is installed.

What bounds them, in the same rounds:

- *decode*: open and prepare all images, in a thread a core, no model;
- *forward*: the encoder on pixels that are ready, and *forward, openvino*; nothing is decoded;
- *forward, CLIPModel*: transformers' own forward pass on normalised tensors that are ready, in the encoder's precision.

Keys of the JSON, which `measure` returns: `machine`, `images`, `precision`; `images_per_second`, by the names above
(medians over rounds); `embed_over_loop` and `embed_over_data_loader`, medians of the ratios within a round;
`embed_over_bound`, the time of *decode* and *forward* together over that of *embed*; `cosine_mean` and `cosine_min`
between the vectors of *embed* and of *loop*; `same_top_10`, the share of text queries that find the same ten images
among both, and `shared_of_top_10`, the mean share of ten that both find (random weights place all images almost at one
point, which makes both far lower than trained ones do: judge by `--model`). `openvino` holds the same figures, from
`embed_over_loop` on, of *embed, openvino*.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
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

    Ways = dict[str, Callable[[], Any]]

SIDE = 600
CORES = os.cpu_count() or 1
THINGS = (
    "an airport", "bare soil", "a baseball field", "a beach", "a bridge", "a car park", "dense housing", "a desert",
    "farmland", "a forest", "a harbour", "a highway", "industry", "a lake", "a meadow", "mountains", "railway tracks",
    "a river", "a school", "storage tanks",
)  # fmt: skip
TEMPLATES = ("{}", "a photo of {}", "a satellite image of {}", "an aerial view of {}", "{} seen from above")


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
    ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {ends.get(token, token): number for token, number in bpe.encoder.items()}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[tuple(m.split(" ")) for m in merges])
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
    parser.add_argument("--model", type=Path, help="a folder with a CLIPModel of your own, as save_pretrained wrote it")
    parser.add_argument("--count", type=int, default=128, help="images a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        source = gv.FolderSource(arguments.images) if arguments.images else write_images(work / "in", arguments.count)
        records = list(islice(source, arguments.count))
        if not arguments.model:
            save_model(work / "model")
        figures = measure(arguments.model or work / "model", records, arguments.rounds)
    print(json.dumps(figures, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def peers(folder: Path, paths: list[str]) -> Ways:
    """What people write by hand, in float32."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)

    def features(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model.get_image_features(pixel_values=pixels).pooler_output

    def loop() -> np.ndarray:
        opened = (Image.open(path).convert("RGB") for path in paths)
        return torch.cat([features(processor(image, return_tensors="pt").pixel_values) for image in opened]).numpy()

    def loader() -> np.ndarray:
        batches = DataLoader(Files(paths), batch_size=64, num_workers=CORES)
        return torch.cat([features(pixels) for pixels in batches]).numpy()

    return {"loop": loop, "data loader": loader}


def ours(folder: Path, records: list[gv.Record]) -> Ways:
    """`embed`, and what it cannot be faster than."""
    encoder = gv.load_encoder(folder)

    def prepare(record: gv.Record) -> np.ndarray:
        return encoder.preprocess(record.open(size_hint=encoder.image_size))

    def decode() -> list[np.ndarray]:
        with ThreadPoolExecutor(CORES) as threads:
            return list(threads.map(prepare, records))

    pixels = np.stack(decode())
    ways: Ways = {
        "embed": partial(embed, records, encoder),
        "decode": decode,
        "forward": partial(forward, encoder, pixels),
        "forward, CLIPModel": plain_forward(folder, encoder, pixels),
    }
    if find_spec("openvino"):
        other = encoder.with_backend("openvino")
        ways["embed, openvino"] = partial(embed, records, other)
        ways["forward, openvino"] = partial(forward, other, pixels)
    return ways


def embed(records: list[gv.Record], encoder: Any) -> np.ndarray:
    return gv.embed(records, encoder, progress=False).to_numpy()[1]


def forward(encoder: Any, pixels: np.ndarray) -> np.ndarray:
    size = encoder.batch_size_hint
    return np.concatenate([encoder.encode_pixels(pixels[at : at + size]) for at in range(0, len(pixels), size)])


def plain_forward(folder: Path, encoder: Any, pixels: np.ndarray) -> Callable[[], None]:
    precision = getattr(torch, encoder.dtype)
    model = transformers.CLIPModel.from_pretrained(folder).eval().to(precision)
    batches = [encoder.normalize_pixels(part).to(precision) for part in torch.from_numpy(pixels).split(64)]

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                model.get_image_features(pixel_values=batch)

    return run


def measure(folder: Path, records: list[gv.Record], rounds: int) -> dict[str, Any]:
    """Time all ways; the keys are told at the top of this file."""
    ways = {**peers(folder, [record.uri or "" for record in records]), **ours(folder, records)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, Any] = {}
    for name, way in ways.items():
        if name not in ("loop", "data loader"):
            way()  # the first run of a model chooses its kernels, or converts it
    for _ in range(rounds):
        for name, way in ways.items():
            taken, vectors[name] = timed(way)
            seconds[name].append(taken)
    encoder = gv.load_encoder(folder, dtype="float32")
    queries = encoder.encode_texts([template.format(thing) for template in TEMPLATES for thing in THINGS])
    exact = vectors["loop"] / np.linalg.norm(vectors["loop"], axis=1, keepdims=True)

    def told(backend: str) -> dict[str, float]:
        return {**ratios(seconds, backend), **fidelity(exact, vectors[f"embed{backend}"], queries)}

    rates = {name: round(len(records) / statistics.median(taken), 1) for name, taken in seconds.items()}
    return {
        "machine": f"{CORES} cores, {platform.machine()}, torch {torch.__version__}",
        "images": len(records),
        "precision": gv.load_encoder(folder).dtype,
        "images_per_second": rates,
        **told(""),
        **({"openvino": told(", openvino")} if "embed, openvino" in ways else {}),
    }


def ratios(seconds: dict[str, list[float]], backend: str) -> dict[str, float]:
    """Medians over rounds of what `embed` is faster than, and of how near it comes to its bound."""
    taken = {name: np.array(values) for name, values in seconds.items()}
    mine = taken[f"embed{backend}"]
    return {
        "embed_over_loop": round(float(np.median(taken["loop"] / mine)), 2),
        "embed_over_data_loader": round(float(np.median(taken["data loader"] / mine)), 2),
        "embed_over_bound": round(float(np.median((taken["decode"] + taken[f"forward{backend}"]) / mine)), 3),
    }


def fidelity(exact: np.ndarray, vectors: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """How near vectors are to the exact ones, and whether queries notice."""
    cosines = (exact * vectors).sum(axis=1)
    found = [np.argsort(-queries @ array.T, axis=1)[:, :10] for array in (exact, vectors)]
    shared = [len({*left} & {*right}) / len(left) for left, right in zip(*found, strict=True)]
    return {
        "cosine_mean": round(float(cosines.mean()), 5),
        "cosine_min": round(float(cosines.min()), 5),
        "same_top_10": round(float(np.mean([share == 1 for share in shared])), 3),
        "shared_of_top_10": round(float(np.mean(shared)), 3),
    }


if __name__ == "__main__":
    main()
