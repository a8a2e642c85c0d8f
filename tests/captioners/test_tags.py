from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.captioners import load_captioner
from geovlm.captioners.options import GenerationOptions
from geovlm.captioners.tags import TEMPLATES, TagCaptioner, with_article
from geovlm.errors import UsageError
from geovlm.protocols import Captioner
from geovlm.records import Record

names = st.text(max_size=12)
metas = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.one_of(st.lists(names, max_size=5), names, st.none(), st.integers(), st.just(math.nan)),
        "gsd": st.one_of(st.floats(), st.integers(), st.text(max_size=3), st.booleans()),
        "place": st.one_of(names, st.none()),
        "season": st.one_of(names, st.integers()),
    },
)


@st.composite
def many_records(draw):
    ids = draw(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=6))
    return [Record(id=key, label=draw(st.none() | names), meta=draw(metas)) for key in ids]


@given(records=many_records(), order=st.randoms(use_true_random=False), seed=st.integers())
def test_captions_depend_on_the_record_alone(records, order, seed):
    """Neither the order nor the batch matters, whatever is in the metadata."""
    captioner = TagCaptioner(seed=seed, captions_per_image=3)
    together = dict(zip([r.id for r in records], captioner.caption(records, []), strict=True))
    order.shuffle(records)
    assert all(captioner.caption([record], []) == [together[record.id]] for record in records)
    for captions in together.values():
        assert len(set(captions)) == len(captions) <= 3
        assert all("{" not in text or "{" in str(records) for text in captions)


@given(record=st.builds(Record, id=st.text(min_size=1), label=st.none() | names, meta=metas))
def test_silent_only_where_there_is_nothing_to_say(record):
    [captions] = TagCaptioner().caption([record], [])
    tags = record.meta.get("tags")
    words = [record.label, *(tags if isinstance(tags, list) else [tags])]
    says_something = any(letter.isalnum() for word in words if isinstance(word, str) for letter in word)
    assert bool(captions) == says_something


def test_variety_and_seeds():
    records = [Record(id=str(number), label="Harbor") for number in range(60)]
    first = TagCaptioner(seed=0).caption(records, [])
    assert len(set(first)) >= len(TEMPLATES) // 2
    assert TagCaptioner(seed=0).caption(records, []) == first
    assert TagCaptioner(seed=1).caption(records, []) != first
    [several] = TagCaptioner(captions_per_image=5).caption(records[:1], [])
    assert len(set(several)) == 5


def test_facts_are_told_somewhere():
    meta = {"tags": np.array(["CargoShip", "crane"]), "gsd": np.float32(0.5), "place": "Rotterdam", "season": "Winter"}
    [captions] = TagCaptioner(captions_per_image=20).caption([Record(id="1", label="Port", meta=meta)], [])
    text = "\n".join(captions)
    for part in ("a port with ", "a cargo ship", "a crane", "in Rotterdam", "in winter", "0.5 m per pixel"):
        assert part in text


def test_facts_come_before_the_full_stop():
    captioner = TagCaptioner(templates=["A photo of {subject}."], captions_per_image=4)
    [captions] = captioner.caption([Record(id="1", label="Port", meta={"place": "Oslo"})], [])
    assert sorted(captions) == ["A photo of a port in Oslo.", "A photo of a port."]


@pytest.mark.parametrize("value", ["ship; storage_tank|pier", ["ship", "storage tank", "Ship", "pier"]])
def test_tags_as_text_or_list(value):
    captioner = TagCaptioner(templates=["{subject}"], tags_key="osm")
    [[caption]] = captioner.caption([Record(id="1", meta={"osm": value})], [])
    assert caption.startswith("a ship with ")
    assert "a storage tank" in caption
    assert "a pier" in caption


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("airport", "an airport"),
        ("european town", "a european town"),
        ("unimproved road", "an unimproved road"),
        ("uninhabited island", "an uninhabited island"),
        ("one-way street", "a one-way street"),
        ("hourglass dune", "an hourglass dune"),
        ("storage tanks", "storage tanks"),
        ("overpass", "an overpass"),
        ("snow", "snow"),
        ("industrial", "an industrial area"),
        ("parking", "a parking area"),
        ("parking lot", "a parking lot"),
    ],
)
def test_articles(name, said):
    assert with_article(name) == said


@pytest.mark.parametrize("templates", [[], "a photo of {subject}", ["a photo"], ["{subject} {place}"], ["{subject} {"]])
def test_wrong_templates(templates):
    with pytest.raises(UsageError, match="subject"):
        TagCaptioner(templates=templates)


def test_wrong_number_of_captions():
    with pytest.raises(UsageError, match="at least 1, not 0"):
        TagCaptioner(captions_per_image=0)


def test_fingerprint_changes_with_each_setting():
    settings = [{}, {"seed": 1}, {"captions_per_image": 2}, {"tags_key": "osm"}, {"templates": ["{subject}"]}]
    assert len({TagCaptioner(**setting).fingerprint for setting in settings}) == len(settings)
    assert TagCaptioner(templates=list(TEMPLATES)).fingerprint == TagCaptioner().fingerprint


def test_by_name():
    captioner = load_captioner("tags", options=GenerationOptions(seed=7, num_captions=2, num_beams=2))
    assert isinstance(captioner, TagCaptioner)
    assert isinstance(captioner, Captioner)
    assert (captioner.seed, captioner.captions_per_image) == (7, 2)
    assert load_captioner("tags").fingerprint == TagCaptioner().fingerprint
