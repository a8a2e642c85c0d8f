"""`geovlm.caption` against the loop of the model card, with a BLIP of real size and random weights, on the CPU.

    python benchmarks/caption.py IMAGES [--count 48] [--turns 3] [--tokens 20] [--beams 1] [--threads N] [--out FILE]

Both caption the same files in the same process, in turns of `count / turns` images. The peer opens one image at a time
and calls `BlipForConditionalGeneration.generate` in float32. The end of a caption is forbidden, so that random weights
do not decide how long captions are: every caption has all its tokens. What is measured is time, not quality: nothing is
trained. `same` is the share of captions that are the loop's, letter by letter; random weights, whose tokens are all
about as likely, are harder here than trained ones.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
import transformers
from PIL import Image

import geovlm as gv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Captions = Callable[[Sequence[gv.Record], Path], list[str]]


def save_model(folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(30517))]
    tokenizer = transformers.BertTokenizer({word: number for number, word in enumerate(words)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    config = transformers.BlipConfig(text_config={"num_attention_heads": 12}, vision_config={"initializer_range": 0.02})
    torch.manual_seed(0)
    model = transformers.BlipForConditionalGeneration(config)
    model.text_decoder.cls.predictions.decoder.bias.data[:5] = -1e4
    model.save_pretrained(folder)
    transformers.BlipProcessor(transformers.BlipImageProcessor(), tokenizer).save_pretrained(folder)


def loop(folder: Path, options: gv.GenerationOptions) -> Captions:
    model = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)

    def run(records: Sequence[gv.Record], _: Path) -> list[str]:
        texts = []
        for record in records:
            inputs = processor(images=Image.open(record.uri or "").convert("RGB"), return_tensors="pt")
            output = model.generate(**inputs, max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
            texts.append(processor.decode(output[0], skip_special_tokens=True))
        return texts

    return run


def ours(folder: Path, options: gv.GenerationOptions, dtype: str) -> Captions:
    captioner = gv.load_captioner(folder, device="cpu", dtype=dtype, options=options)

    def run(records: Sequence[gv.Record], out: Path) -> list[str]:
        pairs = gv.caption(records, captioner, out=out / dtype, progress=False)
        assert pairs.report.done == len(records), pairs.report
        return [pair.captions[0] for pair in pairs]

    return run


def measure(ways: dict[str, Captions], chunks: list[list[gv.Record]], work: Path) -> list[dict[str, Any]]:
    """The figures of each way, all being asked for each chunk in turn."""
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    captions: dict[str, list[str]] = defaultdict(list)
    for number, chunk in enumerate(chunks):
        for name, run in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            captions[name] += run(chunk, work / str(number))
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    count, first = sum(map(len, chunks)), next(iter(ways))
    results = []
    for name in ways:
        ratios = [theirs[0] / own[0] for theirs, own in zip(seconds[first], seconds[name], strict=True)]
        wall, cpu = (sum(each) for each in zip(*seconds[name], strict=True))
        same = sum(map(str.__eq__, captions[first], captions[name])) / count
        figures = {"images_per_s": count / wall, "cpu_s_per_image": cpu / count, "over_loop": median(ratios)}
        cpu_ratio = sum(each[1] for each in seconds[first]) / cpu
        results.append({"way": name, **figures, "over_loop_by_cpu": cpu_ratio, "same": same})
    return results


def table(results: list[dict[str, Any]]) -> str:
    names = list(results[0])
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", f"|{' --- |' * len(names)}"]
    for row in results:
        cells = (row[name] if isinstance(row[name], str) else f"{row[name]:.2f}" for name in names)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    records = list(islice(gv.FolderSource(arguments.images), arguments.count))
    options = gv.GenerationOptions(max_new_tokens=arguments.tokens, num_beams=arguments.beams)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "blip"
        save_model(model)
        ways = {"loop, float32": loop(model, options)}
        ways |= {f"geovlm.caption, {dtype}": ours(model, options, dtype) for dtype in ("float32", "bfloat16")}
        chunks = [records[first :: arguments.turns] for first in range(arguments.turns)]
        results = measure(ways, chunks, Path(folder))
    print(table(results))
    if arguments.out:
        told = {"tokens": arguments.tokens, "beams": arguments.beams, "load": os.getloadavg(), "results": results}
        arguments.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
