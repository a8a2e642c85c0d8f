"""Each likely mistake is answered by a short sentence of geovlm's own that says what to do; the page tells the same."""

from __future__ import annotations

import re

import pytest

import geovlm as gv
from tests.mistakes import MISTAKES, PAGE, QUIET, lay_out, render

END_OF_SENTENCE = re.compile(r"[.?!](?= [A-Z'\"]|$)")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    lay_out(folder)
    return folder


@pytest.fixture
def here(world, monkeypatch):
    monkeypatch.chdir(world)
    return world


def _names(cases):
    return [f"{one.part}: {one.title}" for one in cases]


@pytest.mark.parametrize("one", MISTAKES, ids=_names(MISTAKES))
def test_a_mistake_is_told_in_a_sentence_or_two(one, here):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what kind it is, is the first question
        one.make()
    assert isinstance(caught.value, gv.GeovlmError), repr(caught.value)
    message = str(caught.value).replace(str(here), "…")
    pattern = ".*?".join(map(re.escape, one.says.split("…")))
    assert re.fullmatch(pattern, message), message
    assert END_OF_SENTENCE.search(message[-1:]), "a message ends as a sentence does"
    assert 1 <= len(END_OF_SENTENCE.findall(message)) <= 2, message


@pytest.mark.parametrize("one", QUIET, ids=_names(QUIET))
def test_what_no_error_tells(one, here):
    assert one.make(), "the page tells something else"


def test_no_mistake_is_there_twice():
    names = _names(MISTAKES + QUIET)
    assert len(names) == len(set(names)) >= 60


def test_the_page_is_made_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == render(), "python -m tests.mistakes writes it anew"
