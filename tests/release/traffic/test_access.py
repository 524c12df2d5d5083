"""Reading Envoy's access log: every line once, whatever happens to the file meanwhile."""

import json
import random
import time

import pytest

from ci_tools.release.plan import Role
from ci_tools.release.traffic import AccessLog, Entry, Position
from ci_tools.release.traffic.access import KEPT, event, rotate, rotated


def line(number, *, route="17", arm="stable", code=200, flags="-", attempts=1, us=2500, ms=3, event=None):
    values = {"id": f"id-{number}", "t": f"{1000 + number}.25", "route": route, "arm": arm, "code": code}
    return values | {"flags": flags, "attempts": attempts, "us": us, "ms": ms, "event": event}


def write(path, *lines):
    with path.open("a", encoding="utf-8") as file:
        file.writelines(one if isinstance(one, str) else json.dumps(one) + "\n" for one in lines)


def numbers(entries):
    return [int(one.id.removeprefix("id-")) for one in entries]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.jsonl"


def test_line_becomes_an_entry(path):
    write(path, line(3, route="21", arm="canary"), line(4, route="21-safe", us=None, ms=9, code=500))
    first, second = AccessLog(path).read()
    assert first == Entry(21, True, Role.CANARY, None, 2.5, "id-3", 1003.25)
    assert second == Entry(21, False, Role.STABLE, "errors", 9, "id-4", 1004.25)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, "-", 1, None), None),
        ((422, "-", 1, None), None),
        ((500, "-", 1, None), "errors"),
        ((503, "UO", 1, None), "errors"),
        ((200, "-", 2, None), "errors"),
        ((504, "UT", 1, None), "timeouts"),
        ((0, "DC", 1, None), "timeouts"),
        ((200, "-", 1, "invalid_outputs"), "invalid_outputs"),
        ((500, "-", 1, "invalid_outputs"), "invalid_outputs"),
        ((200, "-", 1, "something else"), None),
    ],
)
def test_bad_outcomes_are_told_apart(answer, expected):
    assert event(*answer) == expected


def test_request_that_no_pool_got_has_no_entry(path):
    write(path, line(1, route=None, arm=None, code=404), line(2, route="17", arm=""), line(3))
    log = AccessLog(path)
    assert numbers(log.read()) == [3]
    assert log.damaged == 0


def test_line_without_its_end_waits(path):
    whole = json.dumps(line(2)) + "\n"
    write(path, line(1), whole[:20])
    log = AccessLog(path)
    assert numbers(log.read()) == [1]
    assert log.read() == []
    write(path, whole[20:])
    assert numbers(log.read()) == [2]
    assert log.damaged == 0


@pytest.mark.parametrize("damage", ['{"id": \n', "[]\n", "7\n", "\0\0\0\n", '{"arm": "canary"}\n', "\n"])
def test_damaged_line_is_counted_and_left_out(path, damage):
    write(path, line(1), damage, line(2))
    log = AccessLog(path)
    assert numbers(log.read()) == [1, 2]
    assert log.damaged == 1


def test_values_of_other_kinds_are_damage(path):
    write(path, *(line(n) | wrong for n, wrong in enumerate(({"route": None}, {"t": "x"}, {"code": "500"}))), line(9))
    log = AccessLog(path)
    assert numbers(log.read()) == [9]
    assert log.damaged == 3


def test_log_may_come_later(path):
    log = AccessLog(path)
    assert log.read() == []
    write(path, line(1))
    assert numbers(log.read()) == [1]


def test_position_goes_through_json_and_reading_goes_on_there(path):
    write(path, line(1), line(2))
    first = AccessLog(path)
    first.read()
    kept = Position.model_validate_json(first.position.model_dump_json())
    write(path, line(3))
    assert numbers(AccessLog(path, kept).read()) == [3]


def test_position_before_the_first_line_goes_through_json(path):
    kept = Position.model_validate_json(AccessLog(path).position.model_dump_json())
    write(path, line(1))
    log = AccessLog(path, kept)
    assert numbers(log.read()) == [1]
    assert log.gaps == 0


def test_lines_that_end_up_in_a_rotated_file_come_before_those_of_the_new_one(path):
    write(path, line(1))
    log = AccessLog(path)
    assert numbers(log.read()) == [1]
    rotate(path)
    write(rotated(path, 1), line(2))
    assert numbers(log.read()) == [2]
    write(rotated(path, 1), line(3))
    write(path, line(4))
    assert numbers(log.read()) == [3]
    assert numbers(log.read()) == [4]


def test_reader_that_slept_through_rotations_misses_nothing(path):
    write(path, line(0))
    log = AccessLog(path)
    log.read()
    kept = log.position
    for number in range(1, KEPT + 1):
        rotate(path)
        write(path, line(number))
    for reader in (log, AccessLog(path, kept)):
        found = [number for _ in range(KEPT) for number in numbers(reader.read())]
        assert found == list(range(1, KEPT + 1))
        assert reader.gaps == 0


def test_reader_that_slept_too_long_says_so(path):
    write(path, line(0))
    log = AccessLog(path)
    log.read()
    for number in range(1, KEPT + 3):
        rotate(path)
        write(path, line(number))
    late = AccessLog(path, log.position)
    found = [number for _ in range(KEPT + 1) for number in numbers(late.read())]
    assert found == list(range(2, KEPT + 3))
    assert late.gaps == 1


def test_log_that_was_cut_is_read_from_its_start(path):
    write(path, line(1), line(2))
    log = AccessLog(path)
    log.read()
    path.write_text(json.dumps(line(3)) + "\n", encoding="utf-8")
    assert numbers(log.read()) == [3]
    assert log.gaps == 1


def test_every_line_comes_once_under_random_writes_rotations_and_restarts(path):
    chance = random.Random(5)
    log, written, found, open_end = AccessLog(path), 0, [], ""
    for _ in range(400):
        action = chance.random()
        if action < 0.55:
            text = open_end + "".join(json.dumps(line(written + n)) + "\n" for n in range(chance.randrange(1, 5)))
            written += text.count("\n")
            cut = chance.randrange(len(text)) if chance.random() < 0.3 else len(text)
            with path.open("a", encoding="utf-8") as file:
                file.write(text[len(open_end) : max(cut, len(open_end))])
                # Envoy ends its line before it opens another file.
                file.write(text[max(cut, len(open_end)) :])
        elif action < 0.6 and path.exists():
            while new := log.read():
                found += numbers(new)
            rotate(path)
        elif action < 0.7:
            log = AccessLog(path, Position.model_validate_json(log.position.model_dump_json()))
        else:
            found += numbers(log.read())
    while new := log.read():
        found += numbers(new)
    assert found == list(range(written))
    assert (log.damaged, log.gaps) == (0, 0)


def test_reading_keeps_up_with_a_busy_service(path):
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line(number)) + "\n" for number in range(20_000))
    log = AccessLog(path)
    began = time.process_time()
    count = 0
    while entries := log.read():
        count += len(entries)
    assert count == 20_000
    assert count / (time.process_time() - began) > 20_000, "lines a second; a slow machine reads five times as many"
