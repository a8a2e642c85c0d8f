"""Everything together: a folder embedded, kept on disk, searched."""

from PIL import Image

import geovlm as gv

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}

for name in ("red", "blue"):
    Image.new("RGB", (64, 64), name).save(f"{name}.jpg")
index = gv.Index(gv.new_encoder(TINY), store=gv.LanceStore("store"))
index.add(gv.FolderSource("."))
assert len(index.search("a red field", limit=2)) == 2
