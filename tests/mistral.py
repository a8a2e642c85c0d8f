"""What the tests of Mistral's API share: the OpenAPI description beside the checkout, and small scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovlm.testing.mistral_api import Contract

CONTRACTS = Path(__file__).resolve().parents[2] / "shared" / "contracts"
ABSENT = "the OpenAPI descriptions, ../shared/contracts, are not here: traffic is not compared with them"


def find_contract() -> Contract | None:
    """The description with all paths that the emulator has; None where it is not beside the checkout."""
    pytest.importorskip("jsonschema")
    path = CONTRACTS / "mistral-openapi-2026-07-with-fine-tuning.json"
    return Contract(path) if path.is_file() else None


def scene(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size)
