"""Published figures on the SkyScript protocol, to stand beside measured ones: a table, no code.

Percent. Only rows that were made with the same prompts, images and counting are here; figures with other prompts cannot
be compared with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from geovlm.evaluation.benchmark_sets import EIGHT_SETS, SEVEN_SETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PUBLISHED", "PublishedRow"]

SKYSCRIPT = "SkyScript, AAAI 2024"
FARSLIP = "FarSLIP, 2025"
DOFA = "DOFA-CLIP, 2025"
SCENES = EIGHT_SETS
FINE = ("roof_shape", "smoothness", "surface")
CAPTIONS = ("RSICD", "RSITMD", "UCM-captions")


@frozen(kw_only=True)
class PublishedRow:
    """One model in one table of one paper.

    Args:
        model: As the paper calls it.
        architecture: Its image tower, such as `"ViT-B-32"`; DOFA-CLIP's are its own.
        source: The paper and the table.
        accuracy: Top-1 by set, in percent.
        recall: Mean recall image to text and text to image by set, in percent.
        printed_mean: The mean that the paper prints, if it does.
        printed_over: The sets that mean is over.
        in_domain: Sets whose images, or others from the same collection, the model was trained on.
        preset: The name under which `load_encoder` has the very same weights.
        note: What else must be known.

    Examples:
        >>> accuracy = {"AID": 60.0, "EuroSAT": 40.0}
        >>> row = PublishedRow(model="CLIP", architecture="ViT-B-32", source="a paper", accuracy=accuracy)
        >>> row.value("AID"), row.mean(["AID", "EuroSAT"])
        (60.0, 50.0)
    """

    model: str
    architecture: str
    source: str
    accuracy: Mapping[str, float] = field(factory=dict)
    recall: Mapping[str, tuple[float, float]] = field(factory=dict)
    printed_mean: float | None = None
    printed_over: tuple[str, ...] = ()
    in_domain: frozenset[str] = frozenset()
    preset: str | None = None
    note: str = ""

    def value(self, name: str) -> float | None:
        """The figure for one set: accuracy, or the mean of both directions' mean recall."""
        if name in self.recall:
            return sum(self.recall[name]) / 2
        return self.accuracy.get(name)

    def mean(self, names: Iterable[str]) -> float | None:
        """The mean over sets, from the figures of each; `None` if one is not published."""
        values = [self.value(name) for name in names]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None


# What each was trained on, as its authors tell. RSICD's images are scenes of AID.
_SKY = frozenset({"SkyScript_cls"})
_REMOTE = frozenset({"AID", *CAPTIONS})
_RS5M = frozenset({"fMoW", "Million-AID"})
_SKY_PRESETS = {
    ("SkyCLIP-30", "ViT-L-14"): "skyclip-vit-l-14-top30",
    ("SkyCLIP-50", "ViT-L-14"): "skyclip-vit-l-14-top50",
    ("SkyCLIP-50", "ViT-B-32"): "skyclip-vit-b-32",
    ("CLIP-laion-RS", "ViT-L-14"): "clip-laion-rs-vit-l-14",
}


def _training(model: str) -> frozenset[str]:
    for start, sets in {"Sky": _SKY, "RemoteCLIP": _REMOTE, "GeoRSCLIP": _RS5M, "FarSLIP": _RS5M}.items():
        if model.startswith(start):
            return sets
    return frozenset()


def _table_2(architecture: str, model: str, *figures: float) -> PublishedRow:
    """Eight sets, the printed mean over seven, three fine-grained sets."""
    return PublishedRow(
        model=model,
        architecture=architecture,
        source=f"{SKYSCRIPT}, table 2",
        accuracy=dict(zip((*SCENES, *FINE), (*figures[:8], *figures[9:]), strict=True)),
        printed_mean=figures[8],
        printed_over=SEVEN_SETS,
        in_domain=_training(model),
        preset=_SKY_PRESETS.get((model, architecture)),
    )


def _table_3(model: str, *figures: tuple[float, float], preset: str | None = None) -> PublishedRow:
    return PublishedRow(
        model=model,
        architecture="ViT-L-14",
        source=f"{SKYSCRIPT}, table 3",
        recall=dict(zip(CAPTIONS, figures, strict=True)),
        in_domain=_training(model) - {"AID"},
        preset=preset,
    )


