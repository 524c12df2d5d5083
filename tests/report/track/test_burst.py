"""Rows that reach W&B's client together: all of them, in their order, and by one hand-over each time."""

from pathlib import Path
from unittest import mock

import pytest

from ci_tools.errors import DependencyUnavailable
from ci_tools.report.track import burst, session
from ci_tools.report.track.history import Histogram, Point
from ci_tools.report.track.session import Client
from tests.report.track import project
from tests.report.track.journal import Journal

VALUES = {"loss": 0.5, "counts": Histogram([1, 2], [0.0, 1.0, 2.0])}


@pytest.fixture
def run(tmp_path):
    """A run of the real client, and how often something was handed over to its other thread meanwhile."""
    with project.surroundings(tmp_path):
        opened = Client(tmp_path).offline_run(id="0123456789ab", name="seed-1", commit="", project="p")
        asyncer, calls = opened._run._interface._asyncer, []
        handed = asyncer.run
        asyncer.run = lambda work: calls.append(work) or handed(work)
        yield opened, calls


@pytest.fixture
def cut_off(run):
    """The run, when W&B's own process does not take anything any more."""
    opened, _ = run

    async def refuse(_):
        raise ConnectionResetError("gone")

    with mock.patch.object(opened._run._interface._client, "publish", refuse):
        yield opened


def points(number, first=0):
    return [Point(i, 1e9 + i, VALUES) for i in range(first, first + number)]


def log_and_raise(opened, error):
    with burst.together(opened._run):
        opened.log(points(1)[0])
        raise error


def logged(opened):
    return [row["_step"] for row in Journal(Path(opened.finish().folder)).history]


def test_many_rows_are_one_hand_over(run):
    opened, calls = run
    opened.log(points(1)[0])  # what the client says once in a run, it says here
    calls.clear()
    opened.log_plain(iter(points(99, first=1)))
    assert len(calls) == 1
    assert logged(opened) == list(range(100))


def test_no_more_rows_are_held_than_the_limit(run, monkeypatch):
    opened, calls = run
    monkeypatch.setattr(session, "BURST", 8)
    opened.log_plain(iter(points(20)))
    assert len(calls) == 3
    assert logged(opened) == list(range(20))


def test_single_rows_before_and_behind_keep_their_places(run):
    opened, _ = run
    opened.log(points(1)[0])
    opened.log_plain(iter(points(3, first=1)))
    opened.log(points(1, first=4)[0])
    assert logged(opened) == list(range(5))


def test_nothing_is_handed_over_where_nothing_is_logged(run):
    opened, calls = run
    opened.log_plain(iter(()))
    with burst.together(opened._run):
        pass
    assert calls == []


def test_rows_before_an_error_arrive_and_the_next_ones_too(run):
    opened, _ = run
    with pytest.raises(ZeroDivisionError):
        log_and_raise(opened, ZeroDivisionError)
    opened.log(points(1, first=1)[0])
    assert logged(opened) == [0, 1]


def test_interrupt_stays_one_where_the_rows_before_it_are_not_taken(cut_off):
    with pytest.raises(KeyboardInterrupt):
        log_and_raise(cut_off, KeyboardInterrupt)


def test_rows_that_are_not_taken_are_an_error_offline_and_remembered_online(cut_off):
    with pytest.raises(DependencyUnavailable, match=r"cannot be kept \(gone\)"):
        cut_off.log_plain(iter(points(3)))
    cut_off._online = True
    cut_off.log_plain(iter(points(3, first=3)))
    assert cut_off._missing


def test_row_that_fails_is_told_once(run, monkeypatch):
    opened, _ = run

    def fail(*_, **__):
        raise ValueError("no such value")

    monkeypatch.setattr(opened._run, "log", fail)
    with pytest.raises(DependencyUnavailable, match=r"cannot be kept \(no such value\)") as told:
        opened.log_plain(iter(points(3)))
    assert str(told.value).count("cannot be kept") == 1


def test_client_whose_runs_are_made_otherwise_gets_row_by_row():
    with burst.together(object()):
        pass


def test_client_without_the_private_names_gets_row_by_row(run, monkeypatch):
    opened, calls = run
    monkeypatch.setattr(burst, "PRIVATE", (*burst.PRIVATE, "_no_such_name"))
    opened.log_plain(iter(points(5)))
    assert len(calls) >= 5
    assert logged(opened) == list(range(5))
