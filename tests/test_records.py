"""Values: what they refuse, and how reports count."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geovlm._tables import dump_meta, failures_in, to_metadata, to_record, to_table
from geovlm.errors import ImageError, UsageError
from geovlm.records import Failure, Footprint, Record, Report

JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
LONGITUDES, LATITUDES = st.floats(-180, 180), st.floats(-90, 90)


@given(
    st.builds(
        Record,
        id=st.text(min_size=1),
        image=st.none() | st.text(min_size=1),
        captions=st.lists(st.text(), max_size=3),
        label=st.none() | st.text(),
        footprint=st.none()
        | st.builds(Footprint, west=LONGITUDES, east=LONGITUDES, south=st.floats(-90, 0), north=st.floats(0, 90)),
        meta=st.dictionaries(st.text(), JSON_LIKE, max_size=3),
    )
)
def test_records_survive_the_table(record):
    """Row and back gives an equal record, for any text and any JSON-like metadata."""
    back = to_record(to_table([record]).to_pylist()[0])
    assert back == record
    assert back.uri == record.uri


def test_failed_rows_tell_who_and_why():
    records = [Record(id="a", image="a.jpg"), Record(id="b")]
    failure = Failure(id="a", uri="a.jpg", stage="decode", reason="the file is empty")
    assert list(failures_in(to_table(records, [failure, None]))) == [failure]


def test_metadata_for_stores_keeps_own_fields_apart():
    box = Footprint(west=1, south=2, east=3, north=4)
    record = Record(id="a", image="a.jpg", label="port", captions=["x"], footprint=box, meta={"year": 2024})
    assert to_metadata(record) == {
        "year": 2024,
        "uri": "a.jpg",
        "label": "port",
        "captions": ["x"],
        "footprint": [1, 2, 3, 4],
    }
    assert to_metadata(Record(id="a")) == {}


def test_numpy_values_and_dates_become_json():
    import datetime as dt

    value = {"gsd": np.float32(0.5), "bands": np.array([1, 2]), "day": dt.date(2024, 5, 1)}
    assert dump_meta(value) == '{"bands": [1, 2], "day": "2024-05-01", "gsd": 0.5}'
    with pytest.raises(UsageError, match="JSON-like"):
        dump_meta({"x": object()})


@pytest.mark.parametrize("key", ["", None, 7])
def test_ids_are_text(key):
    with pytest.raises(UsageError, match="id"):
        Record(id=key)


@pytest.mark.parametrize(
    "box",
    [
        {"west": -181, "south": 0, "east": 0, "north": 1},
        {"west": 0, "south": 2, "east": 1, "north": 1},
        {"west": 0, "south": 0, "east": 1, "north": 91},
        {"west": float("nan"), "south": 0, "east": 1, "north": 1},
    ],
)
def test_impossible_footprints(box):
    with pytest.raises(UsageError):
        Footprint(**box)


@given(LONGITUDES, LONGITUDES)
def test_center_lies_inside_also_across_the_antimeridian(west, east):
    longitude, _ = Footprint(west=west, east=east, south=0, north=1).center
    assert -180 <= longitude <= 180
    width = (east - west) % 360 if west > east else east - west
    assert (longitude - west) % 360 <= width + 1e-9 or (longitude - west) % 360 > 360 - 1e-9


def test_record_without_image():
    with pytest.raises(ImageError, match="no image"):
        Record(id="a").open()
    assert Record(id="a").uri is None


def test_long_reports_stay_short():
    failures = [Failure(id=str(i), stage="decode", reason="broken") for i in range(50)]
    report = Report(done=1, skipped=2, failures=failures)
    assert report.total == 53
    assert len(str(report).splitlines()) == 12
    assert "40 more" in str(report)


def test_html_is_escaped():
    report = Report(failures=[Failure(id="<b>", stage="decode", reason="<script>")])
    assert "<script>" not in report._repr_html_()
    assert "&lt;b&gt;" in report._repr_html_()


class TestRecordInANotebook:
    def test_picture_label_and_captions(self):
        wide = Record(id="a<b", image=np.zeros((40, 1000), np.uint8), label="R&D", captions=["a <b>port</b>"])
        page = wide._repr_html_()
        assert page.count('<img src="data:image/jpeg;base64,') == 1
        assert '<p class="gv-title">a&lt;b</p><img' in page
        label = '<td class="gv-words">label</td><td class="gv-words">R&amp;D</td>'
        assert f"<p>a &lt;b&gt;port&lt;/b&gt;</p><table><tr>{label}</tr></table>" in page
        payload = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
        with Image.open(io.BytesIO(payload)) as image:
            assert image.size == (320, 13)

    def test_a_broken_image_says_why(self):
        page = Record(id="a", image=b"<script>")._repr_html_()
        assert "<img" not in page
        assert "<script>" not in page
        assert "<p>no picture: " in page

    def test_no_image(self):
        page = Record(id="a")._repr_html_()
        assert page.partition("</style>")[2] == '<p class="gv-title">a</p></div>'
