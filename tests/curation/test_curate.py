"""From captions as they come to captions worth training on."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import geovlm as gv
from geovlm.curation._match import scores
from geovlm.errors import ConfigMismatch, StorageError, UsageError
from geovlm.testing import HashEncoder

COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def scene(number, captions, **more):
    colour = COLOURS[number % len(COLOURS)]
    return gv.Record(id=f"{number:03}", image=Image.new("RGB", (8, 8), colour), captions=captions, **more)


def pairs(count=60, wrong=()):
    """Three captions an image that name its colour, except the second of those in `wrong`."""
    records = []
    for number in range(count):
        colour = COLOURS[number % len(COLOURS)]
        other = COLOURS[(number + 3) % len(COLOURS)]
        second = other if number in wrong else colour
        captions = [
            f"a {colour} field {number}",
            f"land that is {second} number {number}",
            f"{colour} ground {number} above",
        ]
        records.append(scene(number, captions))
    return records


def test_wrong_captions_are_found():
    wrong = {3, 17, 29, 41, 55}
    found = gv.curate(pairs(wrong=wrong), encoder=HashEncoder(), rules=gv.CurationRules(drop_share=5 / 180))
    dropped = found.to_pandas().query("kept.isnull()")
    assert set(dropped["id"]) == {f"{number:03}" for number in wrong}
    assert dropped["caption"].str.startswith("land that is").all()
    assert found.counts == {"kept": 175, "among the lowest scores": 5}
    assert len(found.dataset) == 60
    assert str(found).startswith("175 of 180 captions kept")


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["", "a red field", "red red red", "blue lake here"]), max_size=4), max_size=6
    ),
    share=st.sampled_from([0.0, 0.3, 0.9]),
    copies=st.sampled_from([None, 1, 2]),
    best=st.sampled_from([None, 1]),
)
def test_every_caption_and_every_image_ends_in_one_state(texts, share, copies, best):
    source = [scene(number, captions) for number, captions in enumerate(texts)]
    rules = gv.CurationRules(drop_share=share, copies=copies, best=best)
    found = gv.curate(source, encoder=HashEncoder(), rules=rules)
    table = found.to_pandas()
    assert list(table["caption"]) == [text for captions in texts for text in captions]
    assert (table["kept"].isnull() ^ table["reason"].isnull()).all()
    assert sum(found.counts.values()) == len(table)
    assert found.report.total == len(source)
    assert found.report.done == len(found.dataset)
    kept = {record.id: list(record.captions) for record in found.dataset}
    assert kept == {
        key: list(rows["kept"].dropna()) for key, rows in table.groupby("id") if rows["kept"].notnull().any()
    }
    assert sum(len(captions) for captions in kept.values()) >= 0


def test_copies_are_counted_over_images_and_the_worst_go():
    source = [scene(number, ["a red field"]) for number in range(12)]
    found = gv.curate(source, encoder=HashEncoder(), rules=gv.CurationRules(copies=2))
    assert {record.id for record in found.dataset} == {"000", "006"}, "only these two are red"
    assert found.counts["2 other images have it"] == 10


def test_groups_have_their_own_limits():
    source = [evolve(record, meta={"gsd": "fine" if number % 3 else "coarse"}) for number, record in enumerate(pairs())]
    found = gv.curate(source, encoder=HashEncoder(), rules=gv.CurationRules(drop_share=0.5, group_by="gsd"))
    table = found.to_pandas()
    for group, remainder in (("coarse", [0]), ("fine", [1, 2])):
        rows = table[table["id"].astype(int).mod(3).isin(remainder)]
        assert rows["kept"].isnull().mean() <= 0.5
        assert set(rows["reason"].dropna()) <= {f"among the lowest scores of gsd {group}"}
    few = gv.curate(source, rules=gv.CurationRules(group_by="gsd", per_group=4))
    assert len(few.dataset) == 8
    with pytest.raises(UsageError, match="metadata"):
        gv.curate(source, rules=gv.CurationRules(group_by="sensor", per_group=4))


def test_a_broken_image_costs_its_captions_only(tmp_path):
    source = [*pairs(12), gv.Record(id="broken", image=b"no image", captions=["a red field", "a red lake"])]
    found = gv.curate(source, encoder=HashEncoder(), rules=gv.CurationRules(drop_share=0.1), out=tmp_path / "out")
    assert [failure.id for failure in found.report.failures] == ["broken"]
    assert "no image" in found.report.failures[0].reason
    assert len(found.dataset) == 12


def test_it_goes_on_where_it_stopped(tmp_path):
    class Counting(HashEncoder):
        seen = 0

        def encode_images(self, images):
            Counting.seen += len(images)
            return super().encode_images(images)

    rules = gv.CurationRules(drop_share=0.1)
    first = gv.curate(pairs(), encoder=Counting(), rules=rules, out=tmp_path / "out")
    again = gv.curate(pairs(), encoder=Counting(), rules=rules, out=tmp_path / "out")
    assert Counting.seen == 60
    assert again.captions.equals(first.captions)
    assert gv.Dataset.open(tmp_path / "out" / "dataset").fingerprint == first.dataset.fingerprint
    assert pq.read_table(tmp_path / "out" / "captions.parquet").equals(first.captions)
    with pytest.raises(ConfigMismatch):
        gv.curate(pairs(), encoder=HashEncoder(dim=48), rules=rules, out=tmp_path / "out")


def test_what_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises((StorageError, UsageError)):
        gv.curate(pairs(6), encoder=HashEncoder(), out=tmp_path / "out")


def test_rules_that_need_an_encoder_say_so():
    with pytest.raises(UsageError, match="encoder"):
        gv.curate(pairs(6), rules=gv.CurationRules(best=1))


def test_nothing_in_nothing_out():
    found = gv.curate([], rules=gv.CurationRules(drop_share=0.3), encoder=HashEncoder())
    assert len(found.dataset) == 0
    assert found.counts == {"kept": 0}


def test_scores_against_the_definition():
    rng = np.random.default_rng(0)
    owner = np.array([0, 0, 0, 1, 2, 2])
    images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.normal(size=(2, 6, 5)))
    found = scores(images[None, :3].astype(np.float32), texts.astype(np.float32), owner)
    cosine = [images[owner[place]] @ texts[place] for place in range(6)]
    agreement = {}
    for place in range(6):
        others = [other for other in range(6) if owner[other] == owner[place] and other != place]
        agreement[place] = np.mean([texts[place] @ texts[other] for other in others]) if others else 0.0
    for place in range(6):
        siblings = [other for other in range(6) if owner[other] == owner[place]]
        expected = cosine[place] + np.mean([cosine[other] for other in siblings])
        expected += 2 * (agreement[place] - np.mean([agreement[other] for other in siblings]))
        assert found[place] == pytest.approx(expected, abs=1e-5)


def test_a_caption_that_depends_on_the_orientation_is_held_against(tmp_path):
    """Of two captions, the one that fits one rotation only goes."""

    class Sides(HashEncoder):
        """Sees the colour at the upper edge."""

        def encode_images(self, images):
            return super().encode_images([image.crop((0, 0, image.width, 1)) for image in images])

    image = Image.new("RGB", (8, 8), "green")
    image.paste("red", (0, 0, 8, 2))
    source = [gv.Record(id="a", image=image, captions=["a red edge", "a green field"])]
    for rotations, kept in ((False, "a red edge"), (True, "a green field")):
        rules = gv.CurationRules(best=1, rotations=rotations)
        found = gv.curate(source, rules=rules, encoder=Sides(), out=tmp_path / str(rotations))
        assert found.dataset[0].captions == (kept,)


def test_views_that_disagree_lower_the_score():
    texts, owner = np.eye(3, dtype=np.float32)[:1], np.array([0])
    steady, wavering = np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.9, 0.1, 0.9, 0.1])
    found = []
    for cosines in (steady, wavering):
        views = np.stack([np.array([[c, np.sqrt(1 - c**2), 0]], dtype=np.float32) for c in cosines])
        found.append(float(scores(views, texts, owner)[0]))
    assert found[0] == pytest.approx(1.0, abs=1e-5), "twice the mean, for a caption that is alone"
    assert found[1] == pytest.approx(2 * (0.5 - 0.4), abs=1e-5)


def test_an_image_whose_captions_are_all_wrong_is_found():
    """They agree with each other, so only the image can tell."""
    source = pairs()
    source[7] = source[7].with_captions(["a red field", "land that is red", "red ground"])
    found = gv.curate(source, encoder=HashEncoder(), rules=gv.CurationRules(drop_share=3 / 180))
    assert set(found.to_pandas().query("kept.isnull()")["id"]) == {"007"}


def test_a_notebook_shows_what_was_dropped():
    page = gv.curate([scene(0, ["a <b>red</b> field", "red"])])._repr_html_()
    assert "fewer than 2 words" in page
    assert "<b>red" not in page
