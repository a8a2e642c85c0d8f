"""Where requests go, and with which key; nothing is sent here."""

from __future__ import annotations

import pytest

import geovlm as gv
from geovlm.errors import AuthError, UsageError
from geovlm.pixtral._endpoint import find_endpoint


def test_a_missing_key_is_told_before_any_request():
    with pytest.raises(AuthError, match="set MISTRAL_API_KEY, or give api_key="):
        gv.PixtralClient("ministral-14b-2512")
    with pytest.raises(AuthError):
        gv.AsyncPixtralClient("ministral-14b-2512", api_key="")


def test_the_key_of_the_environment_goes_to_mistral_only(monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-environment")
    assert find_endpoint(api_key=None, base_url=None).api_key == "sk-environment"
    assert find_endpoint(api_key=None, base_url="https://api.eu.mistral.ai/v1").api_key == "sk-environment"
    for other in ("http://localhost:8000", "https://mistral.ai.example.org", "https://notmistral.ai"):
        assert find_endpoint(api_key=None, base_url=other).api_key is None
    assert find_endpoint(api_key="own", base_url="http://localhost:8000").api_key == "own"
    assert find_endpoint(api_key="own", base_url=None).api_key == "own"


@pytest.mark.parametrize("key", ["sk-1234\n", "sk 1234", "sk-12\r\nX-Other: 1", "schlüssel", "\t", 7])
def test_a_key_that_cannot_be_one_is_not_shown(key):
    with pytest.raises(AuthError, match="line break") as caught:
        find_endpoint(api_key=key, base_url=None)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://host?key=1", "http://a b", "http://h:99999999", 8000]
)
def test_an_address_that_cannot_be_one(url):
    with pytest.raises(UsageError, match="base_url is an address"):
        find_endpoint(api_key="k", base_url=url)


def test_a_password_in_the_address_is_not_shown():
    with pytest.raises(UsageError, match="api_key=") as caught:
        find_endpoint(api_key=None, base_url="http://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_repr_shows_no_key():
    client = gv.PixtralClient("m", base_url="http://localhost:8000/v1", api_key="sk-hidden")
    assert repr(client) == "PixtralClient('m', base_url='http://localhost:8000')"
    assert "sk-hidden" not in repr(client._endpoint) + repr(client._caller)
