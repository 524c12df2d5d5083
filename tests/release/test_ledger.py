"""The ledger: what is written stays, and whoever touches it is found out."""

import json
import os
import sqlite3
import threading

import pytest

from ci_tools.errors import SwitchbackError
from ci_tools.release.ledger import GENESIS, Ledger

EVENTS = 6


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(EVENTS):
            ledger.append("weight", "judge", "r1", {"number": number, "reason": f"wéight {number}"})
    return path


def edit(path, *statements):
    """As somebody would who has the file and a shell."""
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER no_update")
        db.execute("DROP TRIGGER no_delete")
        for statement, *values in statements:
            db.execute(statement, values)
    db.close()


def refused(path):
    with Ledger(path, readonly=True) as ledger, pytest.raises(SwitchbackError) as caught:
        ledger.verify()
    return str(caught.value)


def test_events_come_back_as_they_were_written_and_fit(path):
    with Ledger(path) as ledger:
        events = ledger.events()
        assert [event.body["number"] for event in events] == list(range(EVENTS))
        assert [event.seq for event in ledger.events(after=4)] == [5, 6]
        assert [event.seq for event in ledger.events(after=1, limit=2)] == [2, 3]
        assert ledger.verify() == EVENTS
        assert ledger.head.sha256 == events[-1].sha256
        assert len({event.sha256 for event in events}) == EVENTS


def test_first_event_is_chained_to_nothing(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.head.sha256 == GENESIS
        assert ledger.verify() == 0
        assert ledger.append("started", "service", "", {}).seq == 1
        assert ledger.verify() == 1


@pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'bob'", "DELETE FROM events"])
def test_the_file_itself_refuses_changes(path, statement):
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [("at", "2026-01-01T00:00:00.000+00:00"), ("kind", "promoting"), ("actor", "bob"), ("release", "r2"),
     ("body", "{}"), ("sha256", "0" * 64)],
)  # fmt: skip
@pytest.mark.parametrize("seq", [1, 4, EVENTS])
def test_an_edited_event_is_named(path, column, value, seq):
    edit(path, (f"UPDATE events SET {column} = ? WHERE seq = ?", value, seq))
    assert f"event {seq} does not fit" in refused(path)


def test_any_changed_byte_of_a_body_is_named(path):
    with sqlite3.connect(path) as db:
        body = db.execute("SELECT body FROM events WHERE seq = 3").fetchone()[0].encode()
        db.execute("DROP TRIGGER no_update")
    for index in range(len(body)):
        for bit in (0x01, 0x20, 0x80):
            changed = bytearray(body)
            changed[index] ^= bit
            db.execute("UPDATE events SET body = CAST(? AS TEXT) WHERE seq = 3", (bytes(changed),))
            db.commit()
            assert "event 3 does not fit" in refused(path), (index, bit)
    db.execute("UPDATE events SET body = ? WHERE seq = 3", (body.decode() + " ",))
    db.commit()
    assert "event 3 does not fit" in refused(path)
    db.execute("UPDATE events SET body = ? WHERE seq = 3", (body.decode(),))
    db.commit()
    db.close()
    with Ledger(path) as ledger:
        assert ledger.verify() == EVENTS


def test_an_event_removed_from_the_middle_is_named(path):
    edit(path, ("DELETE FROM events WHERE seq = 3",))
    assert "event 3 is missing: 4 follows 2" in refused(path)


def test_an_event_removed_with_all_others_renumbered_is_named(path):
    edit(path, ("DELETE FROM events WHERE seq = 3",), *((f"UPDATE events SET seq = {n - 1} WHERE seq = {n}",)
                                                       for n in range(4, EVENTS + 1)))  # fmt: skip
    assert "event 3 does not fit" in refused(path)


def test_an_inserted_event_is_named(path):
    moved = [(f"UPDATE events SET seq = {n + 1} WHERE seq = {n}",) for n in range(EVENTS, 2, -1)]
    copied = "INSERT INTO events SELECT 3, at, kind, actor, release, body, sha256 FROM events WHERE seq = 4"
    edit(path, *moved, (copied,))
    assert "event 4 does not fit" in refused(path)


def test_two_events_that_change_places_are_named(path):
    edit(path, ("UPDATE events SET seq = 99 WHERE seq = 2",), ("UPDATE events SET seq = 2 WHERE seq = 5",),
         ("UPDATE events SET seq = 5 WHERE seq = 99",))  # fmt: skip
    assert "event 2 does not fit" in refused(path)


def test_events_cut_from_the_end_are_missed_by_the_head_file(path):
    edit(path, ("DELETE FROM events WHERE seq > 4",))
    assert "event 5 is missing at the end: there were 6" in refused(path)


def test_an_end_that_was_cut_and_written_anew_is_named(path):
    edit(path, ("DELETE FROM events WHERE seq > 4",))
    head = path.with_suffix(".head")
    kept = head.read_bytes()
    with Ledger(path) as ledger:
        for _ in range(2):
            ledger.append("weight", "judge", "r1", {"number": 7})
    head.write_bytes(kept)
    assert "event 6 is not the one that ledger.head names" in refused(path)


def test_a_lost_head_file_is_told(path):
    path.with_suffix(".head").unlink()
    assert "event 1 is not vouched for" in refused(path)


def test_one_event_more_than_the_head_file_knows_is_what_a_crash_leaves(path):
    head = path.with_suffix(".head")
    before = head.read_bytes()
    with Ledger(path) as ledger:
        ledger.append("weight", "judge", "r1", {})
        head.write_bytes(before)
        assert ledger.verify() == EVENTS + 1
        ledger.append("weight", "judge", "r1", {})
        assert json.loads(head.read_text())["seq"] == EVENTS + 2


@pytest.mark.parametrize("body", ["[" * 100_000, "{", '"text"', "\x00"])
def test_a_body_that_nothing_can_read_is_named_by_its_event(path, body):
    edit(path, ("UPDATE events SET body = ? WHERE seq = 3", body))
    assert "event 3 does not fit" in refused(path)
    with Ledger(path, readonly=True) as ledger, pytest.raises(SwitchbackError, match="event 3 cannot be read"):
        ledger.events()


def test_readers_see_events_while_they_are_written(path):
    seen, stop = [], threading.Event()

    def read():
        with Ledger(path, readonly=True) as reader:
            while not stop.is_set():
                seen.append(len(reader.events()))
            seen.append(len(reader.events()))

    reader = threading.Thread(target=read)
    reader.start()
    with Ledger(path) as ledger:
        for _ in range(20):
            ledger.append("weight", "judge", "r1", {})
    stop.set()
    reader.join()
    assert seen == sorted(seen)
    assert seen[-1] == EVENTS + 20


def test_two_writers_in_turn_keep_one_chain(path):
    with Ledger(path) as one, Ledger(path) as other:
        one.append("weight", "judge", "r1", {})
        other.append("weight", "judge", "r1", {})
        assert one.verify() == other.verify() == EVENTS + 2


def test_a_full_disk_adds_nothing(path):
    with Ledger(path) as ledger:
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(SwitchbackError, match="the disk is full; nothing is done that is not written first"):
            ledger.append("weight", "judge", "r1", {"reason": "x" * 100_000})
        assert ledger.verify() == EVENTS


def test_what_is_no_ledger_is_told(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(os.urandom(4096))
    with pytest.raises(SwitchbackError, match=r"ledger\.db: cannot be used"):
        Ledger(path)
    with pytest.raises(SwitchbackError, match="no ledger there"):
        Ledger(tmp_path / "other.db", readonly=True)
