import json
import os

import pytest

from ci_tools.errors import ConfigError
from ci_tools.release.server import predictions
from ci_tools.release.server.predictions import Prediction, PredictionLog
from tests.release.server.running import wait_for

LINE = Prediction("r", 1.5, False, [0.25, 0.5], 1.23456)


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path):
    log = PredictionLog(tmp_path / "logs" / "p.jsonl", "d" * 64, rotate_bytes=2000)
    yield log
    log.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "p.jsonl"


def test_line_is_written_without_being_asked_for(log, path):
    log.add(LINE)
    wait_for(lambda: path.read_text().endswith("\n"))
    wanted = {"id": "r", "t": 1.5, "bundle": "d" * 64, "mirror": False, "scores": [0.25, 0.5], "ms": 1.235}
    assert json.loads(path.read_text()) == wanted


def test_close_writes_what_is_left_in_order(log, path):
    for i in range(10):
        log.add(LINE._replace(id=str(i)))
    log.close()
    assert ids(path) == [str(i) for i in range(10)]


def test_full_file_is_kept_as_dot_one_and_no_line_is_lost(log, path):
    written = 0
    while not path.with_name("p.jsonl.1").exists():
        log.add(LINE._replace(id=str(written)))
        written += 1
        wait_for(lambda: not log._lines)
    log.close()
    assert ids(path.with_name("p.jsonl.1")) + ids(path) == [str(i) for i in range(written)]
    assert path.with_name("p.jsonl.1").stat().st_size >= 2000


def test_log_that_somebody_removed_or_renamed_is_begun_anew(log, path):
    for i, gone in enumerate([path.unlink, lambda: path.rename(path.with_name("elsewhere"))]):
        gone()
        log.add(LINE._replace(id=str(i)))
        wait_for(path.exists)
        wait_for(lambda i=i: ids(path) == [str(i)])


def test_disk_that_fills_up_within_a_line_leaves_whole_lines_only(log, path, monkeypatch):
    log.add(LINE._replace(id="before"))
    wait_for(lambda: path.read_text().endswith("\n"))
    write = os.write

    def half(descriptor, data):
        if descriptor == log._file:
            write(descriptor, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(predictions.os, "write", half)
    log.add(LINE._replace(id="lost"))
    wait_for(lambda: log.dropped == 1)
    monkeypatch.undo()
    log.add(LINE._replace(id="after"))
    wait_for(lambda: ids(path) == ["before", "after"])


def test_lines_that_wait_for_a_stuck_disk_are_bounded(log, monkeypatch):
    monkeypatch.setattr(predictions, "_LONGEST", 3)
    monkeypatch.setattr(log, "_flush", lambda: None)
    for _ in range(5):
        log.add(LINE)
    assert log.dropped == 2


def test_place_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        PredictionLog(tmp_path / "file" / "p.jsonl", "", rotate_bytes=1)


def test_full_disk_at_the_start_costs_lines_only_until_there_is_room(tmp_path, monkeypatch):
    full = True
    opened = os.open

    def maybe(path, *arguments):
        if full and str(path).endswith("p.jsonl"):
            raise OSError(28, "No space left on device")
        return opened(path, *arguments)

    monkeypatch.setattr(predictions.os, "open", maybe)
    log = PredictionLog(tmp_path / "p.jsonl", "", rotate_bytes=2000)
    log.add(LINE)
    wait_for(lambda: log.dropped == 1)
    full = False
    log.add(LINE._replace(id="after"))
    log.close()
    assert ids(tmp_path / "p.jsonl") == ["after"]
