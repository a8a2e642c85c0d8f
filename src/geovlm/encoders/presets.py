"""Published encoders by short name: a table, no code.

What is in it was read in the authors' repositories, model cards and papers, and in open_clip's own table, which a test
holds it against. Hashes are there where they were published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from geovlm.encoders._preset import HALF, HUB, Preset
from geovlm.encoders._probe import Probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from geovlm.encoders._preset import Activation

__all__ = ["PRESETS", "Preset", "presets_table"]

SETS = ("SkyScript", "AID", "EuroSAT", "fMoW", "Million-AID", "PatternNet", "RESISC45", "RSI-CB")


def _scores(*values: float) -> dict[str, float]:
    return dict(zip(SETS, values, strict=True))


TABLE_2 = "SkyScript paper, Table 2: SkyScript's prompts"
FARSLIP = "FarSLIP repository: SkyScript's prompts"
GEORSCLIP = "GeoRSCLIP model card: its own prompts"
TRANSCLIP = "RS-TransCLIP repository: mean of 106 prompts"
OPEN_CLIP = "open_clip's table of results: CLIP_benchmark's prompts"

# --- SkyCLIP ---
# The L/14 models started from OpenAI's weights, which compute QuickGELU; the B/32 model from LAION's: GELU.


def _sky(stem: str, trained_on: str, *, scores: Mapping[str, float], note: str = "") -> Preset:
    """Wang et al., "SkyScript: a large and semantically diverse vision-language dataset …", AAAI 2024."""
    return Preset(
        architecture="ViT-L-14-quickgelu",
        activation="quick_gelu",
        url=f"https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/ckpt/{stem}.zip",
        trained_on=trained_on,
        gsd=(0.1, 30.0),
        templates="skyscript",
        licence="MIT",
        paper="2312.12856",
        scores=scores,
        scores_from=TABLE_2 if scores else "",
        note=note,
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


# Numbers 0, 32, 64, … of published vectors, for prompts of theirs.
PROBE_TEXTS = (
    "a satellite photo of a airport.",
    "an aerial image of the farmland.",
    "a remote sensing image of many residential.",
)
SKYCLIP_B32_PROBE = Probe(
    texts=PROBE_TEXTS,
    vectors=(
        _numbers(
            "-0.0258 0.0002 -0.0376 0.0240 0.0501 0.0237 -0.0549 0.0829"
            " 0.0709 -0.1119 0.0295 -0.0582 0.0023 -0.0180 -0.0073 0.0782"
        ),
        _numbers(
            "-0.0454 -0.0298 -0.0258 0.0004 -0.0040 0.0257 -0.0195 0.0388"
            " 0.0166 -0.0488 0.0135 -0.0517 0.0384 0.0008 -0.0147 0.0481"
        ),
        _numbers(
            "-0.0173 -0.0341 -0.0437 -0.0235 -0.0207 0.0318 -0.0381 -0.0115"
            " 0.0142 -0.0511 -0.0041 -0.0294 0.0561 -0.0022 -0.0163 0.0673"
        ),
    ),
    source="embeddings that RS-TransCLIP published, computed by open_clip's ViT-B-32",
)
OPENAI_B32_PROBE = Probe(
    texts=PROBE_TEXTS,
    vectors=(
        _numbers(
            "-0.0115 0.0360 0.0240 0.0005 0.0484 -0.0035 -0.0340 0.0555"
            " -0.0086 0.0438 -0.0017 0.0641 0.0091 -0.0207 0.0192 0.0391"
        ),
        _numbers(
            "-0.0177 -0.0020 -0.0066 -0.0221 0.0152 -0.0062 0.0441 -0.0032"
            " -0.0417 0.0418 -0.0443 0.0590 -0.0316 0.0167 0.0058 0.0252"
        ),
        _numbers(
            "-0.0010 0.0189 -0.0010 0.0115 0.0115 0.0274 0.0563 0.0379"
            " 0.0031 0.0022 0.0147 0.0305 0.0080 -0.0114 0.0027 0.0067"
        ),
    ),
    source="embeddings that RS-TransCLIP published, computed by OpenAI's own package",
)

SKYCLIP: Mapping[str, Preset] = {
    "skyclip-vit-l-14": _sky(
        "SkyCLIP_ViT_L14_top30pct_filtered_by_CLIP_laion_RS",
        "the 30 % of SkyScript that CLIP-laion-RS ranks first",
        scores={},
        note="the best mean of its authors: 60.69 over the seven sets without SkyScript's own",
    ),
    "skyclip-vit-l-14-top30": _sky(
        "SkyCLIP_ViT_L14_top30pct",
        "the 30 % of SkyScript that OpenAI's CLIP ranks first",
        scores=_scores(69.08, 72.15, 52.44, 27.77, 66.40, 79.67, 70.77, 50.19),
    ),
    "skyclip-vit-l-14-top50": _sky(
        "SkyCLIP_ViT_L14_top50pct",
        "the 50 % of SkyScript that OpenAI's CLIP ranks first",
        scores=_scores(70.89, 71.70, 51.33, 27.12, 67.45, 80.88, 70.94, 50.09),
    ),
    "skyclip-vit-l-14-multi-objects": _sky(
        "SkyCLIP_ViT_L14_top30pct_multi_objects",
        "30 % of SkyScript, captions that name several objects",
        scores={},
        note="the one to search with: mean recall RSICD 23.70 / 19.97, RSITMD 30.75 / 30.58, UCM 72.22 / 59.33",
    ),
    "skyclip-vit-b-32": evolve(
        _sky(
            "SkyCLIP_ViT_B32_top50pct",
            "the 50 % of SkyScript that OpenAI's CLIP ranks first",
            scores=_scores(52.98, 70.90, 33.30, 19.24, 62.69, 72.18, 66.67, 46.20),
        ),
        architecture="ViT-B-32",
        activation="gelu",
        probe=SKYCLIP_B32_PROBE,
    ),
    "clip-laion-rs-vit-l-14": _sky(
        "CLIP_ViT_L14_LAION_RS",
        "the 726,000 remote-sensing pairs of LAION-2B",
        scores=_scores(58.81, 71.70, 54.30, 27.21, 60.77, 72.68, 71.21, 48.21),
    ),
}

# --- RemoteCLIP, GeoRSCLIP, FarSLIP: fine-tuned from OpenAI's weights, so QuickGELU; GeoRSCLIP's H/14 from LAION's ---


def _remoteclip(model: str, *, scores: Mapping[str, float], note: str) -> Preset:
    """Liu et al., "RemoteCLIP: a vision language foundation model for remote sensing", TGRS 2024."""
    return Preset(
        architecture=f"{model}-quickgelu",
        activation="quick_gelu",
        url=f"{HUB}chendelong/RemoteCLIP/resolve/main/RemoteCLIP-{model}.pt",
        trained_on="17 data sets of captions, boxes and masks, all turned into captions",
        licence="Apache-2.0",
        paper="2306.11029",
        scores=scores,
        scores_from=TABLE_2 if scores else "",
        note=f"{note}; RSICD, RSITMD, UCM and parts of other sets are in its training data. Its retrieval script loads"
        " it with QuickGELU; many programs with GELU",
    )


def _georsclip(
    model: str, activation: Activation, *, size: int = 224, scores: Mapping[str, float], source: str, note: str
) -> Preset:
    """Zhang et al., "RS5M and GeoRSCLIP: a large-scale vision-language dataset …", TGRS 2024."""
    return Preset(
        architecture=f"{model}-quickgelu" if activation == "quick_gelu" else model,
        activation=activation,
        url=f"{HUB}Zilun/GeoRSCLIP/resolve/main/ckpt/RS5M_{model}.pt",
        image_size=size,
        trained_on="RS5M: 5 million pairs, captions partly by BLIP-2; fMoW, BigEarthNet and Million-AID images in it",
        licence="CC-BY-4.0 (data CC-BY-NC-4.0)",
        paper="2306.11300",
        scores=scores,
        scores_from=source,
        note=note,
    )


def _farslip(stage: int, model: str, *, scores: Mapping[str, float]) -> Preset:
    """Li et al., "FarSLIP: discovering effective CLIP adaptation for fine-grained remote sensing understanding"."""
    data = "RS5M" if stage == 1 else "RS5M, then MGRS-200k with long captions and objects"
    return Preset(
        architecture=f"{model}-quickgelu",
        activation="quick_gelu",
        url=f"{HUB}ZhenShiL/FarSLIP/resolve/main/FarSLIP{stage}_{model}.pt",
        trained_on=data,
        templates="skyscript",
        licence="MIT",
        paper="2511.14901",
        scores=scores,
        scores_from=FARSLIP,
        note="made for dense use: patches fit texts too. A Long-CLIP text tower (248 tokens), where the file has one,"
        " is read as it is",
    )


FINE_TUNED: Mapping[str, Preset] = {
    "remoteclip-rn50": _remoteclip("RN50", scores={}, note="a ResNet"),
    "remoteclip-vit-b-32": _remoteclip(
        "ViT-B-32",
        scores=_scores(27.06, 87.05, 30.74, 11.13, 46.26, 56.05, 67.88, 44.55),
        note="strong where it was trained, weak elsewhere",
    ),
    "remoteclip-vit-l-14": _remoteclip(
        "ViT-L-14",
        scores=_scores(34.40, 70.85, 27.81, 16.77, 47.20, 61.91, 74.31, 50.79),
        note="mean recall RSITMD 50.52, RSICD 36.35, UCM 54.68",
    ),
    "georsclip-vit-b-32": _georsclip(
        "ViT-B-32",
        "quick_gelu",
        scores=_scores(51.92, 69.75, 41.33, 37.14, 71.60, 77.00, 69.90, 46.93),
        source=FARSLIP,
        note="fMoW and Million-AID images are in its training data",
    ),
    "georsclip-vit-l-14": _georsclip(
        "ViT-L-14",
        "quick_gelu",
        scores={"AID": 74.4, "EuroSAT": 59.9, "RESISC45": 73.8},
        source=TRANSCLIP,
        note="its authors do not say what it started from: OpenAI's weights are assumed",
    ),
    "georsclip-vit-l-14-336": _georsclip(
        "ViT-L-14-336", "quick_gelu", size=336, scores={}, source="", note="larger pictures, slower"
    ),
    "georsclip-vit-h-14": _georsclip(
        "ViT-H-14",
        "gelu",
        scores={"AID": 76.33, "EuroSAT": 67.47, "RESISC45": 73.83},
        source=GEORSCLIP,
        note="the best public remote-sensing CLIP of these; needs a GPU",
    ),
    "farslip-vit-b-32-s1": _farslip(
        1, "ViT-B-32", scores=_scores(51.51, 73.80, 49.26, 34.49, 69.42, 74.69, 69.93, 46.00)
    ),
    "farslip-vit-b-32": _farslip(2, "ViT-B-32", scores=_scores(53.79, 73.30, 49.30, 30.12, 72.05, 80.45, 67.77, 54.17)),
    "farslip-vit-b-16-s1": _farslip(
        1, "ViT-B-16", scores=_scores(56.19, 73.30, 59.81, 34.60, 66.82, 78.85, 72.72, 52.80)
    ),
    "farslip-vit-b-16": _farslip(2, "ViT-B-16", scores=_scores(57.98, 73.95, 55.52, 35.86, 68.04, 80.82, 71.49, 54.24)),
}

# --- models of transformers ---


def _git_rsclip(name: str) -> Preset:
    """Liu et al., "Text2Earth: unlocking text-driven remote sensing image generation …", GRSM 2025."""
    return Preset(
        architecture="siglip",
        activation="gelu_tanh",
        url=f"{HUB}lcybuaa/{name}",
        format="transformers",
        image_size=256,
        mean=HALF,
        std=HALF,
        resize_mode="squash",
        trained_on="Git-10M: 10 million pairs with place and resolution",
        gsd=(0.5, 128.0),
        templates="remote-sensing",
        licence="Apache-2.0 (its repository: academic purposes only)",
        paper="2501.00895",
        note="SigLIP: 64 tokens of text, a sigmoid with a bias",
    )


TRANSFORMERS: Mapping[str, Preset] = {
    "git-rsclip-vit-b-16": _git_rsclip("Git-RSCLIP-base"),
    "git-rsclip-vit-l-16": _git_rsclip("Git-RSCLIP"),
    "clip-rsicd-vit-b-32": Preset(
        architecture="clip",
        activation="quick_gelu",
        url=f"{HUB}flax-community/clip-rsicd-v2",
        format="transformers",
        trained_on="RSICD, UCM-captions and Sydney-captions",
        licence="not stated",
        paper="",
        note="small and old; OpenAI's B/32 fine-tuned",
    ),
}

# --- web models, in the format of open_clip ---


def _web(
    architecture: str,
    tag: str,
    repo: str,
    *,
    trained_on: str,
    licence: str,
    paper: str,
    scores: tuple[float, float] | None = None,
) -> Preset:
    """A model of open_clip's own table; `scores` are EuroSAT and RESISC45."""
    return Preset(
        architecture=architecture,
        activation="quick_gelu" if architecture.endswith("quickgelu") else "gelu",
        url=f"{HUB}{repo}",
        format="open_clip",
        tag=tag,
        trained_on=trained_on,
        licence=licence,
        paper=paper,
        scores={} if scores is None else dict(zip(("EuroSAT", "RESISC45"), scores, strict=True)),
        scores_from=OPEN_CLIP if scores else "",
    )


