"""From free text to a label, or to none."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.pixtral import LabelSet
from geovlm.pixtral.parsing import UNREAD, Reading, _key, _stem

AID = [
    "Airport", "BareLand", "BaseballField", "Beach", "Bridge", "Center", "Church", "Commercial",
    "DenseResidential", "Desert", "Farmland", "Forest", "Industrial", "Meadow", "MediumResidential", "Mountain",
    "Park", "Parking", "Playground", "Pond", "Port", "RailwayStation", "Resort", "River", "School",
    "SparseResidential", "Square", "Stadium", "StorageTanks", "Viaduct",
]  # fmt: skip
LABELS = LabelSet(AID)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Beach", "Beach"),
        (" beach.\n", "Beach"),
        ("**Beach**", "Beach"),
        ("BEACHES", "Beach"),
        ("Bare land", "BareLand"),
        ("bare-land", "BareLand"),
        ("storage tank", "StorageTanks"),
        ("Baseball Fields", "BaseballField"),
        ("churches", "Church"),
        ("'Railway Station'", "RailwayStation"),
        ('{"label": "Dense Residential"}', "DenseResidential"),
        ('```json\n{"image_description": "An aerial view of a port", "label": "Port"}\n```', "Port"),
        ('Here it is:\n```\n{"Label": "Viaduct"}\n```\nI hope that helps. The forest was hard.', "Viaduct"),
        ('{"label": ["Pond"]}', "Pond"),
        ('"Meadow"', "Meadow"),
        ('["Meadow"]', "Meadow"),
        ('I think {"class": "stadium"} fits.', "Stadium"),
        ("The label is: River", "River"),
        ("Label: **River**.", "River"),
        ("The category = 'Square'", "Square"),
        ("Classification: Farm land\nThere are fields.", "Farmland"),
        ("This image shows a beach.", "Beach"),
        ("An aerial view of a medium residential area", "MediumResidential"),
        ("A parking", "Parking"),
    ],
)
def test_labels_that_are_read(text, label):
    assert LABELS.read(text) == Reading(label=label)


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        ("Vineyard", "Vineyard"),
        ('{"label": "Vineyard"}', "Vineyard"),
        ('```json\n{"label": "solar farm"}\n```', "solar farm"),
        ("The label is: Golf course.", "Golf course"),
        ("Residential", "Residential"),
        ('{"label": "Beachfront"}', "Beachfront"),
        ('{"description": "a beach", "label": "Coast"}', "Coast"),
    ],
)
def test_labels_outside_the_set_are_told(text, claimed):
    assert LABELS.read(text) == Reading(claimed=claimed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "?!",
        "{}",
        "{",
        "```json\n```",
        '{"label": null}',
        '{"label": ""}',
        '{"label": "unknown"}',
        '{"label": "Beach"} or {"label": "Forest"}',
        '{"label": ["Beach", "Forest"]}',
        '{"label": "Beach or Forest"}',
        "Beach or forest",
        "A beach beside a forest",
        "This is not a beach.",
        "It isn't a beach",
        "I cannot tell.",
        "I'm sorry, I can't help with that.",
        "n/a",
        "The label is not Beach",
        "The image shows houses in rows, with gardens behind them. A river is nearby.",
        "Roads cross the image from left to right and there are many small houses with gardens near a long river",
        "{" * 5000,
    ],
)
def test_what_cannot_be_read_is_neither(text):
    assert LABELS.read(text) == UNREAD


def test_a_word_of_the_set_wins_over_doubt():
    assert LabelSet(["None", "Unknown", "Some"]).read('{"label": "unknown"}').label == "Unknown"
    assert LabelSet(["None", "Some"]).read("None").label == "None"


def test_labels_that_differ_in_case_or_number_only_need_their_own_spelling():
    labels = LabelSet(["Tree", "Trees", "Bare Land", "BareLand"])
    assert labels.read("Tree").label == "Tree"
    assert labels.read('{"label": "Trees"}').label == "Trees"
    assert labels.read("trees").label == "Trees"
    assert labels.read("BareLand").label == "BareLand"
    assert labels.read("bareland") == UNREAD
    assert labels.read("a picture of bareland") == UNREAD


def test_signs_tell_names_apart():
    labels = LabelSet(["C", "5 %", "Height < 5", "Class 1"])
    for text in ("C#", "5", "Height > 5", "Class -1", "A picture of C# and 5"):
        assert labels.read(text).label is None, text
    for text, label in [("c", "C"), ("5%", "5 %"), ("height <5", "Height < 5"), ("<C>", "C"), ("class-1", "Class 1")]:
        assert labels.read(text).label == label, text


def test_labels_without_letters_match_exactly():
    labels = LabelSet(["🌲", "🌊", "北京"])
    assert labels.read("🌲").label == "🌲"
    assert labels.read('{"label": "🌊"}').label == "🌊"
    assert labels.read("北京。").label == "北京"
    assert labels.read("🌵") == UNREAD


NAMES = st.text(string.ascii_letters + string.digits + " -_/&ÄßéΩ", min_size=1, max_size=20).map(str.strip).filter(_key)
SETS = st.lists(NAMES, min_size=1, max_size=8, unique_by=lambda name: _stem(_key(name)))
WRAPPERS = [
    "{}",
    " {}\n",
    "**{}**",
    "{}.",
    lambda name: json.dumps({"label": name}),
    lambda name: json.dumps({"label": name}, ensure_ascii=False),
    lambda name: "```json\n" + json.dumps({"why": 'a {brace} and "quotes"', "label": name}, indent=2) + "\n```",
    lambda name: f"Sure! {json.dumps({'label': name})}",
    str.upper,
    str.lower,
]


@given(SETS, st.data())
def test_a_label_comes_back_from_every_wrapping(names, data):
    name = data.draw(st.sampled_from(names))
    wrap = data.draw(st.sampled_from(WRAPPERS))
    text = wrap.format(name) if isinstance(wrap, str) else wrap(name)
    assert LabelSet(names).read(text).label == name


@given(SETS, st.text(max_size=80) | st.lists(NAMES, max_size=5).map(" ".join) | st.from_regex(r'[{"\[: ]{0,9}label.*'))
def test_nothing_is_read_that_is_not_there(names, text):
    """Whatever comes: no error, and a label only where its letters stand in the text."""
    reading = LabelSet(names).read(text)
    assert reading.label is None or (reading.label in names and _stem(_key(reading.label)) in _key(text))
    assert reading.label is None or reading.claimed is None


@given(SETS)
def test_two_labels_are_never_one(names):
    if len(names) > 1:
        assert LabelSet(names).read(json.dumps([{"label": names[0]}, {"label": names[1]}])) == UNREAD
