"""How many wrong captions `curate` finds: AID's captions with a tenth of them exchanged for those of other scenes.

    python benchmarks/curate.py path/to/aid [--epochs 40] [--out curate.json]

A tenth of all captions is drawn, and each gets the place of another of these, at a scene of another class. No caption
is scored by a model that was trained on it: half of the scenes, wrong captions included, train the small model of
`examples/train_aid.py`, which scores the other half, and the other way round. Then the tenth and the fifth with the
lowest score is dropped, by

- *cosine*: of image and caption alone, the plain CLIP score;
- *curate*: as `geovlm.curate` scores, with the image's other captions;
- *curate, rotations*: the same with `rotations`.

*caught* is the share of the exchanged captions that is dropped, *lost* the share of the others. A second table does it
with all captions of a tenth of the scenes exchanged together, where an image's other captions are as wrong.
"""

from __future__ import annotations

import argparse
import json
import runpy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

import geovlm as gv
from geovlm.curation._match import match

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "train_aid.py"
SHARES = (0.1, 0.2)


def exchange(places: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each drawn place another of them, of another class."""
    order = rng.permutation(len(places))
    while (same := np.flatnonzero(classes[places] == classes[places[order]])).size:
        for place in same:
            other = rng.integers(len(places))
            order[[place, other]] = order[[other, place]]
    return places[order]


def spoil(
    scenes: list[gv.Record], *, whole: bool, rng: np.random.Generator
) -> tuple[list[gv.Record], list[np.ndarray]]:
    """Scenes with a tenth of the captions exchanged, and which these are."""
    classes = np.array([scene.label for scene in scenes])
    captions = [list(scene.captions) for scene in scenes]
    wrong = [np.zeros(len(texts), dtype=bool) for texts in captions]
    if whole:
        places = rng.choice(len(scenes), len(scenes) // 10, replace=False)
        taken = [captions[other] for other in exchange(places, classes, rng)]
        for place, texts in zip(places, taken, strict=True):
            captions[place], wrong[place] = texts, np.ones(len(texts), dtype=bool)
    else:
        owner = np.repeat(np.arange(len(scenes)), [len(texts) for texts in captions])
        number = np.concatenate([np.arange(len(texts)) for texts in captions])
        places = rng.choice(len(owner), len(owner) // 10, replace=False)
        others = exchange(places, classes[owner], rng)
        taken = [captions[owner[other]][number[other]] for other in others]
        for place, text in zip(places, taken, strict=True):
            captions[owner[place]][number[place]] = text
            wrong[owner[place]][number[place]] = True
    return [scene.with_captions(texts) for scene, texts in zip(scenes, captions, strict=True)], wrong


def score(train: list[gv.Record], held_out: list[gv.Record], epochs: int) -> dict[str, np.ndarray]:
    """The scores of held-out captions by a model that learned from the others."""
    example = runpy.run_path(str(EXAMPLE))
    encoder = gv.new_encoder(example["SMALL_CLIP"], preprocess={"interpolation": "bilinear"})
    with tempfile.TemporaryDirectory() as folder:
        trainer = gv.ContrastiveTrainer(encoder, evolve(example["CONFIG"], epochs=epochs))
        tuned = trainer.fit(train, out=folder, progress=False).encoder
    data = gv.Dataset.from_records(held_out)
    texts = [text for scene in held_out for text in scene.captions]
    owner = np.repeat(np.arange(len(held_out)), [len(scene.captions) for scene in held_out])
    _, images = gv.embed(held_out, tuned, progress=False).to_numpy()
    found = {"cosine": np.einsum("md,md->m", images[owner], tuned.encode_texts(texts))}
    for name, rotations in (("curate", False), ("curate, rotations", True)):
        found[name] = match(
            data, texts, owner, tuned, rotations=rotations, out=None, batch_size=64, progress=False
        ).scores
    return found


def measure(scenes: list[gv.Record], *, whole: bool, epochs: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    spoilt, wrong = spoil(scenes, whole=whole, rng=rng)
    half = rng.permutation(len(scenes)) % 2 == 0
    rows: dict[str, list[tuple[float, float]]] = {}
    for side in (half, ~half):
        train = [scene for scene, is_out in zip(spoilt, side, strict=True) if not is_out]
        held_out = [scene for scene, is_out in zip(spoilt, side, strict=True) if is_out]
        is_wrong = np.concatenate([each for each, is_out in zip(wrong, side, strict=True) if is_out])
        for name, values in score(train, held_out, epochs).items():
            for share in SHARES:
                low = values < np.sort(values)[int(share * len(values))]
                rows.setdefault(f"{name}|{share}", []).append(
                    (float(low[is_wrong].mean()), float(low[~is_wrong].mean()))
                )
    return {key: [round(float(part), 4) for part in np.mean(pairs, axis=0)] for key, pairs in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with captions.json and the images")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    captions = arguments.data / "captions.json"
    scenes = [scene for split in ("train", "val", "test") for scene in gv.TableSource(captions, split=split)]
    figures = {}
    for title, whole in (("single captions", False), ("all captions of a scene", True)):
        figures[title] = measure(scenes, whole=whole, epochs=arguments.epochs, seed=arguments.seed)
        print(f"\n{title} exchanged, {len(scenes)} scenes\n")
        print("| score | dropped | caught | lost |\n| --- | --- | --- | --- |")
        for key, (caught, lost) in figures[title].items():
            name, share = key.split("|")
            print(f"| {name} | {float(share):.0%} | {caught:.1%} | {lost:.1%} |", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
