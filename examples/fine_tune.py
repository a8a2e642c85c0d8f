"""Fine-tune an encoder on your own pairs, and see what it gained and what it forgot.

    python examples/fine_tune.py
    python examples/fine_tune.py captions.json --encoder skyclip-vit-b-32
    python examples/fine_tune.py captions.json --encoder epoch_20.pt --architecture ViT-B-32 --lora-rank 8
    torchrun --nproc-per-node 8 examples/fine_tune.py captions.json --encoder skyclip-vit-l-14 --batch-size 4096

The table (CSV, Parquet, JSON lines, or JSON in Karpathy's form) names images and captions; where it has a column
`split`, its parts are used, elsewhere a tenth of the rows is held out. Without a table, scenes are drawn. Without
`--encoder` it rehearses: a checkpoint in SkyCLIP's format with a tiny model and random weights is written and tuned,
which shows the way and proves nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import geovlm as gv
from geovlm.testing.scenes import write_scenes

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 96, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 96, "heads": 3, "layers": 2},
}


def rehearsal(folder: Path) -> gv.Encoder:
    """A checkpoint as open_clip's training writes it and SkyCLIP is published, loaded as such a file is."""
    import open_clip
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny-clip.json").write_text(json.dumps(TINY), encoding="utf-8")
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip", require_pretrained=False)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 20, "name": "tiny", "state_dict": state}, folder / "epoch_20.pt")
    return gv.load_encoder(folder / "epoch_20.pt", architecture="tiny-clip")


def drawn(folder: Path) -> tuple[gv.ImageSource, gv.ImageSource]:
    """Synthetic scenes, whose tags make their captions."""
    scenes = gv.TableSource(write_scenes(folder / "synthetic", 300))
    return gv.caption(scenes, gv.TagCaptioner(), out=folder / "pairs").split(val=0.1, seed=0)


def read(table: Path, *, limit: int | None) -> tuple[gv.ImageSource, gv.ImageSource]:
    """Pairs to train on and pairs held out."""
    try:
        train, val = list(gv.TableSource(table, split="train")), list(gv.TableSource(table, split="val"))
    except gv.UsageError:  # there is no column of that name
        rows = list(gv.TableSource(table))
        train, val = [row for at, row in enumerate(rows) if at % 10], rows[::10]
    return train[:limit], val[:limit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?", help="images and captions")
    parser.add_argument("--out", type=Path, default=Path("runs/fine-tune"), help="where everything goes")
    parser.add_argument("--encoder", help="a preset, an open_clip or Hugging Face name, or a path")
    parser.add_argument("--architecture", help="of a checkpoint that does not say it")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=None, help="1e-5; 1e-3 in a rehearsal")
    parser.add_argument("--lora-rank", type=int, help="train adapters of this rank instead of all weights")
    parser.add_argument("--limit", type=int, help="use only so many pairs of each part")
    arguments = parser.parse_args()

    train, val = read(arguments.table, limit=arguments.limit) if arguments.table else drawn(arguments.out)
    if arguments.encoder is None:
        base = rehearsal(arguments.out / "rehearsal")
    else:
        base = gv.load_encoder(arguments.encoder, architecture=arguments.architecture)
    config = gv.TrainingConfig(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate or (1e-3 if arguments.encoder is None else 1e-5),
        lora_rank=arguments.lora_rank,
        # Random weights are no base to go back to.
        interpolation=arguments.encoder is not None,
    )
    result = gv.ContrastiveTrainer(base, config).fit(train, val=val, out=arguments.out / "run")
    print(result.data)
    print(result.report)
    print(f"The encoder is in {result.path / 'encoder'}: load_encoder() and open_clip read it.")


if __name__ == "__main__":
    main()
