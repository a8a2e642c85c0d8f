"""Captions of another language are told."""

from PIL import Image

import geovlm as gv

noise = Image.effect_noise((64, 64), 50)
captions = ["a red field beside a wide river", "ein rotes Feld neben einem breiten Fluss"]
scenes = [gv.Record(id="1", image=noise, captions=captions)]
pairs = gv.curate(scenes, rules=gv.CurationRules(language="en"), out="kept")
assert pairs.dataset[0].captions == (captions[0],)
