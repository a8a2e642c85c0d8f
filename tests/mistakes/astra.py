"""Mistakes with Astra DB."""

from __future__ import annotations

import geovlm as gv
from geovlm.testing.data_api import DataAPIEmulator
from geovlm.testing.data_api import Fault as DataFault
from tests.mistakes.kit import mistake, no_environment

ASTRA = "Astra DB"


def astra(api, **settings):
    return gv.AstraStore("scenes", **({"endpoint": api.endpoint, "token": api.token, "attempts": 1} | settings))


@mistake(
    ASTRA,
    "No endpoint",
    "No endpoint is known: set ASTRA_DB_API_ENDPOINT, or give endpoint='https://…'.",
    "Copy it from the database's page at Astra: *API endpoint*.",
)
def _():
    with no_environment("ASTRA_DB_API_ENDPOINT", "ASTRA_DB_APPLICATION_TOKEN"):
        gv.AstraStore("scenes")


@mistake(
    ASTRA,
    "No token",
    "No token is known: set ASTRA_DB_APPLICATION_TOKEN, or give token=….",
    "Make one at Astra (*Generate token*), and `export ASTRA_DB_APPLICATION_TOKEN=…`.",
)
def _():
    with no_environment("ASTRA_DB_APPLICATION_TOKEN"), DataAPIEmulator() as api:
        gv.AstraStore("scenes", endpoint=api.endpoint)


@mistake(
    ASTRA,
    "A wrong token",
    "Astra DB does not accept the token, or the token may not do this. Set ASTRA_DB_APPLICATION_TOKEN, or give"
    " token=, for this database.",
    "The token must be of the organisation of this database, with a role that may write.",
)
def _():
    with DataAPIEmulator() as api:
        astra(api, token="AstraCS:wrong").bind(dim=4, fingerprint="a")


@mistake(
    ASTRA,
    "The address of the wrong thing",
    "An endpoint is an address such as https://…apps.astra.datastax.com, not 'my-database'.",
    "The endpoint is an address, not the name or id of the database.",
)
def _():
    gv.AstraStore("scenes", endpoint="my-database", token="AstraCS:x")


@mistake(
    ASTRA,
    "A name that no collection can have",
    "A collection's name is a letter and up to 47 letters, digits and underscores, not 'my-scenes!'.",
    "`my_scenes`.",
)
def _():
    gv.AstraStore("my-scenes!", endpoint="https://x.apps.astra.datastax.com", token="AstraCS:x")


@mistake(
    ASTRA,
    "Vectors that are too long",
    "Astra DB takes vectors of at most 4,096 numbers, not 8,192.",
    "Take an encoder with fewer numbers; CLIP models have 512 to 1,280.",
)
def _():
    with DataAPIEmulator() as api:
        astra(api).bind(dim=8192, fingerprint="a")


@mistake(
    ASTRA,
    "Too many requests",
    "Astra DB did not do what was asked in 1 attempt; the last failed by HTTP 429. Go on later, or with fewer workers.",
    "Lower `workers=`, or go on later: rows that are in are not sent again.",
)
def _():
    with DataAPIEmulator() as api:
        api.faults.add(DataFault.rate_limited(), times=9)
        astra(api).bind(dim=4, fingerprint="a")
