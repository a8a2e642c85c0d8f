"""`scan` over generated rasters: places are right on the map, whatever the map is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image
from rasterio.transform import Affine
from shapely import box, transform

from geovlm.detection import scan
from geovlm.encoders import new_encoder
from geovlm.errors import ImageError, UsageError
from geovlm.sources.raster import Raster
from geovlm.testing import HashEncoder
from tests.detection.oracle import PATCH, SIDE, Oracle, paint, write
from tests.models import openclip_config, picture

PLANTED = (320, 192, 416, 272, "blue")
TRANSFORMS = {
    "utm": ("EPSG:32632", Affine(2, 0, 500_000, 0, -2, 5_000_000)),
    "degrees": ("EPSG:4326", Affine(1e-5, 0, 8.5, 0, -1e-5, 47.0)),
    "south-up": ("EPSG:32632", Affine(2, 0, 500_000, 0, 2, 5_000_000)),
    "rotated": ("EPSG:32632", Affine(1.6, 1.2, 500_000, 1.2, -1.6, 5_000_000)),
}


def blue(found):
    return [one for one in found if one.query == "blue"]


@pytest.fixture
def field(tmp_path):
    return write(tmp_path / "field.tif", paint(700, 500, [PLANTED]))


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_planted_box_is_found_where_it_is(tmp_path, kind):
    crs, affine = TRANSFORMS[kind]
    path = write(tmp_path / "a.tif", paint(700, 500, [PLANTED]), crs=crs, transform=affine)
    (found,) = scan(path, "blue", Oracle(), against=["green"])
    left, top, right, bottom, _ = PLANTED
    truth = transform(box(left, top, right, bottom), lambda p: np.array([affine @ tuple(one) for one in p]))
    assert found.polygon.intersection(truth).area / found.polygon.union(truth).area > 0.85
    pixel = abs(affine.determinant) ** 0.5
    assert found.polygon.centroid.distance(truth.centroid) < PATCH / 2 * pixel
    assert truth.contains(found.polygon.centroid)
    assert truth.centroid.distance(box(*found.peak, *found.peak)) < PATCH * pixel
    assert found.score > 0.9
    if kind != "degrees":
        assert found.area_m2 == pytest.approx(found.polygon.area, rel=2e-3)


def test_nothing_is_found_where_nothing_is(field):
    found = scan(field, "yellow", Oracle(), against=["green", "blue"])
    assert len(found) == 0
    assert found.heat_maps["yellow"].scores.max() < 0.5


def test_windows_meet_without_seams(tmp_path):
    """The map of many windows is the map of one window, where vectors are the same in both."""
    path = write(tmp_path / "a.tif", paint(SIDE, SIDE, [(16, 16, 48, 40, "blue")]))
    wide = write(tmp_path / "b.tif", np.tile(paint(SIDE, SIDE, [(16, 16, 48, 40, "blue")]), (3, 4, 1)))
    options = {"against": ["green"], "debias": 0, "gate": 0}
    one = scan(path, "blue", Oracle(), **options).heat_maps["blue"].scores
    for overlap in (0.0, 0.25, 0.5, 0.75):
        many = scan(wide, "blue", Oracle(), overlap=overlap, **options).heat_maps["blue"].scores
        np.testing.assert_allclose(many, np.tile(one, (3, 4)), atol=1e-5)


def test_several_queries_in_one_pass_are_as_single_ones(tmp_path):
    path = write(tmp_path / "a.tif", paint(400, 300, [PLANTED, (0, 0, 90, 90, "red")]))
    encoder = Oracle(log=tmp_path / "log")
    together = scan(path, ["blue", "red", "yellow, red"], encoder, against=["green"])
    passes = (tmp_path / "log").read_text().count("\n")
    for query in ("blue", "red", "yellow, red"):
        alone = scan(path, query, Oracle(), against=["green"])
        np.testing.assert_array_equal(together.heat_maps[query].scores, alone.heat_maps[query].scores)
        mine = together.filter(query=query)
        assert [one.polygon for one in mine] == [one.polygon for one in alone]
    assert passes == sum(1 for _ in (tmp_path / "log").open())
    assert together.queries == ("blue", "red", "yellow, red")


def test_a_contrast_phrase_that_means_a_query_is_left_out_for_it_only(tmp_path):
    path = write(tmp_path / "a.tif", paint(200, 200, [(0, 0, 90, 90, "red")]))
    found = scan(path, ["red", "green"], Oracle(), against=["Red", "the greens", "blue"])
    assert found.settings["phrases"]["red"]["against"] == ["the greens", "blue"]
    assert found.settings["phrases"]["green"]["against"] == ["Red", "blue"]


def test_cells_without_data_have_no_score_and_empty_windows_are_skipped(tmp_path):
    pixels = paint(640, 320, [PLANTED])
    pixels[:, :256] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0)
    found = scan(path, "blue", Oracle(), against=["green"])
    scores = found.heat_maps["blue"].scores
    assert np.isnan(scores[:, :16]).all()
    assert np.isfinite(scores[:, 16:]).all()
    assert found.settings["windows"]["empty"] == found.report.skipped > 0
    assert found.report.total == sum(found.settings["windows"].values())
    assert len(found) == 1


def test_a_raster_without_any_data(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((200, 200, 3), dtype=np.uint8), nodata=0)
    found = scan(path, "blue", Oracle(), against=["green"])
    assert (len(found), found.report.done) == (0, 0)
    assert np.isnan(found.heat_maps["blue"].scores).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (63, 64), (65, 64), (129, 17)])
def test_rasters_smaller_than_a_window_or_no_multiple_of_it(tmp_path, size):
    path = write(tmp_path / "a.tif", paint(*size, [], background="blue"))
    found = scan(path, "blue", Oracle(), against=["green"])
    assert len(found) == 1
    left, bottom, right, top = found[0].box
    assert (left, top) == (500_000, 5_000_000)
    assert (right, bottom) == pytest.approx((500_000 + 2 * size[0], 5_000_000 - 2 * size[1]))
    assert found[0].area_m2 == pytest.approx(4 * size[0] * size[1], rel=5e-3)
    heat = found.heat_maps["blue"]
    assert heat.scores.shape == (-(-size[1] // PATCH), -(-size[0] // PATCH))
    assert heat.transform == (32, 0, 500_000, 0, -32, 5_000_000)


def test_larger_windows_have_larger_cells(field):
    found = scan(field, "blue", Oracle(), against=["green"], window=2 * SIDE - 1)
    assert found.settings["window"] == 2 * SIDE
    assert found.settings["cell"] == 2 * PATCH
    (one,) = found
    assert abs(one.polygon.centroid.x - (500_000 + 2 * 368)) < 2 * PATCH


def test_window_scores_where_patches_are_not_wanted_or_not_there(field):
    truth = box(500_640, 4_999_456, 500_832, 4_999_616)
    for encoder, dense in ((Oracle(), False), (HashEncoder(), None)):
        (found,) = scan(field, "blue", encoder, against=["green"], dense=dense, window=64, overlap=0.5)
        assert found.polygon.contains(truth.centroid)
        assert found.polygon.intersection(truth).area / found.polygon.union(truth).area > 0.4
    with pytest.raises(UsageError, match="none a patch"):
        scan(field, "blue", HashEncoder(), dense=True)


def test_a_sigmoid_model_scores_a_text_by_itself(field):
    class Sigmoid(Oracle):
        logit_bias = -30.0

    found = scan(field, "blue", Sigmoid(), debias=0, gate=0)
    assert found.settings["phrases"]["blue"]["against"] == []
    (one,) = found
    assert one.score == pytest.approx(1 / (1 + np.exp(-10)), rel=1e-3)
    held = scan(field, "blue", Sigmoid(), against=["green"])
    assert held.settings["phrases"]["blue"]["against"] == ["green"]


def test_unreadable_windows_are_failures_and_the_scan_goes_on(field):
    class Torn(Raster):
        def read(self, window):
            if window.col > 500 and window.row < 100:
                raise ImageError("the tile is torn")
            return super().read(window)

    found = scan(Torn(field), "blue", Oracle(), against=["green"])
    assert len(found) == 1
    assert found.report.failed == found.settings["windows"]["failed"] > 0
    assert found.report.failures[0].reason == "the tile is torn"
    assert np.isnan(found.heat_maps["blue"].scores[0, -1])


def test_vectors_that_are_no_numbers_are_failures(field):
    class Nan(Oracle):
        def encode_dense(self, pixels):
            vectors, cells = super().encode_dense(pixels)
            return vectors, np.where(pixels.max() > 190, np.nan, cells)

    found = scan(field, "blue", Nan(), against=["green"])
    assert found.report.failed > 0
    assert found.report.done > 0
    assert "NaN" in found.report.failures[0].reason


def test_without_a_crs_places_are_pixels_and_a_warning_says_so(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(paint(400, 300, [(64, 64, 160, 144, "blue")])).save(path)
    with pytest.warns(UserWarning, match="pixels"):
        found = scan(path, "blue", Oracle(), against=["green"])
    assert found.crs is None
    assert found[0].area_m2 is None
    assert found[0].polygon.centroid.distance(box(112, 104, 112, 104)) < PATCH / 2


def test_several_rasters(tmp_path):
    paths = [
        write(tmp_path / f"{i}.tif", paint(300, 200, [(64 * i, 64, 64 * i + 64, 128, "blue")]), **where)
        for i, where in enumerate([{}, {"transform": Affine(2, 0, 510_000, 0, -2, 5_000_000)}])
    ]
    found = scan(paths, "blue", Oracle(), against=["green"], out=tmp_path / "out")
    assert sorted(one.raster for one in found) == sorted(map(str, paths))
    assert len(found.heat_maps) == 2
    assert found.report.done == 2 * scan(paths[0], "blue", Oracle(), against=["green"]).report.done
    again = scan(paths, "blue", Oracle(log=tmp_path / "log"), against=["green"], out=tmp_path / "out")
    assert not (tmp_path / "log").exists()
    assert [one.polygon for one in again] == [one.polygon for one in found]


def test_small_places_can_be_left_out(tmp_path):
    path = write(tmp_path / "a.tif", paint(400, 300, [(64, 64, 80, 80, "blue"), (160, 96, 288, 256, "blue")]))
    assert len(scan(path, "blue", Oracle(), against=["green"])) == 2
    (large,) = scan(path, "blue", Oracle(), against=["green"], min_area=10_000)
    assert large.area_m2 > 10_000


def test_bands_and_gsd_choose_what_is_seen(tmp_path):
    path = write(tmp_path / "a.tif", np.ascontiguousarray(paint(700, 500, [PLANTED])[:, :, ::-1]))
    (found,) = scan(path, "blue", Oracle(), against=["green"], bands=(3, 2, 1), gsd=4)
    assert found.polygon.centroid.distance(box(500_736, 4_999_536, 500_736, 4_999_536)) < 4 * PATCH / 2
    with pytest.raises(UsageError, match="belong to the Raster"):
        scan(Raster(path), "blue", Oracle(), gsd=4)


def test_land_covers_are_the_usual_contrast(field):
    found = scan(field, "a pine forest, a lake", Oracle())
    against = found.settings["phrases"]["a pine forest, a lake"]["against"]
    assert "farmland" in against
    assert not {"forest", "a lake"} & {*against}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"query": ""}, "at least one word"),
        ({"query": " , "}, "at least one word"),
        ({"query": "?!"}, "letter or digit"),
        ({"query": []}, "nothing to look for"),
        ({"query": ["blue", "blue"]}, "there twice"),
        ({"query": ["blue", 3]}, "A query is a text"),
        ({"query": "word " * 300}, "300 words"),
        ({"against": ()}, "nothing to hold"),
        ({"against": ["the Blue"]}, "nothing to hold"),
        ({"against": "green"}, "list of phrases"),
        ({"against": ["green", ""]}, "letter or digit"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"overlap": 1.0}, "share of the window"),
        ({"window": 3}, "at least one pixel"),
        ({"batch_size": 0}, "batch_size"),
        ({"temperature": 0}, "temperature"),
        ({"gate": -1}, "gate"),
        ({"min_area": -1}, "min_area"),
        ({"encoder": "skyclip-vit-b-32"}, "load_encoder"),
        ({"encoder": object()}, "load_encoder"),
        ({"raster": []}, "no raster"),
        ({"raster": 7}, "A raster is a path"),
        ({"templates": "a map of"}, "contains {}"),
        ({"calibration": 0.5}, "calibrate"),
    ],
)
def test_what_cannot_be_right_is_said_before_anything_is_read(field, tmp_path, wrong, words):
    call = {"raster": field, "query": "blue", "encoder": Oracle(log=tmp_path / "log"), "against": ["green"], **wrong}
    with pytest.raises(UsageError, match=words):
        scan(call.pop("raster"), call.pop("query"), call.pop("encoder"), **call)
    assert not (tmp_path / "log").exists()


def test_a_missing_raster(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        scan(tmp_path / "nothing.tif", "blue", Oracle())


def test_quiet(field, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan(field, "blue", Oracle(), against=["green"])
    assert capsys.readouterr() == ("", "")


def test_a_real_model_gives_what_its_softmax_says(tmp_path):
    """One window of a tiny ViT of open_clip: the probability among the contrast phrases, and a map of its patches."""
    encoder = new_encoder(openclip_config(), device="cpu", dtype="float32")
    image = picture(3, (32, 32))
    path = write(tmp_path / "a.tif", np.asarray(image))
    against = ["forest", "a town"]
    options = {"against": against, "templates": "clip", "threshold": 1e-6}
    (found,) = scan(path, "a vineyard", encoder, dense=False, **options)
    texts = encoder.encode_texts([f"a photo of a {text}." for text in ("a vineyard", *against)])
    logits = encoder.logit_scale * (encoder.encode_images([image]) @ texts.T)[0]
    assert found.score == pytest.approx(np.exp(logits[0]) / np.exp(logits).sum(), rel=1e-4)

    heat = scan(path, "a vineyard", encoder, debias=0, gate=0, **options).heat_maps["a vineyard"].scores
    cells = encoder.encode_dense(np.asarray(image)[None])[1][0]
    logits = encoder.logit_scale / 2 * (cells @ texts.T)
    np.testing.assert_allclose(heat, np.exp(logits[..., 0]) / np.exp(logits).sum(axis=-1), rtol=1e-4)
