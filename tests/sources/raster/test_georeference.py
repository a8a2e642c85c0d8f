"""Places: against rasterio's own transforms, and for rasters that lie oddly."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import rasterio
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, GCPTransformer
from rasterio.warp import transform as warp

from geovlm.errors import NotGeoreferenced, UsageError
from geovlm.sources.raster import Raster, Window
from tests.sources.raster.rasters import noise, write

pytestmark = pytest.mark.filterwarnings("ignore:.*matmul")

NOT_ON_EARTH = {"mars_hirise_rgb_non_earth_crs.tif"}
OFF_THE_DISC = {"goes_full_disk_geos_proj.tif", "himawari_disk_rgb_geos_proj.tif"}


def reference_places(path, points):
    """`(CRS coordinates, longitudes and latitudes)` by rasterio alone."""
    with rasterio.open(path) as dataset:
        control, crs = dataset.gcps
        if dataset.crs is not None:
            crs = dataset.crs
            x, y = dataset.transform * points.T
        else:
            x, y = (np.asarray(v) for v in GCPTransformer(control).xy(*points.T[::-1], offset="ul"))
    places = np.column_stack([x, y])
    return places, np.column_stack(warp(crs, "EPSG:4326", x.tolist(), y.tolist()))


def rasters(shared_data):
    found = sorted((shared_data / "geo_rasters").glob("*.tif*"))
    assert len(found) == 32
    return found


def test_all_places_are_within_a_tenth_of_a_pixel_of_those_of_rasterio(shared_data):
    rng = np.random.default_rng(0)
    worst = 0.0
    for path in rasters(shared_data):
        if path.name in NOT_ON_EARTH | OFF_THE_DISC:
            continue
        raster = Raster(path)
        corners = np.asarray(raster.window.ring, dtype=float)
        points = np.concatenate([corners, rng.uniform(0, 1, (50, 2)) * (raster.width, raster.height)])
        places, lonlat = reference_places(path, points)
        size = np.linalg.norm(np.reshape(raster.transform, (2, 3))[:, :2], axis=0).min()
        worst = max(worst, np.abs(raster.to_crs(points) - places).max() / size)
        _, _, metres = Geod(ellps="WGS84").inv(*raster.to_lonlat(points).T, *lonlat.T)
        worst = max(worst, np.max(metres) / min(raster.pixel_size))
    assert worst < 0.1


def test_all_footprints_are_within_a_tenth_of_a_pixel_of_dense_edges(shared_data):
    for path in rasters(shared_data):
        raster = Raster(path)
        if path.name in NOT_ON_EARTH | OFF_THE_DISC:
            assert raster.footprint() is None
            continue
        share = np.linspace(0, 1, 501)[:, None]
        ring = np.asarray(raster.window.ring, dtype=float)
        edges = np.concatenate([a + share * (b - a) for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True)])
        _, lonlat = reference_places(path, edges)
        lonlat[:, 0] = np.unwrap(lonlat[:, 0], period=360)
        box, middle = raster.footprint(), lonlat[:, 1].mean()
        metres = np.array([111_320 * np.cos(np.radians(middle)), 111_320])
        degrees = np.concatenate([lonlat.min(axis=0), lonlat.max(axis=0)])
        wrong = (np.array(box.bounds) - degrees + 180) % 360 - 180
        assert (np.abs(wrong.reshape(2, 2) * metres) < 0.1 * min(raster.pixel_size)).all(), path.name


def test_where_not_all_is_on_the_earth_coordinates_are_those_of_rasterio(shared_data):
    """And longitudes and latitudes on the disc; rasterio has none beside it."""
    rng = np.random.default_rng(0)
    for name in sorted(NOT_ON_EARTH | OFF_THE_DISC):
        path = shared_data / "geo_rasters" / name
        raster = Raster(path)
        angles, radii = rng.uniform(0, 2 * np.pi, 200), rng.uniform(0, 0.4, 200)
        shares = 0.5 + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
        points = shares * (raster.width, raster.height)
        with rasterio.open(path) as dataset:
            places, crs = np.column_stack(dataset.transform * points.T), dataset.crs
        size = np.linalg.norm(np.reshape(raster.transform, (2, 3))[:, :2], axis=0).min()
        assert np.abs(raster.to_crs(points) - places).max() / size < 0.1, name
        if name in OFF_THE_DISC:
            lonlat = np.column_stack(warp(crs, "EPSG:4326", *places.T.tolist()))
            _, _, metres = Geod(ellps="WGS84").inv(*raster.to_lonlat(points).T, *lonlat.T)
            assert np.max(metres) / min(raster.pixel_size) < 0.1, name


def test_discs_seen_from_space(shared_data):
    raster = Raster(shared_data / "geo_rasters" / "goes_full_disk_geos_proj.tif")
    assert raster.unplaced is None
    assert raster.footprint(Window(col=0, row=0, width=100, height=100)) is None
    assert np.isinf(raster.to_lonlat([(0, 0)])).all()
    inside = raster.footprint(Window(col=260, row=260, width=20, height=20))
    assert inside.west < -75 < inside.east
    assert inside.south < 0 < inside.north
    assert raster.area_m2([(0, 0), (50, 0), (50, 50), (0, 50)]) is None


def test_mars_is_not_on_the_earth(shared_data):
    raster = Raster(shared_data / "geo_rasters" / "mars_hirise_rgb_non_earth_crs.tif")
    assert "3,396 km" in raster.unplaced
    assert raster.gsd == pytest.approx(5.0, abs=0.01)
    assert raster.area_m2([(0, 0), (9, 0), (9, 9)]) is None
    assert raster.to_crs([(0, 0)])[0] == pytest.approx([7376380.5, -860015.5])
    with pytest.raises(NotGeoreferenced, match="3,396 km"):
        raster.to_lonlat([(0, 0)])


def test_the_dateline_gives_west_above_east(shared_data):
    box = Raster(shared_data / "geo_rasters" / "landsat_dateline_2325x2355_uint16_cog.tif").footprint()
    assert 177 < box.west < 180
    assert -180 < box.east < -178


def test_without_a_crs_there_are_pixels_and_a_warning(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 30, 40), crs=None, transform=Affine(2, 0, 100, 0, -2, 900))
    with pytest.warns(NotGeoreferenced, match="places are pixels") as told:
        raster = Raster(path)
    assert len(told) == 1
    assert (raster.crs, raster.gsd, raster.footprint()) == (None, None, None)
    assert raster.transform == (1, 0, 0, 0, 1, 0)
    assert raster.to_crs([(3, 4)]).tolist() == [[3, 4]]
    assert raster.area_m2([(0, 0), (9, 0), (9, 9)]) is None
    with pytest.raises(NotGeoreferenced, match="no coordinate reference system"):
        raster.to_lonlat([(0, 0)])
    with pytest.raises(UsageError, match="gsd"):
        Raster(path, gsd=2)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_crs_alone_is_no_place(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 30, 40), transform=Affine.identity())
    with pytest.warns(NotGeoreferenced, match="places are pixels"):
        raster = Raster(path)
    assert (raster.crs, raster.footprint()) == (None, None)


def test_a_plan_of_a_factory_is_not_on_the_earth(tmp_path):
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    raster = Raster(write(tmp_path / "a.tif", noise(1, 30, 40), crs=local, transform=Affine(2, 0, 10, 0, -2, 90)))
    assert raster.crs is not None
    assert (raster.gsd, raster.footprint()) == (2, None)
    assert raster.to_crs([(1, 1)]).tolist() == [[12, 88]]
    assert "no way to WGS 84" in raster.unplaced


@pytest.mark.parametrize(
    "transform",
    [
        Affine(2, 0, 500_000, 0, -2, 5_200_000),
        Affine(2, 0, 500_000, 0, 2, 5_200_000),  # south up
        Affine.translation(500_000, 5_200_000) @ Affine.rotation(30) @ Affine.scale(2, -2),
        Affine(1.5, 0.7, 500_000, 0.4, -2.2, 5_200_000),  # sheared
    ],
)
def test_rotated_south_up_and_sheared(tmp_path, transform):
    path = write(tmp_path / "a.tif", noise(3, 30, 40), transform=transform)
    raster = Raster(path)
    points = np.array([(0, 0), (40, 0), (40, 30), (0, 30), (7.5, 3.25)])
    places, lonlat = reference_places(path, points)
    assert raster.to_crs(points) == pytest.approx(places, abs=1e-6)
    assert raster.to_lonlat(points) == pytest.approx(lonlat, abs=1e-9)
    assert raster.transform == pytest.approx(tuple(transform)[:6])
    box = raster.footprint()
    assert (box.west, box.north) == pytest.approx((lonlat[:, 0].min(), lonlat[:, 1].max()), abs=1e-7)
    assert raster.area_m2(raster.window.ring) == pytest.approx(1200 * abs(transform.determinant), rel=2e-3)


def test_control_points_only(tmp_path):
    control = [
        GroundControlPoint(row=r, col=c, x=8 + c * 1e-3 + (c * r) * 1e-7, y=47 - r * 1e-3)
        for r in (0, 50, 100)
        for c in (0, 50, 100)
    ]
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=100, height=100, count=1, dtype="uint8") as file:
        file.write(noise(1, 100, 100))
        file.gcps = control, "EPSG:4326"
    raster = Raster(path)
    assert raster.has_control_points
    assert raster.crs == "EPSG:4326"
    places, _ = reference_places(path, np.array([(0.0, 0.0), (100.0, 40.0)]))
    assert raster.to_lonlat([(0, 0), (100, 40)]) == pytest.approx(places, abs=1e-9)
    half = Raster(path, gsd=raster.gsd * 2)
    x, y = 100 / half.width, 100 / half.height
    assert half.to_lonlat([(100 / x, 40 / y)]) == pytest.approx(places[1:], abs=1e-9)


def test_a_whole_globe_and_a_pole(tmp_path):
    globe = write(tmp_path / "g.tif", noise(1, 180, 360), crs="EPSG:4326", transform=Affine(1, 0, -180, 0, -1, 90))
    assert Raster(globe).footprint().bounds == (-180, -90, 180, 90)
    shifted = write(tmp_path / "s.tif", noise(1, 180, 360), crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 90))
    east = Raster(shifted).footprint(Window(col=350, row=10, width=10, height=10))
    assert east.bounds == pytest.approx((-10, 70, 0, 80))
    pole = write(
        tmp_path / "p.tif", noise(1, 100, 100), crs="EPSG:3031", transform=Affine(5e4, 0, -2.5e6, 0, -5e4, 2.5e6)
    )
    box = Raster(pole).footprint()
    assert (box.west, box.south, box.east) == (-180, -90, 180)
    assert -70 < box.north < -55
    beside = Raster(pole).footprint(Window(col=80, row=10, width=10, height=10))
    assert 30 < beside.west < beside.east < 60


def test_gsd_is_that_of_the_ground(tmp_path):
    metres = write(tmp_path / "m.tif", noise(1, 50, 50), pixel=10)
    assert Raster(metres).gsd == 10  # not 9.996
    mercator = write(
        tmp_path / "w.tif", noise(1, 50, 50), crs="EPSG:3857", transform=Affine(10, 0, 0, 0, -10, 8_399_737)
    )
    assert Raster(mercator).gsd == pytest.approx(5.0, rel=0.01)  # 60 degrees north
    feet = write(tmp_path / "f.tif", noise(1, 50, 50), crs="EPSG:2263", transform=Affine(1, 0, 9.8e5, 0, -1, 2e5))
    assert Raster(feet).gsd == pytest.approx(0.3048, rel=1e-3)
    degrees = write(tmp_path / "d.tif", noise(1, 40, 40), crs="EPSG:4326", transform=Affine(1e-4, 0, 10, 0, -1e-4, 60))
    raster = Raster(degrees)
    assert raster.pixel_size == pytest.approx((5.58, 11.14), rel=0.01)
    square = Raster(degrees, gsd=11.14)
    assert (square.width, square.height) == (20, 40)
    assert square.pixel_size == pytest.approx((11.14, 11.14), rel=0.01)


def test_area_of_mercator_is_that_of_the_ground(tmp_path):
    path = write(tmp_path / "w.tif", noise(1, 50, 50), crs="EPSG:3857", transform=Affine(10, 0, 0, 0, -10, 8_399_737))
    raster = Raster(path)
    ring = [(0, 0), (50, 0), (50, 50), (0, 50)]
    assert raster.area_m2(ring) == pytest.approx(2500 * 25, rel=0.02)
    assert raster.area_m2([*ring, ring[0]]) == pytest.approx(raster.area_m2(ring[::-1]))


def test_a_raster_travels_to_other_processes(tmp_path):
    raster = Raster(write(tmp_path / "a.tif", noise(3, 30, 40)), gsd=4)
    other = pickle.loads(pickle.dumps(raster))
    assert (other.read(other.window)[0] == raster.read(raster.window)[0]).all()
    assert other.footprint() == raster.footprint()
