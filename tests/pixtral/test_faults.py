"""What goes wrong on the way, and the errors it ends in."""

from __future__ import annotations

import datetime as dt
import logging
import pickle
import socket
import traceback

import pytest

import geovlm as gv
from geovlm.errors import AuthError, ModelRetired, RateLimited, RequestRefused, ServiceError, ServiceUnavailable
from geovlm.pixtral._policy import told_wait
from geovlm.testing.mistral_api import Fault, MistralEmulator, Refused
from tests.mistral import scene


def soon():
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)


PASSING = [
    Fault.rate_limited(retry_after=0),
    Fault.rate_limited(retry_after=None),
    Fault.server_error(500),
    Fault.server_error(502),
    Fault.server_error(500, written=True),
    Fault.unavailable(),
    Fault.html(503),
    Fault.dropped(),
    Fault.acknowledgement_lost(),
    Fault.truncated(),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.name}-{fault.written}")
def test_what_passes_is_tried_again(api, connect, fault):
    api.faults.add(fault, times=2)
    assert connect().ask("Hello").text == "You said: Hello"
    assert len(api.log) == 3


def test_a_date_to_wait_for_is_honoured(api, connect):
    api.faults.add(Fault.rate_limited(retry_after=soon()))
    assert connect().ask("Hello").text == "You said: Hello"


def test_retries_are_used_up(api, connect):
    api.faults.add(Fault.unavailable(), times=9)
    with pytest.raises(ServiceUnavailable, match=r"3 attempts.*HTTP 503") as caught:
        connect(max_retries=2).ask("Hello")
    assert (len(api.log), caught.value.status) == (3, 503)


def test_no_retries_means_one_request(api, connect):
    """Neither ours nor those of the library behind."""
    for fault in (Fault.rate_limited(retry_after=0), Fault.server_error(), Fault.dropped()):
        api.faults.add(fault)
        before = len(api.log)
        with pytest.raises(ServiceError):
            connect(max_retries=0).ask("Hello")
        assert len(api.log) == before + 1


def test_rate_limits_end_in_their_own_error(api, connect):
    api.faults.add(Fault.rate_limited(retry_after=0), times=9)
    with pytest.raises(RateLimited, match="lower concurrency") as caught:
        connect(max_retries=1).ask("Hello")
    assert (caught.value.status, len(api.log)) == (429, 2)


def test_a_wait_of_an_hour_is_not_waited_for(api, connect):
    api.faults.add(Fault.rate_limited(retry_after=3600))
    with pytest.raises(RateLimited, match="3600 s") as caught:
        connect().ask("Hello")
    assert (caught.value.retry_after, len(api.log)) == (3600.0, 1)


def test_a_slow_server_is_a_time_limit(api, connect):
    api.faults.add(Fault.slow(1.0), times=2)
    with pytest.raises(ServiceUnavailable, match=r"time limit \(\w*Timeout\)"):
        connect(timeout=0.2, max_retries=0).ask("Hello")
    assert connect(timeout=5, max_retries=0).ask("Hello").text == "You said: Hello"


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServiceUnavailable, match="2 attempts"):
        gv.PixtralClient("m", base_url=f"http://127.0.0.1:{port}", max_retries=1, pause=0).ask("Hello")


def test_a_server_that_answers_html(api, connect):
    api.faults.add(Fault.html(200))
    with pytest.raises(ServiceError, match=r"an HTML page, not JSON. Is base_url right\?") as caught:
        connect().ask("Hello")
    assert api.url in str(caught.value)
    assert len(api.log) == 1
    for status, kind in [(403, AuthError), (404, ServiceError), (400, RequestRefused)]:
        api.faults.add(Fault.html(status))
        with pytest.raises(kind, match="an HTML page"):
            connect().ask("Hello")


def test_a_path_without_an_api(api, connect):
    with pytest.raises(RequestRefused, match="or no such path"):
        connect("my-model", base_url=api.url + "/elsewhere").ask("Hello")
    api.log.clear()  # the contract knows no such path either


def test_a_wrong_key(api, connect):
    with pytest.raises(AuthError, match="does not accept the key") as caught:
        connect(api_key="wrong").ask("Hello")
    assert (caught.value.status, len(api.log)) == (401, 1)


def test_a_key_that_was_not_sent(api, connect, monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-environment")
    with pytest.raises(AuthError, match=r"goes to Mistral's hosts only\): give api_key=") as caught:
        connect(api_key=None).ask("Hello")
    assert "sk-environment" not in str(caught.value)
    assert "authorization" not in api.log.records[0].headers


def test_a_retired_model_names_its_replacement():
    with MistralEmulator(today=dt.date(2026, 11, 21)) as api:
        client = gv.PixtralClient("pixtral-12b-latest", base_url=api.url, api_key=api.api_key)
        with pytest.raises(ModelRetired, match="ministral-14b-2512") as caught:
            client.classify(scene(1), ["a"])
        assert (caught.value.replacement, caught.value.status) == ("ministral-14b-2512", 404)
        assert pickle.loads(pickle.dumps(caught.value)).replacement == "ministral-14b-2512"
        with pytest.raises(ModelRetired, match="use another model") as caught:
            gv.PixtralClient("mistral-small-2506", base_url=api.url, api_key=api.api_key).ask("Hello")
        assert caught.value.replacement is None
        assert gv.PixtralClient("ministral-14b-2512", base_url=api.url, api_key=api.api_key).ask("Hello").text


def test_an_unknown_model(api, connect):
    with pytest.raises(RequestRefused, match=r"knows no model 'my-model'.*/v1/models"):
        connect("my-model").ask("Hello")
    with MistralEmulator(hosted=False) as own, pytest.raises(RequestRefused, match="does not exist"):
        gv.PixtralClient("other", base_url=own.url).ask("Hello")


def test_what_the_server_refuses_is_told_in_its_words(api, connect):
    with pytest.raises(RequestRefused, match="Structured output is not supported") as caught:
        connect(structured=True).classify(scene(1), ["a"])
    assert (caught.value.status, len(api.log)) == (400, 1)


SECRET = "sk-very-secret-0123456789"


def test_the_key_shows_nowhere(api, connect, caplog):
    """Not in a repr, an error, a traceback or a log, even where the server repeats it."""
    caplog.set_level(logging.DEBUG)

    def repeats(body):
        raise Refused(400, f"Incorrect API key provided: {SECRET}")

    with MistralEmulator(api_key=SECRET, brain=repeats) as own:
        client = gv.PixtralClient("pixtral-12b", base_url=own.url, api_key=SECRET)
        with pytest.raises(RequestRefused, match="Incorrect API key provided: …") as caught:
            client.ask("Hello")
    told = "".join(traceback.format_exception(caught.value))
    for text in (repr(client), repr(vars(client)), told, repr(caught.value), caplog.text):
        assert SECRET not in text


def test_interrupts_are_not_swallowed(connect, monkeypatch):
    client = connect()

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(client._chat, "complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.ask("Hello")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("2.5", 2.5, 2.5), ("-3", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("nan", 0, 0)],
)
def test_told_wait(text, low, high):
    assert low <= told_wait({"retry-after": text}) <= high


def test_told_wait_until_a_date():
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    assert 80 < told_wait({"Retry-After": later.strftime("%a, %d %b %Y %H:%M:%S GMT")}) <= 90
    assert told_wait({"Retry-After": "in a while"}) is None


def test_errors_can_be_pickled():
    error = pickle.loads(pickle.dumps(RateLimited("too many", status=429, retry_after=3.0)))
    assert (error.status, error.retry_after) == (429, 3.0)
