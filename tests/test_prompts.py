from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geovlm.errors import UnknownName, UsageError
from geovlm.prompts import TEMPLATES, clean_class_name, fill_templates, resolve_templates


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("BaseballField", "baseball field"),
        ("storage_tanks", "storage tanks"),
        ("DenseResidential", "dense residential"),
        ("SeaLake", "sea lake"),
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
