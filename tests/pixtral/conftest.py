"""The emulator, with and without its contract, and clients of it."""

from __future__ import annotations

import pytest

from geovlm import PixtralClient
from geovlm.testing.mistral_api import MistralEmulator
from tests.mistral import find_contract

pytest.importorskip("mistralai")


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    """No test depends on, or uses, a key of the environment."""
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)


@pytest.fixture
def quick_disk(monkeypatch):
    """Writes without waiting for the disk: what a process has written outlives it; only a power cut would differ."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def api():
    """Mistral's service on the day of its walk-through; all traffic keeps to the contract, where there is one."""
    with MistralEmulator(contract=find_contract()) as emulator:
        yield emulator
    assert emulator.log.problems == []


@pytest.fixture
def connect(api):
    """Makes clients that do not wait."""
    made = []

    def make(model="pixtral-12b-2409", **settings):
        settings = {"base_url": api.url, "api_key": api.api_key, "pause": 0.0, **settings}
        made.append(PixtralClient(model, **settings))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="session", params=["pixtral", "mistral3"])
def model_folder(request, tmp_path_factory):
    """A tiny random model in the real format, of each kind."""
    for library in ("torch", "transformers", "torchvision"):
        pytest.importorskip(library)
    from tests.pixtral.models import BUILDERS

    return BUILDERS[request.param](tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="session")
def pixtral_folder(tmp_path_factory):
    """A tiny random Pixtral in the real format."""
    for library in ("torch", "transformers", "torchvision"):
        pytest.importorskip(library)
    from tests.pixtral.models import save_pixtral

    return save_pixtral(tmp_path_factory.mktemp("models") / "only-pixtral")
