import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ci_tools import console


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.delenv(console.QUIET, raising=False)
    monkeypatch.setenv("CI", "1")


def test_plain_progress_says_each_tenth_once(capsys):
    with console.progress(1000, "train") as bar:
        for step in range(1, 1001):
            bar.update(step, f"loss {step}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"train {step}/1000  loss {step}" for step in range(100, 1001, 100)]


def test_plain_progress_says_something_when_a_tenth_takes_long(capsys, monkeypatch):
    now = iter(range(0, 1000, 20))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress(1000, "train") as bar:
        for step in range(1, 5):
            bar.update(step)
    assert capsys.readouterr().err.splitlines() == ["train 2/1000", "train 4/1000"]


def test_a_log_that_takes_nothing_stops_nothing(monkeypatch):
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        console.say("hello")
        with suppress(OSError):
            full.close()


def test_quiet_says_nothing(capsys, monkeypatch):
    monkeypatch.setenv(console.QUIET, "1")
    console.say("hello")
    with console.progress(2, "train") as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.delenv("CI")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert console.on_terminal()
    with console.progress(4, "train") as bar:
        bar.update(3, "loss 0.5")
    assert "3/4" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_ci_and_dumb_terminals_are_not_terminals(monkeypatch, name, value):
    monkeypatch.delenv("CI")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv(name, value)
    assert not console.on_terminal()


def test_stdout_of_children_goes_to_stderr_and_comes_back(capfd):
    with console.stdout_to_stderr():
        os.write(1, b"inside\n")
        os.system("echo child")
    os.write(1, b"outside\n")
    out, err = capfd.readouterr()
    assert out == "outside\n"
    assert err == "inside\nchild\n"
