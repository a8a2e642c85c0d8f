"""Encoders of open_clip: made, saved, loaded, used."""

from PIL import Image

import geovlm as gv

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}

scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name)) for name in ("red", "blue")]
encoder = gv.new_encoder(TINY)
encoder.save("encoder")
again = gv.load_encoder("encoder")
assert again.fingerprint == encoder.fingerprint
assert len(gv.embed(scenes, again)) == 2
assert again.encode_texts(["a field"]).shape == (1, 8)
