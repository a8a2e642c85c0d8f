"""Folders of tiny models, made once."""

from __future__ import annotations

import pytest

from tests import models

FOLDERS = {"open_clip": models.openclip_folder, "clip": models.clip_folder, "siglip": models.siglip_folder}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: build(root / kind) for kind, build in FOLDERS.items()}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Names of two architectures in open_clip's registry with equal weights: GELU and QuickGELU."""
    root = tmp_path_factory.mktemp("architectures")
    return (
        models.register_openclip(root, "Tiny-8"),
        models.register_openclip(root, "Tiny-8-quickgelu", quick_gelu=True),
    )


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """Tiny models lose more to waiting for each other's threads than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
