"""The code of the guide runs from top to bottom, with a tiny encoder and drawn land."""

from __future__ import annotations

import json
import re
from pathlib import Path

from PIL import Image

from geovlm.encoders import new_encoder
from geovlm.testing.rasters import planted_raster
from tests.models import openclip_config

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "detection.md"


def test_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_encoder(openclip_config()).save("encoder")
    truth = planted_raster("region.tif", size=400, seed=4)
    for feature in truth["features"]:
        feature["properties"]["query"] = "a pond"
    Path("truth.geojson").write_text(json.dumps(truth), encoding="utf-8")
    for number in range(12):
        place = Path("tiles") / ("other" if number % 2 else "pond") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 32), 20 + 15 * number).save(place)
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("```python") > 6
    program = "\n".join(blocks)
    assert program.count('"farslip-vit-b-16-s1"') == 1
    exec(compile(program.replace('"farslip-vit-b-16-s1"', '"encoder"'), str(GUIDE), "exec"), {})
    written = {path.name for path in tmp_path.iterdir()}
    assert {"ponds.geojson", "ponds.parquet", "ponds.tif", "ponds.html", "ponds.png", "where.geojson"} <= written