def _openai(architecture: str, name: str, *, scores: tuple[float, float] | None = None) -> Preset:
    """Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021."""
    return _web(
        architecture,
        "openai",
        f"timm/{name}.openai",
        trained_on="400 million pairs of the web",
        licence="MIT",
        paper="2103.00020",
        scores=scores,
    )


def _datacomp(model: str, tag: str, repo: str, *, scores: tuple[float, float] | None = None) -> Preset:
    """Gadre et al., "DataComp: in search of the next generation of multimodal datasets", NeurIPS 2023."""
    return _web(
        model,
        tag,
        f"laion/CLIP-{repo}",
        trained_on="DataComp-1B: 1.4 billion pairs",
        licence="MIT",
        paper="2304.14108",
        scores=scores,
    )


def _dfn(model: str, tag: str, name: str, *, scores: tuple[float, float] | None = None) -> Preset:
    """Fang et al., "Data filtering networks", ICLR 2024."""
    return _web(
        f"{model}-quickgelu",
        tag,
        f"apple/{name}-CLIP-{model}",
        trained_on=f"{name[3:-1]} billion pairs that a network picked",
        licence="Apple Sample Code License",
        paper="2309.17425",
        scores=scores,
    )


def _laion(model: str, tag: str, repo: str, *, scores: tuple[float, float] | None = None) -> Preset:
    """Cherti et al., "Reproducible scaling laws for contrastive language-image learning", CVPR 2023."""
    return _web(
        model,
        tag,
        f"laion/CLIP-{model}-{repo}",
        trained_on="LAION-2B: 2.3 billion pairs",
        licence="MIT",
        paper="2212.07143",
        scores=scores,
    )


