"""Astra DB's client against the loopback server that geovlm ships."""

import numpy as np

import geovlm as gv
from geovlm.testing.data_api import DataAPIEmulator

with DataAPIEmulator() as api, gv.AstraStore("scenes", endpoint=api.endpoint, token=api.token) as store:
    store.upsert(["a", "b"], np.eye(2, dtype=np.float32), [{"year": 2020}, {"year": 2024}])
    assert store.query(np.array([[1.0, 1.0]]), 1, where={"year": {"$gt": 2021}})[0].ids == ["b"]
