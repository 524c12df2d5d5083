"""report/wandb.json: remembered, replaced, and no obstacle when it is not what it should be."""

import json

import pytest

from ci_tools.report.track import kept
from ci_tools.report.track.kept import Entry


def test_what_was_noted_is_read_again(tmp_path):
    entry = Entry(id="a", url="https://w/a", project="e/p", state="s")
    kept.note("seed-1", entry, tmp_path)
    kept.note_report("https://w/report", tmp_path)
    read = kept.read(tmp_path)
    assert (read.runs, read.run, read.report) == ({"seed-1": entry}, "https://w/a", "https://w/report")


def test_comment_links_to_the_verdicts_where_they_were_told(tmp_path):
    for name, first in (("seed-1", False), ("seed-2", False), ("gate", True), ("seed-3", False)):
        kept.note(name, Entry(id=name, url=f"https://w/{name}"), tmp_path, first=first)
        expected = "https://w/seed-1" if name in ("seed-1", "seed-2") else "https://w/gate"
        assert json.loads((tmp_path / kept.FILE).read_text())["run"] == expected


def test_run_kept_offline_leaves_the_address_as_it_is(tmp_path):
    kept.note("seed-1", Entry(id="a", url="https://w/a"), tmp_path)
    kept.note("gate", Entry(id="g", folder="wandb/offline-run-g"), tmp_path, first=True)
    assert kept.read(tmp_path).run == "https://w/a"


def test_run_is_known_only_in_the_state_it_was_told_in_and_with_its_folder(tmp_path):
    kept.note("seed-1", Entry(id="a", folder="wandb/offline-run-a", state="s"), tmp_path)
    assert kept.known("seed-1", "s", tmp_path) is None
    (tmp_path / "wandb/offline-run-a").mkdir(parents=True)
    assert kept.known("seed-1", "s", tmp_path).id == "a"
    assert kept.known("seed-1", "other", tmp_path) is None
    assert kept.known("seed-2", "s", tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": 3}', '{"run": "", "report": "", "runs": {"a": {"x": 1}}}'])
def test_file_that_is_not_what_it_should_be_counts_as_none(tmp_path, text):
    path = tmp_path / kept.FILE
    path.parent.mkdir()
    path.write_text(text)
    assert kept.read(tmp_path).runs == {}
    kept.note("seed-1", Entry(id="a"), tmp_path)
    assert list(kept.read(tmp_path).runs) == ["seed-1"]
