"""How a release ended, told on GitHub: `switchback announce`, and drills: `switchback alert`."""

import html
import json
from dataclasses import replace

import pytest

from ci_tools.actions import run_url
from ci_tools.errors import DataError, SwitchbackError
from ci_tools.release.client.results import Ordered, Released
from ci_tools.report import drills
from ci_tools.report.outcome import announce, comment, read
from tests.release.api import scenes
from tests.release.client.played import inconclusive
from tests.report.github.hub import REPOSITORY, SHA, pull_request, refusal

RUN = "https://github.com/octo/model/actions/runs/9"


@pytest.fixture
def ended(tmp_path):
    """The file that a release, or an order, which came to a scene leaves."""

    def ended(scene, order=False):
        status = scene()
        done = Ordered(status=status) if order else Released(release=status.release, decision=status.decision)
        path = tmp_path / "outcome.json"
        path.write_text(json.dumps(done.to_json(), default=str))
        return path

    return ended


@pytest.fixture
def merged(hub):
    """Pull request 5 was merged as the commit that was released."""
    hub.merges[SHA] = [pull_request(5) | {"merged_at": "2026-11-21T10:00:00Z", "merge_commit_sha": SHA}]
    return hub


@pytest.fixture
def tell(target):
    def tell(path, before=""):
        return announce(read(path), replace(target, pull_request=None), SHA, "production", RUN, before)

    return tell


def statuses(hub):
    return [status["state"] for status in hub.deployment_statuses]


@pytest.mark.parametrize(
    ("scene", "state", "title", "issues"),
    [
        (scenes.watching, "success", "## ✅ Release: promoted, and watched", 0),
        (scenes.rolled_back, "failure", "## ❌ Release: rolled back", 1),
        (inconclusive, "failure", "## ❌ Release: inconclusive", 0),
        (scenes.ramping, "in_progress", "## ⏳ Release: ramping", 0),
    ],
)
def test_pull_request_deployment_and_on_call_hear_how_it_ended(merged, ended, tell, scene, state, title, issues):
    done = tell(ended(scene))
    (said,) = merged.comments.values()
    assert said["body"].splitlines()[1] == title
    assert f"[The workflow's run](<{RUN}>)" in said["body"]
    assert (statuses(merged), len(merged.issues)) == ([state], issues)
    assert (done.pull_request, done.deployment) == (5, next(iter(merged.deployments)))


def test_told_again_nobody_hears_it_twice(merged, ended, tell):
    first = tell(ended(scenes.rolled_back))
    assert tell(ended(scenes.rolled_back)) == first
    assert [len(kind) for kind in (merged.comments, merged.issues, merged.deployments, statuses(merged))] == [1] * 4


BEFORE, FIRST = "a0" * 20, "a1" * 20


@pytest.fixture
def group(merged):
    """Pull requests 3 and 5 were merged by one push, 5 last."""
    merged.pulls[3] = pull_request(3)
    merged.merges[FIRST] = [pull_request(3) | {"merged_at": "2026-11-21T10:00:00Z", "merge_commit_sha": FIRST}]
    chain = ((FIRST, BEFORE), (SHA, FIRST))
    merged.pushes[BEFORE, SHA] = [{"sha": sha, "parents": [{"sha": parent}]} for sha, parent in chain]
    return merged


def told(hub, number):
    return [said["body"] for said in hub.comments.values() if said["issue_url"].endswith(f"/issues/{number}")]


def test_every_pull_request_of_a_merge_group_hears_how_it_ended(group, ended, tell):
    done = tell(ended(scenes.watching), BEFORE)
    assert (done.pull_request, done.together) == (5, (3,))
    (last,), (first,) = told(group, 5), told(group, 3)
    assert first.splitlines()[1] == last.splitlines()[1] == "## ✅ Release: promoted, and watched"
    assert "Released together with #5, where everything is told that comes later" in first
    assert "together" not in last
    assert (len(statuses(group)), tell(ended(scenes.watching), BEFORE)) == (1, done)
    assert len(group.comments) == 2


