"""Vectors made by a worker of Ray."""

from PIL import Image

import geovlm as gv
from geovlm.distributed import RayEngine
from geovlm.testing import HashEncoder

scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name)) for name in ("red", "blue")]
assert len(gv.embed(scenes, HashEncoder(), engine=RayEngine(workers=1))) == 2