def _farslip(
    architecture: str,
    model: str,
    *figures: float,
    recall: tuple[tuple[float, float], ...],
    in_domain: Iterable[str] = (),
) -> PublishedRow:
    """Eight sets, the printed mean over eight, three retrieval sets."""
    return PublishedRow(
        model=model,
        architecture=architecture,
        source=FARSLIP,
        accuracy=dict(zip(SCENES, figures[:8], strict=True)),
        recall=dict(zip(CAPTIONS, recall, strict=True)),
        printed_mean=figures[8],
        printed_over=EIGHT_SETS,
        in_domain=_training(model) | frozenset(in_domain),
        preset="skyclip-vit-b-32" if (model, architecture) == ("SkyCLIP", "ViT-B-32") else None,
    )


def _dofa(architecture: str, model: str, *figures: float) -> PublishedRow:
    return PublishedRow(
        model=model,
        architecture=architecture,
        source=DOFA,
        accuracy=dict(zip((*SCENES, *FINE), (*figures[:8], *figures[9:]), strict=True)),
        printed_mean=figures[8],
        printed_over=EIGHT_SETS,
        note="Its table prints this mean over 8 sets beside SkyCLIP's over 7.",
    )


_B32, _B16, _L14 = "ViT-B-32", "ViT-B-16", "ViT-L-14"

