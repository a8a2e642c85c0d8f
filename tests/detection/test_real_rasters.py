"""Real rasters, awkward and broken ones too: scanned and written out, or refused with a reason."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from geovlm.detection import scan
from geovlm.encoders import new_encoder
from geovlm.errors import ImageError, NotGeoreferenced, UsageError
from geovlm.sources.raster import Raster
from tests.models import openclip_config

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PATHS = [path for folder in ("geo_rasters", "odd_images") for path in sorted((DATA / folder).glob("*.tif*"))]

REFUSED = {
    "libtiff_segfault.tif": "65,535 bands",
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "Failed to read directory",
    "seek_too_large.tif": "Failed to read directory",
}
# Some of their blocks cannot be read; the overviews can.
BROKEN = {"crash-338516dbd2f0e83caddb8ce256c22db3bd6dc40f.tif", "rasterio_corrupt_jpeg_tiles.tif"}
LONGEST = 96  # pixels to look with, where a raster has a resolution


@pytest.fixture(scope="module")
def encoder():
    return new_encoder(openclip_config())


def opened(path):
    """Coarse, so that large ones are soon read."""
    raster = Raster(path)
    longest = max(raster.width, raster.height)
    is_kept = raster.gsd is None or longest <= LONGEST or path.name in BROKEN
    return raster if is_kept else Raster(path, gsd=raster.gsd * longest / LONGEST)


def check_places(found, raster):
    corners = raster.to_crs([[0, 0], [raster.width, 0], [0, raster.height], [raster.width, raster.height]])
    middle, reach = corners.mean(axis=0), np.ptp(corners, axis=0) * 0.6 + 1e-9
    for place in found:
        assert 0.3 <= place.score <= 1
        # Beside the disk of the Earth, as geostationary satellites see it, there are no square metres.
        assert place.area_m2 is None or place.area_m2 > 0
        assert (place.area_m2 is not None) == (raster.gsd is not None) or "Geostationary" in raster.crs
        assert np.isfinite(place.polygon.bounds).all()
        if raster.crs is None:
            assert (np.abs(np.array(place.point) - middle) <= reach).all()


def check_exports(found, folder):
    """All are written; only what has no place on the Earth is not, and says so."""
    import rasterio

    try:
        content = json.loads(found.to_geojson(folder / "a.geojson").read_text(encoding="utf-8"))
    except UsageError as error:
        assert "to_geodataframe" in str(error) or "not on the Earth" in str(error)  # noqa: PT017
    else:
        assert len(content["features"]) == len(found)
    assert len(found.to_geodataframe()) == len(found)
    assert found.to_geoparquet(folder / "a.parquet").stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rasterio's own, of files without a place
        with rasterio.open(found.to_heatmap(folder / "a.tif")) as file:
            assert (file.height, file.width) == found.heat_maps["a lake"].scores.shape
            assert (file.crs is None) == (found.crs is None)
    assert "showPlaces" in found.save_map(folder / "a.html", max_side=64).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_real_raster(tmp_path, encoder, path):
    if path.name in REFUSED:
        with pytest.raises(ImageError, match=REFUSED[path.name]) as caught:
            scan(path, "a lake", encoder)
        assert path.name in str(caught.value)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", NotGeoreferenced)
        raster = opened(path)
    assert (raster.crs is None) == any(issubclass(one.category, NotGeoreferenced) for one in told)
    window = max(32, max(raster.width, raster.height) // 3)
    options = {"against": ["a town", "a field"], "threshold": 0.3, "templates": "{}", "window": window, "overlap": 0}
    found = scan(raster, "a lake", encoder, **options)
    assert found.crs == raster.crs
    assert bool(found.report.failures) == (path.name in BROKEN)
    if path.name == "all_nodata_uint16_4band.tif":
        assert (len(found), found.report.done) == (0, 0)
    check_places(found, raster)
    check_exports(found, tmp_path)


def test_the_real_rasters_are_here(shared_data):
    """Without them, the test above has nothing to run on and would pass in silence."""
    assert len(list((shared_data / "geo_rasters").glob("*.tif*"))) == 32
    assert len(PATHS) > 57
