"""Sort images by classes that you name, without training on them: each image by itself, then all at once.

    python examples/zero_shot.py
    python examples/zero_shot.py scenes/ --encoder skyclip-vit-b-32 --classes Airport "Bare land" Farmland Port

With a folder a class, the folders' names are the classes if none are given, and the accuracy is told. Without a folder,
scenes are drawn; without `--encoder`, a small one is trained in a minute on other drawn scenes, and knows no others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import geovlm as gv
from geovlm.testing.scenes import write_scenes

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


def drawn(folder: Path, *, scenes: int, seed: int) -> gv.ImageSource:
    """Synthetic scenes with the label of what is drawn first."""
    return gv.TableSource(write_scenes(folder, scenes, seed=seed))


def trained(folder: Path, *, epochs: int) -> gv.Encoder:
    """A small encoder that has seen drawn scenes with captions made of their tags."""
    pairs = gv.caption(drawn(folder / "to-learn", scenes=400, seed=1), gv.TagCaptioner(), out=folder / "pairs")
    config = gv.TrainingConfig(epochs=epochs, learning_rate=1e-3, batch_size=64, warmup=0.1)
    return gv.ContrastiveTrainer(gv.new_encoder(SMALL_CLIP, seed=0), config).fit(pairs, out=folder / "train").encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="images; folders in it are classes")
    parser.add_argument("--encoder", help="a preset, a folder, a checkpoint")
    parser.add_argument("--classes", nargs="+")
    parser.add_argument("--templates", default="overhead", help="a set of prompts: see geovlm.prompts.TEMPLATES")
    parser.add_argument("--out", type=Path, default=Path("runs/zero-shot"), help="where everything goes")
    parser.add_argument("--epochs", type=int, default=10, help="of the small encoder's training")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    encoder = gv.load_encoder(arguments.encoder) if arguments.encoder else trained(out, epochs=arguments.epochs)
    scenes = gv.FolderSource(arguments.folder) if arguments.folder else drawn(out / "scenes", scenes=200, seed=2)
    for method in ("inductive", "transductive"):
        found = gv.zero_shot(encoder, scenes, classes=arguments.classes, templates=arguments.templates, method=method)
        print(f"{method}: {found}")
    found.to_pandas().to_csv(out / "classes.csv", index=False)
    print(f"The class of every image is in {out / 'classes.csv'}.")


if __name__ == "__main__":
    main()
