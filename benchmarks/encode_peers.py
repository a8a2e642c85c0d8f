"""Five ways to encode the same folder with the same weights: `geovlm.embed` beside what users run instead.

    python benchmarks/encode_peers.py [--images FOLDER] [--count 128] [--rounds 3] [--out encode_peers.json]

In one process, in turns, several rounds, on the same files, with a ViT-B/32 of random weights in the formats of
transformers and of open_clip:

- *CLIPModel loop*: open one image, transformers' processor and `get_image_features`, next image;
- *open_clip + DataLoader*: open_clip's model and transform, a torch `DataLoader` with a worker a core, batches of 64;
- *sentence-transformers*: `SentenceTransformer(folder).encode` on opened images, with its own batch size;
- *LanceDB OpenCLIP*: the function `open-clip` of LanceDB's registry, whose name for weights also takes a file;
- *geovlm.embed*, with the encoder as `load_encoder` gives it.

The first four run in float32, their default. The order of the ways turns from round to round. Told are medians over
rounds, medians of the ratios within a round, and the least processor time an image, workers included, which depends
less on what else the machine does. Cosines are to the vectors of the loop: they show that all have the
same weights, and what precision and draft decoding cost.

Needs `pip install lancedb sentence-transformers`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
import transformers
from encode import Files, save_model, write_images
from lancedb.embeddings import get_registry
from PIL import Image
from sentence_transformers import SentenceTransformer
from torch.utils.data import DataLoader

import geovlm as gv

if TYPE_CHECKING:
    from collections.abc import Callable

    Ways = dict[str, Callable[[], np.ndarray]]

ARCHITECTURE = "ViT-B-32-quickgelu"
OURS, LOOP = "geovlm.embed", "CLIPModel loop"
TOWERS = {
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "text_model.encoder.layers": "transformer.resblocks",
}
LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
SINGLE = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "logit_scale": "logit_scale",
}


def for_open_clip(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a `CLIPModel` under open_clip's names."""
    named = {"visual.proj": weights["visual_projection.weight"].T.contiguous()}
    named["text_projection"] = weights["text_projection.weight"].T.contiguous()
    for theirs, ours in SINGLE.items():
        for end in ("", ".weight", ".bias"):
            if theirs + end in weights:
                named[ours + end] = weights[theirs + end]
    for theirs, ours in TOWERS.items():
        count = sum(name.startswith(theirs) and name.endswith("layer_norm1.bias") for name in weights)
        for number in range(count):
            here, there = f"{theirs}.{number}", f"{ours}.{number}"
            for end in ("weight", "bias"):
                parts = [weights[f"{here}.self_attn.{part}_proj.{end}"] for part in "qkv"]
                named[f"{there}.attn.in_proj_{end}"] = torch.cat(parts)
                named |= {f"{there}.{new}.{end}": weights[f"{here}.{old}.{end}"] for old, new in LAYER.items()}
    return named


def clip_model_loop(folder: Path, paths: list[str]) -> Callable[[], np.ndarray]:
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)

    def run() -> np.ndarray:
        rows = []
        for path in paths:
            pixels = processor(Image.open(path).convert("RGB"), return_tensors="pt").pixel_values
            with torch.inference_mode():
                rows.append(model.get_image_features(pixel_values=pixels).pooler_output)
        return torch.cat(rows).numpy()

    return run


def open_clip_loader(checkpoint: Path, paths: list[str]) -> Callable[[], np.ndarray]:
    model, _, _ = open_clip.create_model_and_transforms(ARCHITECTURE, pretrained=str(checkpoint))
    model.eval()

    def run() -> np.ndarray:
        batches = DataLoader(Files(paths), batch_size=64, num_workers=os.cpu_count() or 1)
        with torch.inference_mode():
            return torch.cat([model.encode_image(pixels) for pixels in batches]).numpy()

    return run


def sentence_transformer(folder: Path, paths: list[str]) -> Callable[[], np.ndarray]:
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda: model.encode([Image.open(path) for path in paths], show_progress_bar=False)


def lancedb_function(checkpoint: Path, paths: list[str]) -> Callable[[], np.ndarray]:
    function = get_registry().get("open-clip").create(name=ARCHITECTURE, pretrained=str(checkpoint))

    def run() -> np.ndarray:
        with contextlib.redirect_stderr(io.StringIO()):  # a bar for each batch
            return np.stack(function.compute_source_embeddings(paths))

    return run


def geovlm_embed(folder: Path, records: list[gv.Record]) -> tuple[Any, Callable[[], np.ndarray]]:
    encoder = gv.load_encoder(folder)
    return encoder, lambda: gv.embed(records, encoder, progress=False).to_numpy()[1]


def processor_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])


def in_turns(ways: Ways, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds, processor seconds and vectors of each way; what comes first in a round comes last in the next."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, np.ndarray] = {}
    names = list(ways)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started, before = time.perf_counter(), processor_seconds()
            vectors[name] = ways[name]()
            seconds[name].append(time.perf_counter() - started)
            processor[name].append(processor_seconds() - before)
    return seconds, processor, vectors


def measure(folder: Path, checkpoint: Path, records: list[gv.Record], rounds: int) -> dict[str, Any]:
    paths = [record.uri or "" for record in records]
    encoder, embed = geovlm_embed(folder, records)
    # LanceDB warns of every fork; the workers of the data loader only decode.
    warnings.filterwarnings("ignore", message="lancedb fork support", category=RuntimeWarning)
    ways: Ways = {
        LOOP: clip_model_loop(folder, paths),
        "open_clip + DataLoader": open_clip_loader(checkpoint, paths),
        "sentence-transformers": sentence_transformer(folder, paths),
        "LanceDB OpenCLIP": lancedb_function(checkpoint, paths),
        OURS: embed,
    }
    embed()  # the first run of a model chooses its kernels
    seconds, processor, vectors = in_turns(ways, rounds)
    units = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in vectors.items()}
    peers = [name for name in ways if name != OURS]
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
        "images": len(paths),
        "rounds": rounds,
        "precision": encoder.dtype,
        "images_per_second": {name: round(len(paths) / statistics.median(taken), 2) for name, taken in seconds.items()},
        "cpu_ms_per_image": {name: round(1000 * min(taken) / len(paths), 1) for name, taken in processor.items()},
        "embed_over": {name: round(statistics.median(np.divide(seconds[name], seconds[OURS])), 2) for name in peers},
        "cosine_to_loop": {name: round(float((units[name] * units[LOOP]).sum(axis=1).mean()), 5) for name in ways},
    }


def table(figures: dict[str, Any]) -> str:
    lines = [
        "| way | images/s | embed over it | CPU ms an image | mean cosine to the loop |",
        "| --- |" + " ---: |" * 4,
    ]
    for name, rate in figures["images_per_second"].items():
        ratio = figures["embed_over"].get(name, "")
        cpu, cosine = figures["cpu_ms_per_image"][name], figures["cosine_to_loop"][name]
        lines.append(f"| {name} | {rate} | {ratio} | {cpu} | {cosine} |")
    return "\n".join(lines)


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
        save_model(work / "model")
        weights = transformers.CLIPModel.from_pretrained(work / "model").state_dict()
        torch.save(for_open_clip(weights), work / "open_clip.pt")
        records = list(islice(source, arguments.count))
        figures = measure(work / "model", work / "open_clip.pt", records, arguments.rounds)
    print(f"{figures['machine']}; {figures['images']} images, embed in {figures['precision']}\n\n{table(figures)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
