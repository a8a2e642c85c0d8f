"""The same in an event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from geovlm import AsyncPixtralClient
from geovlm.errors import AuthError, ImageError, RequestRefused, ServiceUnavailable, UsageError
from geovlm.testing.mistral_api import Fault, Refused, text_of
from tests.mistral import scene

LABELS = ["Beach", "Forest"]


def run(api, work, **settings):
    async def main():
        settings.setdefault("api_key", api.api_key)
        async with AsyncPixtralClient("pixtral-12b-2409", base_url=api.url, pause=0.0, **settings) as client:
            return await work(client)

    return asyncio.run(main())


def test_ask_classify_caption(api):
    api.chat.brain = lambda body: "forest" if "Beach" in text_of(body) else "a sentence"

    async def work(client):
        return (
            await client.ask("What?", [scene(1), scene(2)]),
            await client.classify(scene(1), LABELS),
            await client.classify([scene(1), scene(2)], LABELS),
            await client.caption(scene(1)),
            await client.caption([scene(1)]),
        )

    asked, one, many, caption, captions = run(api, work)
    assert asked.text == "a sentence" == caption.text == captions[0].text
    assert one.label == "Forest"
    assert [result.label for result in many] == ["Forest"] * 2


def test_results_stay_with_their_images(api, connect):
    scenes = [scene(seed) for seed in range(12)]
    answers = run(api, lambda client: client.caption(scenes), concurrency=6)
    assert [answer.text for answer in answers] == [connect().caption(image).text for image in scenes]


def test_concurrency_is_bounded(api):
    here, most, lock = 0, 0, threading.Lock()

    def brain(body):
        nonlocal here, most
        with lock:
            here += 1
            most = max(most, here)
        time.sleep(0.02)
        with lock:
            here -= 1
        return "x"

    api.chat.brain = brain
    run(api, lambda client: client.caption([scene(seed) for seed in range(10)]), concurrency=3)
    assert 1 < most <= 3


def test_what_passes_is_tried_again(api):
    for fault in (Fault.rate_limited(retry_after=0), Fault.unavailable(), Fault.dropped(), Fault.truncated()):
        api.faults.add(fault)
    assert run(api, lambda client: client.ask("Hello")).text == "You said: Hello"
    assert len(api.log) == 5


def test_errors(api):
    api.faults.add(Fault.slow(1.0))
    with pytest.raises(ServiceUnavailable, match="time limit"):
        run(api, lambda client: client.ask("Hello"), timeout=0.2, max_retries=0)
    with pytest.raises(AuthError):
        run(api, lambda client: client.ask("Hello"), api_key="wrong")
    with pytest.raises(ImageError):
        run(api, lambda client: client.ask("Hello", b""))
    with pytest.raises(UsageError):
        run(api, lambda client: client.classify(scene(1), []))


def test_the_first_error_ends_the_rest(api):
    def brain(body):
        raise Refused(400, "no")

    api.chat.brain = brain
    with pytest.raises(RequestRefused):
        run(api, lambda client: client.caption([scene(seed) for seed in range(20)]), concurrency=2)
    assert len(api.log) < 20
