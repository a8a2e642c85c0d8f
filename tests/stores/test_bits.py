"""Work that is shared out to idle cores is all done, once, whoever else is at work."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.stores import _bits


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(_bits, "threads", lambda: 3)


@given(pieces=st.integers(0, 200))
def test_every_piece_is_done_once(pieces):
    done = []
    _bits.share_out(done.extend, pieces)
    assert sorted(done) == list(range(pieces))


@pytest.mark.usefixtures("cores")
def test_cores_that_are_busy_are_not_taken_again():
    inside, release, names = threading.Event(), threading.Event(), []

    def first(pieces):
        inside.set()
        release.wait(10)
        names.append(threading.current_thread().name)

    busy = threading.Thread(target=_bits.share_out, args=(first, 100), name="first")
    busy.start()
    inside.wait(10)
    second = []
    _bits.share_out(lambda pieces: second.append((threading.current_thread().name, len(pieces))), 100)
    release.set()
    busy.join(10)
    assert len(names) == 3, "alone, it takes all cores"
    assert second == [("MainThread", 100)], "with all cores taken, only its own thread"
    assert _bits._helpers._working == 0


@pytest.mark.usefixtures("cores")
def test_an_error_reaches_the_caller_and_frees_the_cores():
    def fail(pieces):
        raise ValueError(len(pieces))

    with pytest.raises(ValueError, match="34"):
        _bits.share_out(fail, 100)
    assert _bits._helpers._working == 0
