"""What a reader of the site has: a folder of files under the names that its pages use, and stand-ins for the services.

A page runs in a copy of `furnish`'s folder. Published encoders are played by tiny random ones, which the real libraries
make: their names are looked up as ever, and only the weights are others. Published captioners are played by one that
says what a record is called. Mistral, a server of one's own at
`http://localhost:8000` and Astra DB are played by geovlm's loopback emulators, with the key and the addresses in the
environment. Nothing else is replaced.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from zlib import crc32

import geovlm as gv
from geovlm.testing import EchoCaptioner
from geovlm.testing.data_api import DataAPIEmulator
from geovlm.testing.mistral_api import MistralEmulator, describe, labels_of
from geovlm.testing.rasters import planted_raster
from geovlm.testing.tiny_pixtral import save_tiny_pixtral
from tests.models import openclip_config, picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CLASSES = ("Airport", "BareLand", "Port")
TODAY = dt.date(2026, 11, 22)
OWN_SERVER = "http://localhost:8000"


# --- files -----------------------------------------------------------------------------------------------------------


def furnish(folder: Path) -> None:
    """Write all files that pages may name; what a page needs beyond them is in `tests/docs/pages.py`."""
    for number in range(24):
        name = CLASSES[number % 3]
        for place in ("scenes", "AID"):
            _save(folder / place / name / f"{number:02}.jpg", number)
    for number in range(8):
        _save(folder / "archive" / f"{number:02}.jpg", 100 + number)
        for place in ("images", "SkyScript"):
            _save(folder / place / f"{number:02}.jpg", 200 + number)
        _save(folder / "tiles" / ("other" if number % 2 else "pond") / f"{number}.png", 300 + number)
    _save(folder / "scene.jpg", 400)
    _tables(folder)
    _rasters(folder)
    save_tiny_pixtral(folder / "models" / "pixtral-12b", texts=CLASSES)
    gv.new_encoder(openclip_config()).save(folder / "models" / "clip")


def _save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, (48, 48)).save(path)


def _tables(folder: Path) -> None:
    scenes = sorted(path.relative_to(folder) for path in folder.glob("scenes/*/*.jpg"))
    pairs = [(str(path), f"{path.parent.name} number {path.stem}", "train") for path in scenes[:16]]
    pairs += [(str(path), f"a view of {path.stem}, {path.parent.name}", "val") for path in scenes[16:]]
    _write_table(folder / "captions.csv", ("filepath", "caption", "split"), pairs)
    loose = [(f"{number:02}.jpg", f"field {number}", f"field {number} beside a road") for number in range(8)]
    for name in ("skyscript.csv", "SkyScript_train_top30pct.csv"):
        _write_table(folder / name, ("filepath", "title", "title_multi_objects"), loose)


def _write_table(path: Path, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def _rasters(folder: Path) -> None:
    (folder / "orthophotos").mkdir()
    planted_raster(folder / "orthophotos" / "one.tif", size=256, seed=3)
    truth = planted_raster(folder / "region.tif", size=400, seed=4)
    for feature in truth["features"]:
        feature["properties"]["query"] = "a pond"
    (folder / "truth.geojson").write_text(json.dumps(truth), encoding="utf-8")


# --- models and services ----------------------------------------------------------------------------------------------


@contextmanager
def stand_ins(monkeypatch) -> Iterator[None]:
    """Play the published models, Mistral, a server of one's own, and Astra DB."""
    _play_encoders(monkeypatch)
    _play_captioners(monkeypatch)
    with ExitStack() as stack:
        mistral = stack.enter_context(MistralEmulator(brain=_answer, today=TODAY))
        own = stack.enter_context(MistralEmulator(brain=_answer, hosted=False))
        mistral.batches.looks = 0
        _play_mistral(mistral, own, monkeypatch)
        astra = stack.enter_context(DataAPIEmulator())
        monkeypatch.setenv("ASTRA_DB_API_ENDPOINT", astra.endpoint)
        monkeypatch.setenv("ASTRA_DB_APPLICATION_TOKEN", astra.token)
        yield


def _play_encoders(monkeypatch) -> None:
    from geovlm import encoders

    load_path = encoders._load_path

    def tiny(name: str, *_: Any, **__: Any) -> gv.Encoder:
        return gv.new_encoder(openclip_config(), seed=crc32(name.encode()), name=name)

    def path_or_tiny(path: Path, architecture: str | None, **where: Any) -> gv.Encoder:
        """A checkpoint of a published architecture is too large to be real."""
        import open_clip

        if architecture is None:
            return load_path(path, architecture, **where)
        assert architecture in open_clip.list_models()
        return tiny(architecture)

    monkeypatch.setattr(encoders, "load_preset", tiny)
    monkeypatch.setattr(encoders, "_load_from_library", lambda scheme, rest, *_, **__: tiny(f"{scheme}:{rest}"))
    monkeypatch.setattr(encoders, "_load_path", path_or_tiny)


def _play_captioners(monkeypatch) -> None:
    """By one whose sentences differ, as those of random weights do not: pages clean captions, and train on them."""
    from geovlm.captioners import PRESETS, blip

    load = blip.load_blip

    def named(name: str, **options: Any) -> gv.Captioner:
        return EchoCaptioner(name=name) if name in PRESETS or name.startswith("hf:") else load(name, **options)

    monkeypatch.setattr(blip, "load_blip", named)


def _play_mistral(mistral: MistralEmulator, own: MistralEmulator, monkeypatch) -> None:
    from geovlm.pixtral import _endpoint

    checked, addresses = _endpoint._checked_url, {_endpoint.API_URL: mistral.url, OWN_SERVER: own.url}
    monkeypatch.setattr(_endpoint, "_checked_url", lambda url: addresses.get(checked(url), checked(url)))
    monkeypatch.setattr(_endpoint, "_is_hosted", lambda url: url == mistral.url)
    monkeypatch.setenv("MISTRAL_API_KEY", mistral.api_key)


def _answer(body: Mapping[str, Any]) -> str:
    labels = labels_of(body)
    return json.dumps({"label": labels[0]}) if labels else describe(body)
