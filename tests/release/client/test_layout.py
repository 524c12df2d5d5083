"""What people read fits their terminal."""

import os

import pytest

from ci_tools.release.client import layout
from ci_tools.release.client.results import Ordered, Released, Shown
from tests.release.api import scenes

SCENES = [scenes.idle, scenes.mirroring, scenes.ramping, scenes.held, scenes.rolled_back, scenes.watching]


@pytest.mark.parametrize("columns", [60, 80, 132])
@pytest.mark.parametrize("scene", SCENES)
def test_every_line_fits_the_terminal(monkeypatch, scene, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    status = scene()
    texts = [str(Shown(status=status)), str(Ordered(status=status))]
    texts += [str(Released(release=status.release, decision=status.decision))] if status.release else []
    assert max(len(line) for text in texts for line in text.splitlines()) <= columns


def test_log_keeps_a_row_in_a_line(monkeypatch):
    monkeypatch.setattr(layout.shutil, "get_terminal_size", lambda fallback: os.terminal_size(fallback))
    verdicts = scenes.rolled_back().decision.verdicts
    text = str(Shown(status=scenes.rolled_back()))
    for verdict in verdicts:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{verdict.metric} ")]
        assert f" {verdict.outcome.value} " in line


def test_row_that_does_not_fit_is_told_with_the_names_of_its_cells(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = layout.table([("server", "role", "ended last because"), ("m1", "stable", ""), ("m2", "canary", "x " * 30)])
    assert text.splitlines()[:3] == ["m1", "  role: stable", "m2"]
    assert text.splitlines()[3].startswith("  role: canary; ended last because: x x")


def test_sentence_is_folded_behind_its_indentation(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = layout.folded("  harmful  " + "word " * 20).splitlines()
    assert lines[0].startswith("  harmful  word")
    assert all(line.startswith("    word") for line in lines[1:])
