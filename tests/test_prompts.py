from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geovlm._vocabulary import NAMES
from geovlm.errors import UnknownName, UsageError
from geovlm.prompts import (
    CONTRAST,
    SYNONYMS,
    TEMPLATES,
    clean_class_name,
    contrast,
    fill_templates,
    resolve_templates,
    synonyms,
)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("BaseballField", "baseball field"),
        ("storage_tanks", "storage tanks"),
        ("DenseResidential", "dense residential"),
        ("SeaLake", "sea or lake"),
        ("airport", "airport"),
        ("single-unit_residential", "single-unit residential"),
        ("mobile-home-park", "mobile home park"),
        ("Multi-Unit", "multi unit"),
        ("Class2Road", "class 2 road"),
        ("2LaneRoad", "2 lane road"),
        ("Sentinel2", "sentinel 2"),
        ("T72", "t72"),
        ("ATMMachine", "atm machine"),
        ("  Ground__Track field ", "ground track field"),
        ("SportplatzÖffentlich", "sportplatz öffentlich"),
        ("école", "école"),
        ("Straße", "straße"),
        ("体育场", "体育场"),
        ("vegetable/greenhouse", "vegetable/greenhouse"),
        # EuroSAT, fMoW, Million-AID, PatternNet, RSI-CB, UC Merced, RESISC45, AID, WHU-RS19
        ("HerbaceousVegetation", "herbaceous vegetation"),
        ("PermanentCrop", "permanent crop"),
        ("factory_or_powerplant", "factory or power plant"),
        ("ground_transportation_station", "ground transportation station"),
        ("multi-unit_residential", "multi-unit residential"),
        ("lake_or_pond", "lake or pond"),
        ("detached_house", "detached house"),
        ("oil_gas_field", "oil or gas field"),
        ("christmas_tree_farm", "christmas tree farm"),
        ("airport_runway", "airport runway"),
        ("parkinglot", "parking lot"),
        ("sandbeach", "sandy beach"),
        ("residents", "residential area"),
        ("mobilehomepark", "mobile home park"),
        ("snowberg", "snow-covered mountain"),
        ("StorageTanks", "storage tanks"),
        ("footballField", "football field"),
    ],
)
def test_labels_become_words(label: str, words: str) -> None:
    assert clean_class_name(label) == words


names = st.text(min_size=1).filter(lambda name: any(c.isalnum() for c in name))


@given(names | st.from_regex(r"[A-Za-z0-9_\- ]{1,24}", fullmatch=True).filter(lambda s: any(c.isalnum() for c in s)))
@example("T72")
@example("Single-Unit")
@example("𝐀a𝐀")
@example("aİ")
@example("ΑΣ ΑΣ")
def test_cleaning_twice_changes_nothing(name: str) -> None:
    once = clean_class_name(name)
    assert clean_class_name(once) == once


@pytest.mark.parametrize("name", ["", "  ", "___", "-"])
def test_a_name_without_letters_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="letter or digit"):
        clean_class_name(name)


def test_every_shipped_template_has_one_place_for_the_class() -> None:
    for name, templates in TEMPLATES.items():
        assert resolve_templates(name) == templates
        assert len(set(templates)) == len(templates)
    assert len(TEMPLATES["overhead"]) >= 12
    assert 40 <= len(TEMPLATES["ensemble"]) <= 80
    assert not [template for template in TEMPLATES["ensemble"] if re.search(r"\\ba [aeio]|\\ban [^aeio]|  ", template)]


@pytest.mark.parametrize("templates", [["a photo"], ["{} and {}"], ["{0}"], [], [3]])
def test_templates_without_one_place_are_refused(templates: list[str]) -> None:
    with pytest.raises(UsageError):
        resolve_templates(templates)


def test_a_misspelt_set_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="skyscript"):
        resolve_templates("skyscrip")


def test_one_template_needs_no_tuple() -> None:
    assert fill_templates("a map of {}", "a harbour") == ("a map of a harbour",)


def test_braces_in_a_name_stay_as_they_are() -> None:
    assert fill_templates(["see {}"], "{} {0}") == ("see {} {0}",)


# --- synonyms ---


def test_synonyms_are_kept_under_names_that_are_found():
    for name, others in SYNONYMS.items():
        assert clean_class_name(name) == name
        assert synonyms(name) == (name, *others)
        assert len({name, *others}) == len(others) + 1, name
    for odd, name in NAMES.items():
        assert clean_class_name(odd) == clean_class_name(name) == name


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("Pond", ("pond", "small lake", "water basin")),
        ("ponds", ("ponds", "small lake", "water basin")),
        ("SeaLake", ("sea or lake", "sea", "lake", "open water")),
        ("storage_tanks", ("storage tanks", "oil tank", "round storage tanks", "tank farm")),
        ("beach bar", ("beach bar",)),
    ],
)
def test_a_class_and_what_else_it_is_called(name, others):
    assert synonyms(name) == others


def test_nothing_has_no_synonyms():
    with pytest.raises(UsageError):
        synonyms("_")


# --- what a query is held against ---


@pytest.mark.parametrize(
    ("query", "without"),
    [
        ("a vineyard beside a river", set()),
        ("beach bars", set()),
        ("a Pine Forest", {"forest"}),
        ("trees", {"forest"}),
        ("a body of water", {"a river", "a lake", "open sea"}),
        ("rivers and lakes", {"a river", "a lake"}),
        ("wheat fields", {"farmland"}),
        ("a field of wheat", {"farmland"}),
        ("baseball fields", set()),
        ("a solar farm", set()),
        ("parking lots", {"paved ground"}),
        ("a car park", {"paved ground"}),
        ("city parks", {"a park"}),
        ("houses by the sea", {"residential houses"}),
        ("with trees", {"forest"}),
        ("airplanes", set()),
        ("snow-covered mountains", {"rocky mountains"}),
    ],
)
def test_a_query_is_not_held_against_itself(query, without):
    assert set(CONTRAST) - set(contrast(query)) == without


@given(st.text(max_size=40))
@example("of")
@example("in the")
@example("…")
def test_something_is_left_to_hold_any_query_against(query):
    try:
        covers = contrast(query)
    except UsageError:
        return
    assert covers
    assert covers == tuple(cover for cover in CONTRAST if cover in covers)


@pytest.mark.parametrize("query", ["", " ", "…", "the"])
def test_a_query_without_a_word_is_refused(query):
    with pytest.raises(UsageError, match="at least one word"):
        contrast(query)


def test_every_cover_is_left_out_for_its_own_name():
    for cover in CONTRAST:
        assert cover not in contrast(cover), cover
