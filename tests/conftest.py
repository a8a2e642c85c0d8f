"""Fixtures for all tests; models come from the real libraries, small and random."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("geovlm", deadline=None)
settings.load_profile("geovlm")

# Set before any Hugging Face library is imported: a test that asks a hub for weights must fail, not wait.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GEOVLM_PROGRESS", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# With models this small, several threads only wait for each other; also for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real imagery beside the checkout; tests that need it say so where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real imagery, ../shared/data, is not here")
    return folder
