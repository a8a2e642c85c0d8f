"""An image tower run by OpenVINO."""

from PIL import Image

import geovlm as gv

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}

gv.new_encoder(TINY).save("encoder")
scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name)) for name in ("red", "blue")]
assert len(gv.embed(scenes, gv.load_encoder("encoder", backend="openvino"))) == 2
