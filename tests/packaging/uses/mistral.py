"""Mistral's client against the loopback server that geovlm ships."""

from PIL import Image

import geovlm as gv
from geovlm.testing.mistral_api import MistralEmulator

with MistralEmulator(brain=lambda request: "Beach") as api:
    client = gv.PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
    assert client.classify(Image.new("RGB", (64, 64)), ["Beach", "Forest"]).label == "Beach"
