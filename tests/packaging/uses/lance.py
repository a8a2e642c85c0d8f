"""A store on disk, searched through an index."""

from PIL import Image

import geovlm as gv
from geovlm.testing import HashEncoder

scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name)) for name in ("red", "blue")]
index = gv.Index(HashEncoder(), store=gv.LanceStore("store"))
index.add(scenes)
assert len(index.search("a red field", limit=2)) == 2
assert len(gv.LanceStore("store")) == 2
