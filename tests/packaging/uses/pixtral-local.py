"""A model of Pixtral's form with random weights answers on this machine."""

from PIL import Image

import geovlm as gv
from geovlm.testing.tiny_pixtral import save_tiny_pixtral

client = gv.PixtralClient(str(save_tiny_pixtral("tiny")), max_tokens=4)
assert client.classify(Image.new("RGB", (64, 64)), ["Beach", "Forest"]).text is not None
