"""A split that keeps the shares of the classes."""

from PIL import Image

import geovlm as gv

scenes = [gv.Record(id=str(n), image=Image.new("RGB", (8, 8)), label="ab"[n % 2]) for n in range(10)]
train, test = gv.stratified_split(scenes, test=0.2)
assert (len(train), len(test)) == (8, 2)