@pytest.mark.parametrize("locked", [3, 5])
def test_locked_conversation_keeps_it_from_nobody_else(group, ended, tell, locked):
    group.pulls[locked]["locked"] = True
    with pytest.raises(SwitchbackError, match="is locked"):
        tell(ended(scenes.rolled_back), BEFORE)
    assert (statuses(group), len(group.issues)) == (["failure"], 1)
    assert [len(told(group, number)) for number in (3, 5)] == [int(locked != 3), int(locked != 5)]


def test_push_whose_last_commit_came_by_no_pull_request_is_told_to_the_others(group, ended, tell):
    group.merges[SHA] = []
    done = tell(ended(scenes.watching), BEFORE)
    assert (done.pull_request, done.together) == (None, (3,))
    assert "together with the last commit of this push" in told(group, 3)[0]


def test_deployment_and_on_call_hear_it_where_the_group_cannot_be_found(merged, ended, tell):
    merged.fail("GET", "/compare/", refusal(404, "Not Found"))
    with pytest.raises(SwitchbackError, match="list the commits behind a0a0"):
        tell(ended(scenes.rolled_back), BEFORE)
    assert (statuses(merged), len(merged.issues), len(merged.comments)) == (["failure"], 1, 1)


def test_rollback_of_a_watched_release_takes_the_promotion_back(merged, ended, tell):
    tell(ended(scenes.watching))
    tell(ended(scenes.rolled_back, order=True))
    assert [said["body"].splitlines()[1] for said in merged.comments.values()] == ["## ❌ Release: rolled back"]
    assert (statuses(merged), len(merged.issues)) == (["success", "failure"], 1)


def test_issue_holds_reason_evidence_origin_and_what_to_do(merged, ended, tell):
    tell(ended(scenes.rolled_back))
    (issue,) = merged.issues.values()
    assert issue["title"] == f"The release of bundle {scenes.CANARY[:12]} was rolled back"
    body = html.unescape(issue["body"])
    assert "worse than tolerated, beyond chance" in body
    assert "| `events.errors` | harmful |" in body
    assert f"Merged by #5. Commit {SHA}." in body
    assert "docs/runbooks.md" in body


def test_commit_without_a_pull_request_still_has_a_deployment(hub, ended, tell, capfd):
    done = tell(ended(scenes.watching))
    assert (done.pull_request, hub.comments, statuses(hub)) == (None, {}, ["success"])
    assert "came by no pull request" in capfd.readouterr().err


@pytest.mark.parametrize(("code", "title"), [(2, "not released"), (4, "not known how it ended")])
def test_release_of_which_nothing_is_known_is_an_error_of_the_deployment(merged, tell, tmp_path, code, title):
    error = {"kind": "X", "message": "the service does not answer", "exit_code": code}
    (tmp_path / "o.json").write_text(json.dumps({"error": error}))
    tell(tmp_path / "o.json")
    (said,) = merged.comments.values()
    assert said["body"].splitlines()[1:4:2] == [f"## ⛔ Release: {title}", "the service does not answer"]
    assert ("joins it" in said["body"]) == (code == 4)
    assert (statuses(merged), merged.issues) == (["error"], {})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"release": null}', '{"release": {"id": 1}}', '{"status": []}'])
def test_file_that_is_no_outcome_is_one_line(tmp_path, text):
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(DataError, match=r"o\.json: is no outcome of a release"):
        read(tmp_path / "o.json")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "missing.json")


def test_sentences_of_a_service_are_no_markup(ended):
    evil = scenes.release(scenes.Phase.IDLE, scenes.Result.ROLLED_BACK, "@octo <img src=x> [a](b)")
    evil = evil.model_copy(update={"started": "now | [a](b)\n\n@octo", "champion": "<img src=x>"})
    path = ended(lambda: scenes.rolled_back().model_copy(update={"release": evil}))
    text = comment(read(path))
    shown = ("| champion before | `<img src=x>` |", "| began | `now ¦ [a](b)\ufffd\ufffd@octo` |")
    assert [line for line in shown if line not in text.splitlines()] == []
    for line in shown:  # as code, where nothing is interpreted
        text = text.replace(line, "")
    assert "<img" not in text
    assert "@octo" not in text
    assert "[a](b)" not in text


