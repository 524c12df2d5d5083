"""Times that are derived from durations."""

import math

import pytest

from ci_tools.errors import RecordError
from ci_tools.record.schema import Recovery, Resume
from ci_tools.report.track.clock import Clock, seconds
from tests.report.track.written import Written

START = 1795255200.0  # 2026-11-21T10:00:00+00:00
HOUR = 3600.0


@pytest.fixture
def meta(tmp_path):
    run = Written(tmp_path / "record")
    run.end("failed")
    return run.meta


def at(hour, minute=0):
    return f"2026-11-21T{hour}:{minute:02}:00+00:00"


def resumed(meta, *resumes, back=()):
    recoveries = [Recovery(onset_step=step, from_step=step, reason="") for step in back]
    found = [Resume(at=when, from_step=step) for when, step in resumes]
    return meta.model_copy(update={"resumes": found, "recoveries": recoveries})


def ticks(clock, *steps, attempt=0):
    return [clock.tick(step, attempt, 1000.0) - START for step in steps]


def test_steps_of_the_first_process_follow_its_start(meta):
    assert ticks(Clock(meta), 0, 1, 2) == [1, 2, 3]


def test_steps_of_a_resumed_process_follow_the_resume(meta):
    clock = Clock(resumed(meta, (at(11), 2), (at(12), 3)))
    assert ticks(clock, 0, 1, 2, 3, 4) == [1, 2, HOUR + 1, 2 * HOUR + 1, 2 * HOUR + 2]


def test_resume_whose_rows_a_later_one_cut_tells_nothing(meta):
    clock = Clock(resumed(meta, (at(11), 3), (at(12), 2)))
    assert ticks(clock, 0, 1, 2, 3) == [1, 2, 2 * HOUR + 1, 2 * HOUR + 2]


def test_run_that_was_resumed_from_its_first_step_follows_the_resume(meta):
    assert ticks(Clock(resumed(meta, (at(11), 0))), 0) == [HOUR + 1]


def test_step_that_two_attempts_passed_is_not_dated_late(meta):
    clock = Clock(resumed(meta, (at(11), 2), back=[1]))
    assert ticks(clock, 0, 1, 2, 3) == [1, 2, 3, 4], "the resume may have come after the recovery"
    assert ticks(clock, 1, 2, attempt=1) == [5, HOUR + 1]


def test_resume_that_is_noticed_late_dates_the_rows_behind_it(meta):
    clock = Clock(meta)
    assert ticks(clock, 0, 1, 2, 3) == [1, 2, 3, 4]
    clock.update(resumed(meta, (at(11), 2)))
    assert ticks(clock, 4, 5) == [HOUR + 1, HOUR + 2]
    clock.update(resumed(meta, (at(11), 2)))
    assert ticks(clock, 6) == [HOUR + 3], "a resume counts once"


def test_clock_that_was_set_back_between_processes_does_not_turn_time_back(meta):
    clock = Clock(resumed(meta, (at("09"), 1)))
    assert ticks(clock, 0, 1) == [1, 2]


@pytest.mark.parametrize("duration", [math.nan, math.inf, -5.0])
def test_impossible_duration_takes_no_time(meta, duration):
    assert Clock(meta).tick(0, 0, duration) == START


def test_rows_are_found_by_step_and_attempt(meta):
    clock = Clock(meta)
    ticks(clock, 0, 1, 2, 3)
    ticks(clock, 2, 3, attempt=1)
    assert [clock.at(step, 0) for step in (0, 3)] == [START + 1, START + 4]
    assert [clock.at(step, 1) for step in (2, 3)] == [START + 5, START + 6]
    assert [clock.at(4, 0), clock.at(1, 1), clock.at(0, 2), clock.at(-1, 0)] == [None] * 4


def test_time_without_a_zone_is_utc():
    assert seconds("2026-11-21T10:00:00") == seconds("2026-11-21T11:00:00+01:00") == START


def test_start_that_is_no_time_is_refused(meta):
    with pytest.raises(RecordError, match="'yesterday' is no time"):
        Clock(meta.model_copy(update={"started": "yesterday"}))