# fmt: off
PUBLISHED: tuple[PublishedRow, ...] = (
    _table_2(_B32, "CLIP (laion2b_e16)",
             40.16, 69.55, 32.11, 17.62, 57.27, 64.09, 65.71, 41.26, 49.66, 31.50, 26.80, 61.36),
    _table_2(_B32, "CLIP, human captions",
             40.03, 71.05, 33.85, 18.02, 57.48, 66.56, 66.04, 42.73, 50.82, 28.50, 27.80, 60.91),
    _table_2(_B32, "RemoteCLIP", 27.06, 87.05, 30.74, 11.13, 46.26, 56.05, 67.88, 44.55, 49.09, 30.50, 21.00, 43.86),
    _table_2(_B32, "CLIP-laion-RS", 40.77, 69.55, 37.63, 19.16, 56.59, 64.79, 64.63, 41.79, 50.59, 28.83, 27.60, 62.27),
    _table_2(_B32, "SkyCLIP-50", 52.98, 70.90, 33.30, 19.24, 62.69, 72.18, 66.67, 46.20, 53.02, 26.00, 38.00, 67.73),
    _table_2(_L14, "CLIP (OpenAI)", 55.06, 69.25, 41.89, 26.19, 57.88, 71.39, 66.70, 43.02, 53.76, 37.50, 25.40, 42.73),
    _table_2(_L14, "CLIP, human captions",
             56.09, 72.95, 41.96, 26.33, 58.47, 74.86, 68.70, 44.60, 55.41, 37.00, 26.60, 40.00),
    _table_2(_L14, "RemoteCLIP", 34.40, 70.85, 27.81, 16.77, 47.20, 61.91, 74.31, 50.79, 49.95, 34.33, 34.20, 55.45),
    _table_2(_L14, "CLIP-laion-RS", 58.81, 71.70, 54.30, 27.21, 60.77, 72.68, 71.21, 48.21, 57.87, 40.50, 37.60, 53.41),
    _table_2(_L14, "SkyCLIP-20", 67.94, 71.95, 53.63, 28.04, 65.68, 78.62, 70.70, 50.03, 59.81, 44.83, 26.80, 61.36),
    _table_2(_L14, "SkyCLIP-30", 69.08, 72.15, 52.44, 27.77, 66.40, 79.67, 70.77, 50.19, 59.91, 46.17, 30.80, 64.32),
    _table_2(_L14, "SkyCLIP-50", 70.89, 71.70, 51.33, 27.12, 67.45, 80.88, 70.94, 50.09, 59.93, 46.83, 35.80, 67.50),
    PublishedRow(
        model="SkyCLIP-30, filtered by CLIP-laion-RS", architecture=_L14, source="SkyScript's README",
        printed_mean=60.69, printed_over=SEVEN_SETS, in_domain=_SKY, preset="skyclip-vit-l-14",
        note="Only the mean is published.",
    ),
    _table_3("CLIP (OpenAI)", (19.67, 13.84), (27.51, 24.10), (68.41, 56.76)),
    _table_3("CLIP-laion-RS", (22.66, 18.52), (30.24, 29.67), (69.68, 57.56), preset="clip-laion-rs-vit-l-14"),
    _table_3("RemoteCLIP", (36.32, 33.20), (43.95, 44.94), (79.05, 74.98)),
    _table_3(
        "SkyCLIP-30, multi-object captions", (23.70, 19.97), (30.75, 30.58), (72.22, 59.33),
        preset="skyclip-vit-l-14-multi-objects",
    ),
    _farslip(_B32, "CLIP (OpenAI)", 32.37, 58.00, 22.00, 15.61, 51.62, 52.97, 54.82, 29.92, 39.66,
             recall=((16.3, 12.8), (24.7, 22.4), (53.2, 42.5))),
    _farslip(_B32, "RemoteCLIP", 27.67, 88.10, 28.52, 11.15, 45.50, 55.95, 69.10, 43.91, 46.24,
             recall=((33.7, 28.1), (45.7, 42.8), (77.1, 73.5))),
    _farslip(_B32, "SkyCLIP", 52.92, 70.90, 33.33, 19.23, 62.72, 72.19, 66.63, 46.20, 53.02,
             recall=((21.2, 19.7), (29.1, 30.1), (66.7, 58.7))),
    _farslip(_B32, "GeoRSCLIP", 51.92, 69.75, 41.33, 37.14, 71.60, 77.00, 69.90, 46.93, 58.20,
             recall=((26.3, 22.0), (32.5, 31.9), (67.9, 61.5))),
    _farslip(_B32, "FarSLIP-s1", 51.51, 73.80, 49.26, 34.49, 69.42, 74.69, 69.93, 46.00, 58.64,
             recall=((25.9, 21.7), (31.3, 32.8), (67.5, 59.7))),
    _farslip(_B32, "FarSLIP-s2", 53.79, 73.30, 49.30, 30.12, 72.05, 80.45, 67.77, 54.17, 60.12,
             recall=((26.8, 25.0), (31.9, 35.3), (67.8, 67.0))),
    _farslip(_B16, "CLIP (OpenAI)", 42.60, 65.85, 32.78, 19.85, 53.37, 63.82, 62.25, 33.56, 46.76,
             recall=((19.8, 13.4), (22.9, 23.4), (61.4, 47.5))),
    _farslip(_B16, "LRSCLIP", 55.73, 69.75, 44.52, 22.66, 67.76, 77.89, 74.28, 54.75, 58.42,
             recall=((29.7, 26.3), (39.4, 33.1), (79.5, 68.7)), in_domain=CAPTIONS),
    _farslip(_B16, "GeoRSCLIP", 55.33, 72.15, 54.59, 34.50, 67.27, 78.75, 72.32, 52.75, 60.96,
             recall=((27.0, 21.7), (34.0, 32.8), (68.6, 62.6))),
    _farslip(_B16, "FarSLIP-s1", 56.19, 73.30, 59.81, 34.60, 66.82, 78.85, 72.72, 52.80, 61.89,
             recall=((27.4, 21.9), (33.6, 32.9), (69.4, 61.7))),
    _farslip(_B16, "FarSLIP-s2", 57.98, 73.95, 55.52, 35.86, 68.04, 80.82, 71.49, 54.24, 62.24,
             recall=((27.4, 23.7), (33.5, 34.5), (70.6, 62.2))),
    _dofa("DOFA-B-224",
             "DOFA-CLIP", 70.39, 77.60, 52.30, 20.17, 64.91, 76.68, 67.21, 49.53, 59.85, 44.33, 20.00, 72.73),
    _dofa("DOFA-L-384",
             "DOFA-CLIP", 76.83, 75.50, 59.04, 29.10, 70.16, 80.17, 73.15, 51.62, 64.45, 61.83, 26.00, 81.36),
)
# fmt: on
"""All rows. Means are computed from the figures of each set; a printed one is kept beside it."""
