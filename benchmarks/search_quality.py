"""What templates, feedback, diversity and contrast do to a search, on published embeddings of WHU-RS19.

    python benchmarks/search_quality.py shared/data/clip_reference_embeddings [--out search_quality.json]

The 1,005 scenes of 19 classes are put into an index, and each class name is a query; a scene is right if it is of that
class. The vectors of scenes and prompts are those published with RS-TransCLIP for OpenAI's CLIP ViT-B/32 and for
SkyCLIP50 ViT-B/32; no model runs here. All figures are means over the 19 queries, in percent unless said. P@10 is the
share of right ones among the first ten, AP the average precision over all scenes.

- *Templates*: one prompt, each of the 106 by itself, against `templates=` with all 106.
- *Feedback*: one round. A user goes down the list and marks the first 1, 3 or 5 right scenes (`more`), and in another
  run as many of the first wrong ones (`less`). The marked scenes are taken out before both rounds are measured, the
  first one again for each row, so that nothing is won by showing what was marked. Weights are the textbook's; that
  wrong scenes alone are weighed against their peers was found here, with both models and ten to a hundred peers.
- *Diversity*: ten hits for each share. "Likeness" is the mean cosine between two hits; "reach" is the mean, over all
  scenes of the class, of the cosine with the nearest right hit. For queries that mean several classes (the mean vector
  of their names) "classes" counts those among the right hits.
- *Contrast*: pairs of all queries with all scenes in one list, ordered by cosine or by the probability against the
  other 18 names: its AP says how well one threshold serves all queries. Then, of the hits with a probability of 0.5 or
  more, the share that is right, and the share of the right ones that they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from geovlm import Index
from geovlm._vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from geovlm import Hits
    from geovlm.protocols import Vectors

SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
MARKS = (1, 3, 5)
SHOWN = 10
TOPICS = {
    "water": ("beach", "pond", "port", "river"),
    "built": ("commercial", "industrial", "parking", "railway station", "residential"),
    "nature": ("desert", "farmland", "forest", "meadow", "mountain"),
}


@frozen(kw_only=True)
class Published:
    """An encoder that looks its vectors up."""

    name: str
    dim: int
    vectors: dict[str, Any]
    logit_scale: float = 100.0

    @property
    def fingerprint(self) -> str:
        """Of the model."""
        return self.name

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """The vectors of texts that are among the published."""
        return np.stack([self.vectors[text] for text in texts])

    def encode_images(self, images: Sequence[Any]) -> Vectors:
        """Not here."""
        raise NotImplementedError


@frozen(kw_only=True)
class Scenes:
    """One model's index of all scenes."""

    index: Index
    classes: list[str]
    labels: list[str]
    images: Vectors
    templates: tuple[str, ...]

    def right(self, query: str) -> set[str]:
        """The ids of the scenes of a class."""
        return {scene_id(row) for row, label in enumerate(self.labels) if label == query}

    def all(self, query: str, **options: Any) -> Hits:
        """Every scene, ranked."""
        return self.index.search(query, limit=len(self.labels), **({"templates": self.templates} | options))


def scene_id(row: int) -> str:
    return f"{row:04d}"


def load(path: Path) -> Scenes:
    data = np.load(path, allow_pickle=False)
    classes = [str(name) for name in data["class_names"]]
    templates = tuple(f"{prompt} {{}}." for prompt in data["prompts"] if prompt != "averageprompt")
    texts = {
        template.replace("{}", name): unit_rows(data["text_embeddings"][place])[number]
        for place, template in enumerate(templates)
        for number, name in enumerate(classes)
    }
    images = unit_rows(data["image_embeddings"])
    index = Index(Published(name=path.stem, dim=images.shape[1], vectors=texts))
    index.store.upsert([scene_id(row) for row in range(len(images))], images)
    labels = [classes[label] for label in data["labels"]]
    return Scenes(index=index, classes=classes, labels=labels, images=images, templates=templates)


def average_precision(is_right: Sequence[bool] | NDArray[np.bool_]) -> float:
    right = np.asarray(is_right, dtype=bool)
    return float((np.cumsum(right)[right] / (np.flatnonzero(right) + 1)).mean())


def measured(hits: Sequence[Any], right: set[str], without: Collection[str] = ()) -> tuple[float, float]:
    """P@10 and AP of a ranking, some scenes taken out."""
    is_right = [hit.id in right for hit in hits if hit.id not in without]
    return float(np.mean(is_right[:SHOWN])), average_precision(is_right)


def mean(rows: Sequence[Sequence[Any]]) -> list[float]:
    return [float(value) for value in np.mean(rows, axis=0)]


def templates(scenes: Scenes) -> list[dict[str, Any]]:
    each = np.array([mean([alone(scenes, one, name) for name in scenes.classes]) for one in scenes.templates])
    together = mean([measured(scenes.all(name), scenes.right(name)) for name in scenes.classes])
    rows = [("one prompt, mean", each.mean(axis=0)), ("one prompt, worst", each.min(axis=0))]
    rows += [("one prompt, best", each.max(axis=0)), ("all 106", together)]
    return [{"query": name, "P@10": 100 * values[0], "mAP": 100 * values[1]} for name, values in rows]


