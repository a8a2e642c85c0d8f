"""geovlm: find, describe and detect anything you can name in satellite and aerial imagery.

The public names are loaded when they are first used, so that `import geovlm` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geovlm import errors, evaluation, imaging, prompts, testing
    from geovlm.agents import CaptionAgent, DataAgent, EmbeddingAgent, QueryAgent, TrainingAgent, Workflow
    from geovlm.captioners import load_captioner
    from geovlm.captioners.blip import GenerationOptions
    from geovlm.captioners.tags import TagCaptioner
    from geovlm.captioning import caption
    from geovlm.curation import Curated, CurationRules, curate
    from geovlm.dataset import Dataset, stratified_split
    from geovlm.detection import Calibration, Detection, Detections, HeatMap, calibrate, scan
    from geovlm.embedding import Embeddings, embed
    from geovlm.encoders import load_encoder, new_encoder
    from geovlm.encoders.replicas import ReplicatedEncoder
    from geovlm.encoders.rotations import RotationEncoder
    from geovlm.errors import GeovlmError
    from geovlm.evaluation import compare, retrieval, score_labels, zero_shot
    from geovlm.imaging import Stretch, open_image
    from geovlm.index import Hit, Hits, Index
    from geovlm.pixtral import AsyncPixtralClient, PixtralClient
    from geovlm.pixtral.batch import BatchOptions, BatchResult, BatchRun
    from geovlm.protocols import Captioner, DenseEncoder, Encoder, ImageSource, PixelEncoder, VectorStore
    from geovlm.records import Failure, Footprint, Record, Report
    from geovlm.sources import (
        FolderSource,
        HuggingFaceSource,
        RasterSource,
        ShardSource,
        StacSource,
        TableSource,
        download_kaggle,
        write_shards,
    )
    from geovlm.splitting import SpatialSplit, spatial_split
    from geovlm.stores import AstraStore, LanceStore, NumpyStore, load_store
    from geovlm.training import Augmentation, ContrastiveTrainer, TrainingConfig, TrainingResult, interpolate
    from geovlm.transfer import copy

__version__ = "0.1.0"

_HOMES = {
    "agents": ("CaptionAgent", "DataAgent", "EmbeddingAgent", "QueryAgent", "TrainingAgent", "Workflow"),
    "captioners": ("load_captioner",),
    "captioners.blip": ("GenerationOptions",),
    "captioners.tags": ("TagCaptioner",),
    "captioning": ("caption",),
    "curation": ("Curated", "CurationRules", "curate"),
    "dataset": ("Dataset", "stratified_split"),
    "detection": ("Calibration", "Detection", "Detections", "HeatMap", "calibrate", "scan"),
    "embedding": ("Embeddings", "embed"),
    "encoders": ("load_encoder", "new_encoder"),
    "encoders.replicas": ("ReplicatedEncoder",),
    "encoders.rotations": ("RotationEncoder",),
    "errors": ("GeovlmError",),
    "evaluation": ("compare", "retrieval", "score_labels", "zero_shot"),
    "imaging": ("Stretch", "open_image"),
    "index": ("Hit", "Hits", "Index"),
    "pixtral": ("AsyncPixtralClient", "PixtralClient"),
    "pixtral.batch": ("BatchOptions", "BatchResult", "BatchRun"),
    "protocols": ("Captioner", "DenseEncoder", "Encoder", "ImageSource", "PixelEncoder", "VectorStore"),
    "records": ("Failure", "Footprint", "Record", "Report"),
    "sources": (
        "FolderSource",
        "HuggingFaceSource",
        "RasterSource",
        "ShardSource",
        "StacSource",
        "TableSource",
        "download_kaggle",
        "write_shards",
    ),
    "splitting": ("SpatialSplit", "spatial_split"),
    "stores": ("AstraStore", "LanceStore", "NumpyStore", "load_store"),
    "training": ("Augmentation", "ContrastiveTrainer", "TrainingConfig", "TrainingResult", "interpolate"),
    "transfer": ("copy",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("errors", "evaluation", "imaging", "prompts", "testing")

__all__ = [
    "AstraStore",
    "AsyncPixtralClient",
    "Augmentation",
    "BatchOptions",
    "BatchResult",
    "BatchRun",
    "Calibration",
    "CaptionAgent",
    "Captioner",
    "ContrastiveTrainer",
    "Curated",
    "CurationRules",
    "DataAgent",
    "Dataset",
    "DenseEncoder",
    "Detection",
    "Detections",
    "EmbeddingAgent",
    "Embeddings",
    "Encoder",
    "Failure",
    "FolderSource",
    "Footprint",
    "GenerationOptions",
    "GeovlmError",
    "HeatMap",
    "Hit",
    "Hits",
    "HuggingFaceSource",
    "ImageSource",
    "Index",
    "LanceStore",
    "NumpyStore",
    "PixelEncoder",
    "PixtralClient",
    "QueryAgent",
    "RasterSource",
    "Record",
    "ReplicatedEncoder",
    "Report",
    "RotationEncoder",
    "ShardSource",
    "SpatialSplit",
    "StacSource",
    "Stretch",
    "TableSource",
    "TagCaptioner",
    "TrainingAgent",
    "TrainingConfig",
    "TrainingResult",
    "VectorStore",
    "Workflow",
    "__version__",
    "calibrate",
    "caption",
    "compare",
    "copy",
    "curate",
    "download_kaggle",
    "embed",
    "errors",
    "evaluation",
    "imaging",
    "interpolate",
    "load_captioner",
    "load_encoder",
    "load_store",
    "new_encoder",
    "open_image",
    "prompts",
    "retrieval",
    "scan",
    "score_labels",
    "spatial_split",
    "stratified_split",
    "testing",
    "write_shards",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"geovlm.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'geovlm' has no attribute {name!r}")
    value = getattr(import_module(f"geovlm.{home}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
