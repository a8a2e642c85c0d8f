"""Pairs to Hugging Face's datasets and back."""

from PIL import Image

import geovlm as gv
from geovlm.testing import EchoCaptioner

scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name)) for name in ("red", "blue")]
gv.caption(scenes, EchoCaptioner(), out="pairs").to_huggingface().save_to_disk("hf")
assert len(list(gv.HuggingFaceSource("hf"))) == 2
