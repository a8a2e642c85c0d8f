"""Mistakes with Pixtral and other hosted models."""

from __future__ import annotations

from contextlib import contextmanager

import geovlm as gv
from geovlm.testing.mistral_api import Fault, MistralEmulator
from tests.mistakes.kit import mistake, no_environment, scenes

PIXTRAL = "Pixtral and other hosted models"


@contextmanager
def mistral(**settings):
    with MistralEmulator(**settings) as api:
        yield api, gv.PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key, max_retries=0)


@mistake(
    PIXTRAL,
    "No key",
    "No API key is known: set MISTRAL_API_KEY, or give api_key=…. A server of your own needs base_url= and no key.",
    '`export MISTRAL_API_KEY=…`; a server of your own: `base_url="http://localhost:8000"`.',
)
def _():
    with no_environment("MISTRAL_API_KEY"):
        gv.PixtralClient("ministral-14b-2512").classify("scenes/beach/beach-1.png", ["beach", "forest"])


@mistake(
    PIXTRAL,
    "A wrong key",
    "The server does not accept the key, or the key may not do this; set MISTRAL_API_KEY, or give api_key=…"
    " (Unauthorized).",
    "Look at the key in the service's console; the message never shows it.",
)
def _():
    with MistralEmulator() as api:
        client = gv.PixtralClient("pixtral-12b-2409", base_url=api.url, api_key="wrong", max_retries=0)
        client.classify("scenes/beach/beach-1.png", ["beach", "forest"])


@mistake(
    PIXTRAL,
    "A model that was retired",
    "'pixtral-12b-2409' is not served by http://127.0.0.1:…: Mistral retired it on 2025-12-31; use"
    " 'ministral-14b-2512' instead, or serve its weights yourself and give base_url= and the name it has"
    " there. The server says: The model pixtral-12b-2409 was retired and is not available.",
    "Take the model that is named, or serve the weights yourself (vLLM) and give `base_url=`.",
)
def _():
    import datetime as dt

    with mistral(today=dt.date(2026, 9, 1)) as (_, client):
        client.classify("scenes/beach/beach-1.png", ["beach", "forest"])


@mistake(
    PIXTRAL,
    "Too many requests",
    "Too many requests: no answer in 1 attempt. Go on in 7 s, as it asks, or with a lower concurrency.",
    "Lower `concurrency=`, or use `batch_classify`, which has limits of its own.",
)
def _():
    with mistral() as (api, client):
        api.faults.add(Fault.rate_limited(retry_after=7), times=9)
        client.classify("scenes/beach/beach-1.png", ["beach", "forest"])


@mistake(
    PIXTRAL,
    "A server that does not answer",
    "No answer in 1 attempt; the last failed by a broken connection or a time limit (ConnectError). Go"
    " on later, or correct base_url.",
    "Is the server running, and the port right? `curl http://localhost:8000/v1/models` tells.",
)
def _():
    client = gv.PixtralClient("pixtral", base_url="http://127.0.0.1:9", max_retries=0)
    client.classify("scenes/beach/beach-1.png", ["beach", "forest"])


@mistake(
    PIXTRAL,
    "An address without `http`",
    "base_url is an address such as http://localhost:8000: with http, and without a query.",
    '`base_url="http://localhost:8000"`.',
)
def _():
    gv.PixtralClient("pixtral", base_url="localhost:8000")


@mistake(
    PIXTRAL,
    "Labels as one text",
    "labels is a list of names, not one text ('beach').",
    '`labels=["beach", "forest"]`.',
)
def _():
    gv.PixtralClient("pixtral", base_url="http://127.0.0.1:9").classify("scenes/beach/beach-1.png", "beach")


@mistake(
    PIXTRAL,
    "An image that is not there",
    "scenes/beach-1.png: the file does not exist.",
    "Correct the path; relative ones begin in the working directory.",
)
def _():
    gv.PixtralClient("pixtral", base_url="http://127.0.0.1:9").classify("scenes/beach-1.png", ["beach", "forest"])


@mistake(
    PIXTRAL,
    "A batch in a folder without one",
    "scenes holds no batch: it holds nothing that geovlm wrote.",
    "Give the `out` of `batch_classify`.",
)
def _():
    gv.BatchRun.open("scenes")


@mistake(
    PIXTRAL,
    "A batch that costs more than allowed",
    "This may cost $0.0001, which is more than max_cost=1e-07: 4 requests in 1 job, 0.0 MB; 24 image tokens,"
    " about … of text; at most $0.0001, with the batch discount. Nothing was sent; allow more, or make it"
    " cheaper with image_tokens= or max_tokens= of the client.",
    "Allow more, or make images smaller with `image_tokens=`; `dry_run=True` tells the cost.",
)
def _():
    with mistral() as (_, client):
        client.batch_classify(scenes(), labels=["beach", "forest"], out="batch-a", max_cost=0.0000001)


@mistake(
    PIXTRAL,
    "Fine-tuning a hosted model",
    "Mistral withdrew hosted fine-tuning in July 2026, and mistralai … no longer has it (for an account that"
    " has: pip install 'mistralai==1.9.11'). Train on a machine of your own instead, with backend='local'; the"
    " exported files are in …/tune-a/data.",
    '`backend="local"`, with the weights in a folder.',
)
def _():
    import datetime as dt

    with mistral(today=dt.date(2026, 9, 1)) as (_, client):
        client.fine_tune(scenes(), labels=["beach", "forest"], out="tune-a", backend="hosted").wait()
