"""What a tracked run is called and where it belongs, from hostile names too."""

import json

import pytest

from ci_tools.record.reader import open_record
from ci_tools.report.track import labels
from tests.report.track.written import finished


@pytest.fixture(scope="module")
def meta(tmp_path_factory):
    return open_record(finished(tmp_path_factory.mktemp("labels") / "run")).meta


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WANDB_RUN_GROUP": "mine", "GITHUB_REF": "refs/pull/7/merge"}, "mine"),
        ({"GITHUB_REF": "refs/pull/7/merge", "GITHUB_REF_NAME": "7/merge"}, "pull-request-7"),
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"}, "main"),
        ({"GITHUB_EVENT_PATH": "/nowhere"}, "c" * 12),
        ({}, "c" * 12),
    ],
)
def test_group_is_the_pull_request_else_the_branch_else_the_commit(meta, environ, expected):
    assert labels.group(meta, environ) == expected


def test_group_is_local_without_git(meta):
    assert labels.group(meta.model_copy(update={"git_commit": ""}), {}) == "local"


def test_pull_request_is_read_from_the_event_where_the_ref_names_none(meta, tmp_path):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 12}}))
    environ = {"GITHUB_REF": "refs/heads/x", "GITHUB_REF_NAME": "x", "GITHUB_EVENT_PATH": str(event)}
    assert labels.group(meta, environ) == "pull-request-12"


def test_hostile_branch_is_printable_and_short(meta):
    group = labels.group(meta, {"GITHUB_REF_NAME": "x\x1b[2J\u202e" + "y" * 500})
    assert group.isprintable()
    assert len(group) <= labels.LONGEST


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WANDB_PROJECT": "risk"}, "risk"),
        ({"GITHUB_REPOSITORY": "team/fraud.model"}, "fraud.model"),
        ({"WANDB_PROJECT": "a/b\\c#d?e%f:g"}, "a-b-c-d-e-f-g"),
    ],
)
def test_project_is_named_as_trackers_allow(environ, expected):
    assert labels.project(environ) == expected


def test_project_without_any_name_is_that_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "scores").mkdir()
    monkeypatch.chdir(tmp_path / "scores")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert labels.project({}) == "scores"


def test_project_is_that_of_the_folder_where_git_may_not_be_run(tmp_path, monkeypatch):
    (tmp_path / "scores").mkdir()
    (tmp_path / "git").write_text("")
    monkeypatch.chdir(tmp_path / "scores")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert labels.project({}) == "scores"


def test_tags_tell_status_seed_and_uncommitted_changes(meta):
    assert labels.tags(meta) == ["finished", "seed-3"]
    assert labels.tags(meta.model_copy(update={"git_dirty": True}))[-1] == "uncommitted-changes"


def test_config_counts_the_weights_and_names_the_record(meta):
    told = labels.config(meta)
    assert (told["weights"], told["record"], told["seed"]) == (3 * 12, meta.id, 3)
    assert told["params"] == meta.params
    assert json.dumps(told)


def test_artifact_names_hold_no_sign_that_w_and_b_refuses():
    assert labels.artifact_name("record", "sé/ed:1") == "record-s-ed-1"
    assert len(labels.artifact_name("x" * 500)) == 128
