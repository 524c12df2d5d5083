"""Logs of children: of members long gone, and of those that write without end."""

import pytest

from ci_tools.release.home import Home
from ci_tools.release.supervisor import logs


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path)
    made.access_log.parent.mkdir()
    return made


def write(home, *names, size=1):
    for name in names:
        (home.access_log.parent / name).write_bytes(b"x" * size)


def names(home):
    return {path.name for path in home.access_log.parent.iterdir()}


def test_newest_member_is_known_by_any_of_its_logs(home):
    assert logs.newest(home) == 0
    write(home, "server-m3.log", "predictions-m12.jsonl.1", "access.jsonl", "backup-m99.tar", "server-m100.log.gz")
    assert logs.newest(home) == 12


def test_logs_of_members_long_gone_are_removed_and_no_others(home):
    last = logs.KEPT_MEMBERS + 2
    kept = {"server-m2.log", f"server-m{last}.log", "server-m3.log", "access.jsonl", "notes-m1.txt"}
    write(home, *kept, "server-m1.log", "predictions-m1.jsonl", "predictions-m1.jsonl.1")
    logs.remove_old(home, {"m2"})
    assert names(home) == kept


def test_log_that_grows_while_its_child_runs_begins_anew(home):
    write(home, "envoy.log", "access.jsonl", size=logs.LARGEST + 1)
    write(home, "controller.log", size=logs.LARGEST)
    logs.shorten(home)
    sizes = {path.name: path.stat().st_size for path in home.access_log.parent.iterdir()}
    assert sizes == {"envoy.log": 0, "access.jsonl": logs.LARGEST + 1, "controller.log": logs.LARGEST}


def test_folder_that_somebody_removed_stops_nothing(home):
    home.access_log.parent.rmdir()
    logs.remove_old(home, ())
    logs.shorten(home)
    assert logs.newest(home) == 0