def _siglip2(architecture: str, size: int) -> Preset:
    """Tschannen et al., "SigLIP 2: multilingual vision-language encoders …", 2025."""
    return evolve(
        _web(
            architecture,
            "webli",
            f"timm/{architecture}",
            trained_on="WebLI: 10 billion pairs in 109 languages",
            licence="Apache-2.0",
            paper="2502.14786",
        ),
        activation="gelu_tanh",
        image_size=size,
        mean=HALF,
        std=HALF,
        resize_mode="squash",
        note="64 tokens of text, a sigmoid with a bias; no published remote-sensing scores",
    )


WEB: Mapping[str, Preset] = {
    "openai-vit-b-32": evolve(
        _openai("ViT-B-32-quickgelu", "vit_base_patch32_clip_224"),
        scores=_scores(32.37, 58.00, 22.00, 15.61, 51.62, 52.97, 54.82, 29.92),
        scores_from=FARSLIP,
        probe=OPENAI_B32_PROBE,
    ),
    "openai-vit-b-16": evolve(
        _openai("ViT-B-16-quickgelu", "vit_base_patch16_clip_224"),
        scores=_scores(42.60, 65.85, 32.78, 19.85, 53.37, 63.82, 62.25, 33.56),
        scores_from=FARSLIP,
    ),
    "openai-vit-l-14": evolve(
        _openai("ViT-L-14-quickgelu", "vit_large_patch14_clip_224"),
        scores=_scores(55.06, 69.25, 41.89, 26.19, 57.88, 71.39, 66.70, 43.02),
        scores_from=TABLE_2,
    ),
    "openai-vit-l-14-336": evolve(_openai("ViT-L-14-336-quickgelu", "vit_large_patch14_clip_336"), image_size=336),
    "datacomp-vit-b-32": _datacomp("ViT-B-32", "datacomp_xl_s13b_b90k", "ViT-B-32-DataComp.XL-s13B-b90K"),
    "datacomp-vit-b-32-256": evolve(
        _datacomp("ViT-B-32-256", "datacomp_s34b_b86k", "ViT-B-32-256x256-DataComp-s34B-b86K", scores=(64.7, 65.1)),
        image_size=256,
    ),
    "datacomp-vit-b-16": _datacomp(
        "ViT-B-16", "datacomp_xl_s13b_b90k", "ViT-B-16-DataComp.XL-s13B-b90K", scores=(58.8, 65.4)
    ),
    "datacomp-vit-l-14": _datacomp(
        "ViT-L-14", "datacomp_xl_s13b_b90k", "ViT-L-14-DataComp.XL-s13B-b90K", scores=(71.2, 69.4)
    ),
    "dfn-vit-b-16": _dfn("ViT-B-16", "dfn2b", "DFN2B"),
    "dfn-vit-l-14": _dfn("ViT-L-14", "dfn2b", "DFN2B", scores=(64.9, 73.3)),
    "dfn-vit-h-14": evolve(_dfn("ViT-H-14", "dfn5b", "DFN5B", scores=(65.5, 75.1)), resize_mode="squash"),
    "laion-vit-b-32": _laion("ViT-B-32", "laion2b_s34b_b79k", "laion2B-s34B-b79K"),
    "laion-vit-l-14": evolve(
        _laion("ViT-L-14", "laion2b_s32b_b82k", "laion2B-s32B-b82K", scores=(64.6, 66.9)), mean=HALF, std=HALF
    ),
    "laion-vit-h-14": _laion("ViT-H-14", "laion2b_s32b_b79k", "laion2B-s32B-b79K", scores=(72.8, 70.0)),
    "siglip2-vit-b-32-256": _siglip2("ViT-B-32-SigLIP2-256", 256),
    "siglip2-vit-b-16": _siglip2("ViT-B-16-SigLIP2", 224),
    "siglip2-vit-b-16-256": _siglip2("ViT-B-16-SigLIP2-256", 256),
    "siglip2-vit-l-16-256": _siglip2("ViT-L-16-SigLIP2-256", 256),
    "siglip2-vit-l-16-384": _siglip2("ViT-L-16-SigLIP2-384", 384),
    "siglip2-vit-so400m-16-384": _siglip2("ViT-SO400M-16-SigLIP2-384", 384),
}

PRESETS: dict[str, Preset] = {**SKYCLIP, **FINE_TUNED, **TRANSFORMERS, **WEB}
"""Short name → preset. `skyclip-vit-l-14` is the one with the best mean over the benchmarks of its authors."""


def presets_table() -> pd.DataFrame:
    """All presets, one a row, for reading.

    Examples:
        >>> table = presets_table()
        >>> table.loc["skyclip-vit-b-32", ["activation", "licence"]].tolist()
        ['gelu', 'MIT']
    """
    import pandas as pd

    rows = [
        {
            "preset": name,
            "architecture": preset.architecture,
            "activation": preset.activation,
            "input": preset.image_size,
            "trained on": preset.trained_on,
            "GSD (m)": "" if preset.gsd is None else f"{preset.gsd[0]:g} to {preset.gsd[1]:g}",
            **{data: preset.scores.get(data) for data in ("AID", "EuroSAT", "RESISC45")},
            "scores from": preset.scores_from,
            "templates": preset.templates,
            "licence": preset.licence,
            "arXiv": preset.paper,
            "format": preset.format,
            "url": preset.url,
            "note": preset.note,
        }
        for name, preset in PRESETS.items()
    ]
    return pd.DataFrame(rows).set_index("preset")
