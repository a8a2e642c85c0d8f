"""CLIP and BLIP of transformers, with random weights."""

from pathlib import Path

from PIL import Image
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

import geovlm as gv

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "field", "river"]
Path("vocab.txt").write_text("\n".join(words), encoding="utf-8")
tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
tokens = {"vocab_size": len(words), "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
config = BlipConfig(
    text_config=small | tokens | {"encoder_hidden_size": 32},
    vision_config=small | {"image_size": 32, "patch_size": 16},
    projection_dim=16,
)
BlipForConditionalGeneration(config).save_pretrained("blip")
BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained("blip")
scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name)) for name in ("red", "blue")]
pairs = gv.caption(scenes, gv.load_captioner("blip", options=gv.GenerationOptions(max_new_tokens=4)), out="pairs")
assert pairs.report is not None
assert pairs.report.total == 2
