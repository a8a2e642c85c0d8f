"""Fine-tuning with an adapter, on images kept in memory."""

from pathlib import Path

from PIL import Image

import geovlm as gv
from geovlm.testing import EchoCaptioner

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}

scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name)) for name in ("red", "blue")]
pairs = gv.caption(scenes, EchoCaptioner(), out="pairs")
config = gv.TrainingConfig(epochs=1, batch_size=2, lora_rank=2)
result = gv.ContrastiveTrainer(gv.new_encoder(TINY), config).fit(pairs, out="run")
assert result.encoder.dim == 8
assert Path("run/curves.png").exists()
