"""`geovlm.caption` against the loop of the model card, with a BLIP of real size and random weights, on the CPU.

    python benchmarks/caption.py IMAGES [--count 24] [--tokens 20] [--threads N]

Both caption the same files in the same process, one after the other. The peer opens one image at a time and calls
`BlipForConditionalGeneration.generate` in float32. The end of a caption is forbidden, so that random weights do not
decide how long captions are. What is measured is time, not quality: nothing is trained.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from PIL import Image

import geovlm as gv

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@contextmanager
def timed(label: str, images: int) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{label:24} {images / wall:6.2f} images/s   {cpu / images:6.2f} s of CPU an image", flush=True)


def loop(folder: Path, paths: list[str], tokens: int) -> None:
    model = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    with timed("loop, float32", len(paths)):
        for path in paths:
            inputs = processor(images=Image.open(path).convert("RGB"), return_tensors="pt")
            output = model.generate(**inputs, max_new_tokens=tokens)
            processor.decode(output[0], skip_special_tokens=True)


def ours(folder: Path, records: list[gv.Record], tokens: int, dtype: str, out: Path) -> None:
    options = gv.GenerationOptions(max_new_tokens=tokens)
    captioner = gv.load_captioner(folder, device="cpu", dtype=dtype, options=options)
    with timed(f"geovlm.caption, {dtype}", len(records)):
        pairs = gv.caption(records, captioner, out=out, progress=False)
    assert pairs.report.done == len(records), pairs.report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    records = list(islice(gv.FolderSource(arguments.images), arguments.count))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "blip"
        save_model(model)
        loop(model, [record.uri or "" for record in records], arguments.tokens)
        for dtype in ("float32", "bfloat16"):
            ours(model, records, arguments.tokens, dtype, Path(folder) / dtype)


if __name__ == "__main__":
    main()
