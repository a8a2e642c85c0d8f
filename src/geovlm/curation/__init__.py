"""Captions fit for training: cleaned, checked against their images, counted; and what was dropped, with reasons."""

from geovlm.curation.pipeline import curate
from geovlm.curation.result import Curated
from geovlm.curation.rules import CurationRules

__all__ = ["Curated", "CurationRules", "curate"]
