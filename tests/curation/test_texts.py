"""Captions by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.curation import CurationRules
from geovlm.curation._texts import clean, fault, meaning, words_of
from geovlm.errors import UsageError

RULES = CurationRules()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The image shows two runways.", "two runways."),
        ("This is an aerial view of a harbour", "a harbour"),
        ("In this satellite image, we can see a dense forest", "a dense forest"),
        ("A high-resolution satellite image of farmland", "farmland"),
        ("Here is a picture showing  a\nplayground ", "a playground"),
        ("a harbour in Rotterdam", "a harbour"),
        ("an airport near San Francisco, California with many planes", "an airport with many planes"),
        ("a stadium located in the city of New York beside a road", "a stadium beside a road"),
        ("a bridge at 52.5200, 13.4050", "a bridge"),
        ("a mine at 23.5°S 119.7°E", "a mine"),
        # What only looks like an opening or a name stays.
        ("many buildings in the picture are white", "many buildings in the picture are white"),
        ("Fields in northern light, in Summer colours", "Fields in northern light colours"),
        ("an image sensor factory", "an image sensor factory"),
        ("a T-shaped pier in a bay", "a T-shaped pier in a bay"),
        ("3 planes and 12 cars", "3 planes and 12 cars"),
        ("The image shows", "The image shows"),
    ],
)
def test_what_is_cut_out(text, cleaned):
    assert clean(text, RULES) == cleaned


def test_nothing_is_cut_when_told_so():
    assert clean("The image shows a harbour in Rotterdam", CurationRules(strip=False)).endswith("in Rotterdam")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("...", "it is empty"),
        ("harbour", "fewer than 2 words"),
        ("word other " * 31, "more than 60 words"),
        ("I'm sorry, but I can't help with that", "it refuses or doubts"),
        ("it is difficult to determine what this is", "it refuses or doubts"),
        ("a road and a road and a road and a tree", "it repeats itself"),
        ("tree tree tree by a lake", "it repeats itself"),
        ("many many planes at an airport", None),
        ("a bridge over a river", None),
    ],
)
def test_what_is_dropped(text, reason):
    assert fault(text, RULES) == reason


def test_language():
    pytest.importorskip("py3langid")
    english = CurationRules(language="en")
    german = "viele Flugzeuge stehen auf dem Flughafen neben einer langen Startbahn"
    assert fault(german, english) == "another language than en"
    assert fault(german, CurationRules(language="de")) is None
    assert fault("many planes are parked beside the long runway of the airport", english) is None
    assert fault("ein Hafen", english) is None, "two words are too few to tell"


@given(st.text())
def test_cleaning_and_judging_take_any_text(text):
    cleaned = clean(text, RULES)
    assert len(cleaned) <= len(text)
    assert fault(cleaned, RULES) is not None or words_of(cleaned)
    meaning(text)


@given(st.permutations(["green", "trees", "beside", "two", "rivers"]))
def test_order_does_not_change_the_meaning(words):
    assert meaning(" ".join(words)) == meaning("Two rivers, beside green trees.")


@pytest.mark.parametrize(
    "settings",
    [
        {"min_words": 0},
        {"min_words": 9, "max_words": 8},
        {"drop_share": 1.0},
        {"drop_share": -0.1},
        {"copies": 0},
        {"best": 0},
        {"per_group": 3},
        {"rotations": True},
    ],
)
def test_rules_that_cannot_be_right(settings):
    with pytest.raises(UsageError):
        CurationRules(**settings)
