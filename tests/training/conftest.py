"""Tiny encoders of every back end, and pairs that they can learn: fields of one colour, named by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from geovlm import load_encoder
from geovlm.records import Record
from tests import models

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 160, 40),
    "blue": (30, 60, 200),
    "yellow": (220, 210, 40),
    "white": (240, 240, 240),
    "black": (15, 15, 15),
}
FOLDERS = {"open_clip": models.openclip_folder, "clip": models.clip_folder, "siglip": models.siglip_folder}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models: with several threads, waiting for each other is all that they do on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Encoders:
    """One encoder a back end, made when first asked for and shared: no test may change it."""

    def __init__(self, root):
        self.root = root
        self.made = {}

    def folder(self, kind):
        path = self.root / kind
        return path if path.exists() else FOLDERS[kind](path)

    def __getitem__(self, kind):
        if kind not in self.made:
            self.made[kind] = load_encoder(self.folder(kind), device="cpu", dtype="float32")
        return self.made[kind]


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    return Encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture
def base(encoders):
    return encoders["open_clip"]


def fields(count, *, start=0):
    """Noisy fields of six colours with two captions each."""
    records = []
    for number in range(start, start + count):
        name = list(COLOURS)[number % len(COLOURS)]
        noise = np.random.default_rng(number).normal(0, 20, (40, 40, 3))
        pixels = (noise + COLOURS[name]).clip(0, 255).astype(np.uint8)
        captions = [f"a {name} field", f"{name} ground from above"]
        records.append(Record(id=f"field-{number}", image=Image.fromarray(pixels), captions=captions))
    return records
