"""One Ray for all tests of this folder; it ends with them."""

from __future__ import annotations

import pytest

CORES = 2


@pytest.fixture(scope="package")
def cluster():
    """Two cores. The workers of each run start and end with it."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=CORES, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()
