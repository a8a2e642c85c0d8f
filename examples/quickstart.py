"""The whole loop in one run: caption, split, fine-tune, embed, query, and a page with the answers.

Without arguments it works on synthetic scenes (drawn, not photographed) with a small model trained from scratch: no
key, no weights and no network are needed. With your own images and weights:

    python examples/quickstart.py --data scenes/ --encoder skyclip-vit-b-32 --captioner blip-base
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import geovlm as gv
from geovlm.testing.scenes import write_scenes

if TYPE_CHECKING:
    from collections.abc import Iterable

QUERIES = ("storage tanks beside a river", "red roofs and trees", "a tennis court", "solar panels in the desert")

# A small CLIP (Radford et al. 2021) that learns from nothing in a minute on two cores.
SMALL_CLIP = {
    "embed_dim": 128,
    "vision_cfg": {
        "timm_model_name": "test_resnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    },
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}


def choose(arguments: argparse.Namespace) -> tuple[Iterable[gv.Record], gv.Captioner, gv.Encoder, gv.TrainingConfig]:
    """The person's own images and weights where they are given, synthetic scenes and a new model elsewhere."""
    source: Iterable[gv.Record]
    captioner: gv.Captioner
    if arguments.data is None:
        print(f"Drawing {arguments.scenes} synthetic scenes: what follows shows the machinery, not the Earth.")
        source = gv.TableSource(write_scenes(arguments.out / "synthetic", arguments.scenes))
        captioner = gv.TagCaptioner()
    else:
        source = gv.FolderSource(arguments.data)
        captioner = gv.TagCaptioner() if arguments.captioner is None else gv.load_captioner(arguments.captioner)
    if arguments.encoder is None:
        encoder = gv.new_encoder(SMALL_CLIP, seed=0)
        config = gv.TrainingConfig(epochs=arguments.epochs or 12, learning_rate=1e-3, batch_size=64, warmup=0.1)
    else:
        encoder = gv.load_encoder(arguments.encoder)
        config = gv.TrainingConfig(epochs=arguments.epochs or 3)
    return source, captioner, encoder, config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="where everything goes")
    parser.add_argument("--data", type=Path, help="a folder of your own images; class folders give labels")
    parser.add_argument("--encoder", help="a preset, an open_clip or Hugging Face name, or a path")
    parser.add_argument("--captioner", help="for images without class folders: blip-base, or a path")
    parser.add_argument("--query", action="append", help="what to look for; may be repeated")
    parser.add_argument("--scenes", type=int, default=800, help="how many synthetic scenes to draw")
    parser.add_argument("--epochs", type=int, help="epochs of training")
    arguments = parser.parse_args()

    started = time.monotonic()
    source, captioner, encoder, config = choose(arguments)
    workflow = gv.Workflow(
        out=arguments.out / "run",
        encoder=encoder,
        caption=gv.CaptionAgent(captioner=captioner),
        data=gv.DataAgent(val=0.2),
        training=gv.TrainingAgent(config=config),
    )
    result = workflow.run(source, queries=arguments.query or QUERIES)

    print(f"\n{result}\n")
    if result.training is not None:
        print(result.training.report)
    for record in result.pairs.sample(3):
        print(f"{record.id}: {record.captions[0]}")
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open {result.page}")


if __name__ == "__main__":
    try:
        main()
    except gv.GeovlmError as error:
        sys.exit(f"{type(error).__name__}: {error}")