def alone(scenes: Scenes, template: str, name: str) -> tuple[float, float]:
    """P@10 and AP of one prompt, by a plain product: two thousand searches would take minutes."""
    (query,) = scenes.index.encoder.encode_texts([template.replace("{}", name)])
    is_right = [scenes.labels[row] == name for row in np.argsort(-(scenes.images @ query), kind="stable")]
    return float(np.mean(is_right[:SHOWN])), average_precision(is_right)


def feedback(scenes: Scenes) -> list[dict[str, Any]]:
    rows = []
    for count in MARKS:
        for kinds in (("more",), ("less",), ("more", "less")):
            results, depths = [], []
            for name in scenes.classes:
                before, right = scenes.all(name), scenes.right(name)
                chosen = {
                    "more": [hit for hit in before if hit.id in right][:count],
                    "less": [hit for hit in before if hit.id not in right][:count],
                }
                marked = {kind: chosen[kind] for kind in kinds}
                ids = {hit.id for hits in marked.values() for hit in hits}
                depths.append(max(place for place, hit in enumerate(before, 1) if hit.id in ids))
                after = scenes.all(name, **marked)
                results.append((*measured(before, right, ids), *measured(after, right, ids)))
            values = [100 * value for value in mean(results)]
            rows.append(
                {
                    "marked": " and ".join(f"{count} {kind}" for kind in kinds),
                    "seen to mark": float(np.median(depths)),
                    **dict(zip(("P@10 before", "mAP before", "P@10 after", "mAP after"), values, strict=True)),
                    "queries made worse": sum(after < before for _, before, _, after in results),
                }
            )
    return rows


def diversity(scenes: Scenes) -> list[dict[str, Any]]:
    return [{"diversity": share} | one_class(scenes, share) | topics(scenes, share) for share in SHARES]


def one_class(scenes: Scenes, share: float) -> dict[str, float]:
    rows = []
    for name in scenes.classes:
        right = scenes.right(name)
        hits = scenes.index.search(name, limit=SHOWN, diversity=share, templates=scenes.templates)
        found = scenes.images[[int(hit.id) for hit in hits]]
        likeness = (found @ found.T)[np.triu_indices(len(found), 1)].mean()
        good = scenes.images[[int(hit.id) for hit in hits if hit.id in right]]
        of_class = scenes.images[sorted(map(int, right))]
        reach = (of_class @ good.T).max(axis=1).mean() if len(good) else 0.0
        rows.append((100 * np.mean([hit.id in right for hit in hits]), likeness, reach))
    return dict(zip(("P@10", "likeness", "reach"), mean(rows), strict=True))


def topics(scenes: Scenes, share: float) -> dict[str, float]:
    rows = []
    for names in TOPICS.values():
        prompts = [template.replace("{}", name) for name in names for template in scenes.templates]
        query = scenes.index.encoder.encode_texts(prompts).mean(axis=0)
        hits = scenes.index.search(query, limit=SHOWN, diversity=share)
        found = [scenes.labels[int(hit.id)] for hit in hits]
        rows.append((100 * np.mean([label in names for label in found]), len(set(found) & set(names))))
    return dict(zip(("P@10 of topics", "classes of topics"), mean(rows), strict=True))


def contrast(scenes: Scenes) -> list[dict[str, Any]]:
    cosines, shares, truth = [], [], []
    for name in scenes.classes:
        right = scenes.right(name)
        for hit in scenes.all(name, against=[other for other in scenes.classes if other != name]):
            cosines.append(hit.score)
            shares.append(hit.probability)
            truth.append(hit.id in right)
    is_right, sure = np.array(truth), np.array(shares) >= 0.5
    rows = []
    for kind, scores in (("cosine", cosines), ("probability", shares)):
        order = np.argsort(-np.array(scores), kind="stable")
        rows.append({"one list by": kind, "AP": 100 * average_precision(is_right[order])})
    rows[1]["right of those from 0.5"] = 100 * float(is_right[sure].mean())
    rows[1]["from 0.5 of the right"] = 100 * float(sure[is_right].mean())
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([shown(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 10
        else f"{value:.1f}"
        if isinstance(value, float)
        else str(value)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("search_quality.json"))
    chosen = parser.parse_args()
    results: dict[str, Any] = {}
    for path in sorted(chosen.folder.glob("whu_rs19__*.npz")):
        scenes = load(path)
        results[path.stem] = {}
        print(f"\n## {path.stem}")
        for part in (templates, feedback, diversity, contrast):
            rows = results[path.stem][part.__name__] = part(scenes)
            print(f"\n{part.__name__}\n\n{table(rows)}", flush=True)
    chosen.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
