import subprocess

import pytest

from ci_tools.errors import SwitchbackError
from ci_tools.report.github import Change, propose
from tests.report.github.hub import RESET, Reply

PARENT, TREE = "aa" * 20, "bb" * 20
BAD_GATEWAY = Reply(502, {"message": "Bad Gateway"})
CHANGE = Change(PARENT, TREE, {"dvc.lock": "stages: {}\n"}, "Retrained\n\nThe data drifted.\n")


@pytest.fixture
def put(target, patience):
    def put(change=CHANGE, base="main"):
        return propose(target, change, branch="switchback/retrain", base=base, patience=patience)

    return put


def opened(hub):
    return [pull for number, pull in hub.pulls.items() if number != 5]


def test_files_come_on_a_branch_with_a_pull_request(hub, put):
    done = put()
    commit = hub.commits[hub.branches["switchback/retrain"]]
    assert commit["tree"] == {"base_tree": TREE, "files": CHANGE.files}
    assert commit["parents"] == [PARENT]
    (pull,) = opened(hub)
    assert (pull["title"], pull["body"], pull["base"]) == ("Retrained", "The data drifted.", "main")
    assert done == (pull["html_url"], "opened")


def test_second_proposal_replaces_the_commit_and_keeps_the_pull_request(hub, put):
    first = put()
    opened(hub)[0]["body"] = "somebody added to it"
    second = put(CHANGE._replace(files={"dvc.lock": "stages: {a: {}}\n"}))
    assert second == (first.url, "updated")
    assert hub.commits[hub.branches["switchback/retrain"]]["tree"]["files"] == {"dvc.lock": "stages: {a: {}}\n"}
    assert [pull["body"] for pull in opened(hub)] == ["somebody added to it"]


def test_name_of_a_branch_is_no_part_of_the_question(hub, put):
    first = put(base="a&state=closed#+b")
    assert put(base="a&state=closed#+b") == (first.url, "updated")
    assert len(opened(hub)) == 1


def test_branch_whose_name_begins_alike_is_left_alone(hub, put):
    hub.branches["switchback/retrain-by-hand"] = PARENT
    put()
    assert hub.branches["switchback/retrain-by-hand"] == PARENT


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("fault", [BAD_GATEWAY, RESET])
@pytest.mark.parametrize("path", ["/git/trees", "/git/commits", "/git/refs", "/pulls$"])
def test_whatever_breaks_there_is_one_branch_and_one_pull_request(hub, put, path, fault, arrives):
    hub.fail("POST", path, fault, arrives=arrives)
    assert put().action == "opened"
    assert (len(hub.branches), len(opened(hub))) == (1, 1)


def test_token_without_the_right_is_one_clear_error(hub, put):
    hub.permissions.discard("contents")
    with pytest.raises(SwitchbackError, match="the token lacks `contents: write, pull-requests: write`"):
        put()


@pytest.fixture
def working(hub, tmp_path, monkeypatch, git):
    """A repository with a committed lock, and a new one below made/."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main", ".")
    (tmp_path / "dvc.lock").write_text("old\n")
    git("add", "dvc.lock")
    git("commit", "--quiet", "-m", "lock")
    (tmp_path / "made").mkdir()
    (tmp_path / "made/dvc.lock").write_text("new\n")
    for name, value in {"REPOSITORY": "octo/model", "TOKEN": "secret", "API_URL": hub.url}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    return tmp_path


def test_command_proposes_what_differs_from_head(hub, working, switchback):
    code, out, err = switchback("propose", "dvc.lock", "--from", "made")
    assert code == 0, err
    assert out == f"opened: {opened(hub)[0]['html_url']}\n"
    commit = hub.commits[hub.branches["switchback/retrain"]]
    head = subprocess.run(["git", "rev-parse", "HEAD", "HEAD^{tree}"], capture_output=True, text=True).stdout.split()
    assert [*commit["parents"], commit["tree"]["base_tree"]] == head
    assert commit["tree"]["files"] == {"dvc.lock": "new\n"}


def test_command_proposes_nothing_where_nothing_differs(hub, working, switchback):
    (working / "made/dvc.lock").write_text("old\n")
    assert switchback("propose", "dvc.lock", "--from", "made")[:2] == (0, "nothing differs from HEAD\n")
    assert hub.requests == []


@pytest.mark.parametrize("path", ["../dvc.lock", "/etc/hostname", "missing"])
def test_command_takes_files_of_the_repository_only(working, switchback, path):
    code, _, err = switchback("propose", path, "--from", "made")
    assert (code, err.count("\n")) == (2, 1)