@pytest.fixture
def environment(hub, monkeypatch):
    values = {"REPOSITORY": REPOSITORY, "TOKEN": "secret", "API_URL": hub.url, "SHA": SHA, "RUN_ID": "9"}
    for name, value in (values | {"SERVER_URL": "https://github.com"}).items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)


def test_command_takes_commit_and_run_from_the_environment(merged, environment, ended, switchback):
    code, out, err = switchback("announce", str(ended(scenes.watching)), "--json")
    assert code == 0, err
    assert json.loads(out)["pull_request"] == 5
    assert merged.deployment_statuses[0]["target_url"] == RUN == run_url()


@pytest.mark.parametrize(("pushed", "together"), [(SHA, [3]), (FIRST, [])], ids=["this commit", "another"])
def test_command_takes_the_group_from_the_push_that_brought_the_commit(
    group, environment, ended, switchback, monkeypatch, tmp_path, pushed, together
):
    event = {"repository": {"full_name": REPOSITORY}, "ref": "refs/heads/main", "before": BEFORE, "after": pushed}
    (tmp_path / "event.json").write_text(json.dumps(event))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    code, out, err = switchback("announce", str(ended(scenes.watching)), "--json")
    assert code == 0, err
    assert json.loads(out)["together"] == together


def test_commit_must_be_known(environment, ended, switchback, monkeypatch):
    monkeypatch.delenv("GITHUB_SHA")
    code, _, err = switchback("announce", str(ended(scenes.watching)))
    assert (code, "--sha: is not given" in err) == (2, True)


@pytest.mark.parametrize("sha", [SHA[:12], "main", "../pulls/5", SHA.upper()])
def test_commit_is_named_in_full(environment, merged, ended, switchback, sha):
    code, _, err = switchback("announce", str(ended(scenes.watching)), "--sha", sha)
    assert (code, f"--sha: {sha!r} is none" in err) == (2, True)
    assert (merged.comments, merged.deployments) == ({}, {})


SILENT = {"planted": "divergence", "plant": "late", "named": "", "failed": [], "diagnosis": "", "right": False}
PART = {"result": "promoted", "ok": True, "sentence": "It was fine.", "seconds": 2.0}
REHEARSED = {"exit_code": 1, "lost": 0, "fresh": PART, "spoiled": PART | {"ok": False}}


def test_silent_guards_are_one_open_issue_that_names_them(hub, environment, tmp_path, switchback):
    (tmp_path / "self-test.json").write_text(json.dumps({"ok": False, "findings": [SILENT, SILENT | {"right": True}]}))
    (tmp_path / "rehearsal.json").write_text(json.dumps(REHEARSED))
    files = [str(tmp_path / name) for name in ("self-test.json", "rehearsal.json")]
    assert switchback("alert", *files)[1].startswith("opened: https://")
    assert switchback("alert", *files)[1].startswith("unchanged: ")
    (issue,) = hub.issues.values()
    assert issue["title"] == drills.TITLE
    assert issue["body"].count("was planted") == 1
    assert "- `divergence` (`late`) was planted, and the gates named nothing." in issue["body"]
    assert "- The spoiled model was to be rolled back and ended promoted: It was fine" in issue["body"]
    issue["state"] = "closed"
    assert switchback("alert", *files)[1].startswith("opened: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "- `drill.json` holds no finding: its drill did not come to an end"),
        ('{"error": {"message": "no model"}}', "- A drill could not be held: no model"),
        ('{"lost": 3}', "- The rehearsal lost 3 requests."),
        (
            '{"ok": true, "findings": []}',
            "- The drills ended with an error and found nothing wrong: see the log.",
        ),
    ],
)
def test_drill_that_found_nothing_says_so(tmp_path, text, line):
    (tmp_path / "drill.json").write_text(text)
    assert line in drills.text([tmp_path / "drill.json"]).splitlines()
