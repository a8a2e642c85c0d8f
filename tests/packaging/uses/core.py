"""What the core does without any extra, and that it names the extra where it cannot go on."""

from pathlib import Path

from PIL import Image

import geovlm as gv
from geovlm.testing import EchoCaptioner, HashEncoder

scenes = [gv.Record(id=name, image=Image.new("RGB", (64, 64), name), label=name) for name in ("red", "blue")]
spoken = [gv.Record(id="1", image=Image.effect_noise((64, 64), 50), captions=["a red field beside a wide river"])]
encoder = HashEncoder()

index = gv.Index(encoder)
index.add(gv.embed(scenes, encoder, out="vectors"))
index.search("a red field", limit=2).save_html("hits.html")
assert len(gv.Embeddings.open("vectors")) == 2
assert len(gv.caption(scenes, EchoCaptioner(), out="pairs").filter(lambda record: record.label == "red")) == 1
assert gv.zero_shot(encoder, scenes, classes=["red", "blue"]).to_pandas().shape[0]
assert len(gv.curate(scenes, out="curated").dataset) <= 2
gv.NumpyStore().upsert(*gv.embed(scenes, encoder).to_numpy(), [{}, {}])

Path("region.tif").write_bytes(b"II*\0")
Path("item.json").write_text("{}", encoding="utf-8")
needed = {
    "openclip": [lambda: gv.load_encoder("skyclip-vit-b-32"), lambda: gv.new_encoder("ViT-B-32")],
    "transformers": [lambda: gv.load_captioner("blip-base")],
    "lance": [lambda: gv.LanceStore("store")],
    "astra": [lambda: gv.AstraStore("vectors", endpoint="http://localhost", token="AstraCS:x")],
    "mistral": [lambda: gv.PixtralClient("pixtral-12b-2409", api_key="x")],
    "geo": [lambda: list(gv.RasterSource("region.tif", window=64))],
    "stac": [lambda: list(gv.StacSource("item.json", window=64))],
    "datasets": [lambda: list(gv.HuggingFaceSource("owner/name"))],
    "kaggle": [lambda: gv.download_kaggle("owner/name")],
    "curate": [lambda: gv.curate(spoken, rules=gv.CurationRules(language="en"), out="english")],
    "evaluate": [lambda: gv.stratified_split(scenes, test=0.5)],
}
for extra, calls in needed.items():
    for call in calls:
        try:
            call()
            said = "nothing"
        except gv.errors.MissingExtra as error:
            said = str(error)
        assert f"geovlm[{extra}]" in said, f"{extra} was to be named, not: {said}"
