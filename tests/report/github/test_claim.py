import json
from dataclasses import replace

import pytest

from ci_tools.errors import DataError, SwitchbackError
from ci_tools.report.github import Head, check_claim, pull_request_of
from ci_tools.report.github.claim import contradiction
from tests.report.github.hub import REPOSITORY, SHA, Reply, pull_request

RUN = Head(SHA, REPOSITORY, "deeper")
OTHER = "c0" * 20


@pytest.fixture
def check(target, patience):
    def run(results_head_sha=SHA, number=5, run=RUN):
        check_claim(results_head_sha, number, target=replace(target, pull_request=None), run=run, patience=patience)

    return run


def test_claim_holds_where_results_run_and_pull_request_agree(check, hub):
    check()
    assert hub.sent("GET") == [("GET", f"/repos/{REPOSITORY}/pulls/5")]


def test_claim_holds_for_a_fork(check, hub):
    hub.pulls[6] = pull_request(6, repository="alice/model")
    check(number=6, run=RUN._replace(repository="Alice/model"))


@pytest.fixture
def find(target, patience):
    return lambda run: pull_request_of(run, target=replace(target, pull_request=None), patience=patience)


def test_forks_run_belongs_to_the_open_pull_request_with_its_head(find, hub):
    hub.pulls |= {
        6: pull_request(6, repository="alice/model"),
        7: pull_request(7, repository="alice/model", branch="other"),
        8: pull_request(8, repository="alice/model") | {"state": "closed"},
        9: pull_request(9, repository=None),
    }
    assert find(RUN._replace(repository="alice/model")) == 6
    assert find(RUN) == 5


@pytest.mark.parametrize(
    "run",
    [
        RUN._replace(repository="mallory/model"),
        RUN._replace(sha=OTHER),
        RUN._replace(branch="copy"),
        RUN._replace(branch=""),
        RUN._replace(repository=""),
    ],
    ids=["stranger's copy", "moved on", "other branch", "no branch", "deleted fork"],
)
def test_run_of_no_open_pull_requests_head_belongs_to_none(find, run):
    assert find(run) is None


def test_run_of_two_pull_requests_belongs_to_neither(find, hub):
    hub.pulls[6] = pull_request(6)
    assert find(RUN) is None


@pytest.mark.parametrize(
    ("results", "run", "pull", "said"),
    [
        (OTHER, RUN, RUN, "the results say"),
        (SHA, RUN._replace(sha=OTHER), RUN, "the results say"),
        (SHA, RUN, RUN._replace(sha=OTHER), "its head is c0c0"),
        (SHA, RUN._replace(repository="mallory/model"), RUN, "its head lies in octo/model, but the run was of mallory"),
        (SHA, RUN._replace(repository=""), RUN._replace(repository=""), "a deleted repository"),
        (SHA, RUN, RUN._replace(repository=""), "its head lies in a deleted repository"),
        (SHA, RUN._replace(branch="copy"), RUN, "the branch 'deeper', but the run was of 'copy'"),
        ("", RUN._replace(sha=""), RUN, "its head is"),
    ],
)
def test_contradiction_says_what_does_not_agree(results, run, pull, said):
    assert said in contradiction(results, run, pull)


def test_pushed_copy_of_another_ones_commit_does_not_claim_the_pull_request(check, hub):
    """The commit is public: a stranger's run of the very same commit may carry forged results."""
    with pytest.raises(DataError, match="mallory/model") as caught:
        check(run=RUN._replace(repository="mallory/model"))
    assert caught.value.exit_code == 2


def test_pull_request_that_moved_on_gets_no_old_results(check, hub):
    hub.pulls[5] = pull_request(5, sha=OTHER)
    with pytest.raises(DataError, match=r"pull request #5: its head is c0c0c0c0c0c0.*its newer run reports"):
        check()


def test_pull_request_that_does_not_exist_is_one_clear_error(check):
    with pytest.raises(SwitchbackError, match="cannot read pull request #7 of octo/model: GitHub answered 404"):
        check(number=7)


def test_outage_is_waited_out(check, hub, clock):
    hub.fail("GET", "/pulls/5", Reply(502, "<html>"), times=2)
    check()
    assert clock.waits == [1, 2]


@pytest.mark.parametrize(
    "head",
    [
        None,
        {},
        "deeper",
        {"sha": None, "ref": "deeper", "repo": None},
        {"sha": SHA, "ref": "deeper", "repo": {}},
        {"sha": SHA, "ref": None, "repo": {"full_name": REPOSITORY}},
        {"sha": 5, "ref": "deeper", "repo": {"full_name": REPOSITORY}},
        {"sha": SHA, "ref": "deeper", "repo": {"full_name": ["x"]}},
    ],
)
def test_head_of_another_shape_is_one_clear_error(check, hub, head):
    hub.pulls[5]["head"] = head
    with pytest.raises(SwitchbackError, match="cannot read pull request #5 of octo/model"):
        check()


def test_run_and_server_come_from_the_environment(hub, monkeypatch, tmp_path, patience):
    event = tmp_path / "event.json"
    here = {"full_name": REPOSITORY}
    started = {"head_sha": SHA, "head_branch": "deeper", "head_repository": here, "pull_requests": []}
    event.write_text(json.dumps({"repository": here, "workflow_run": started}))
    for name, value in {
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_API_URL": hub.url,
        "GITHUB_TOKEN": "secret",
        "GITHUB_REPOSITORY": REPOSITORY,
    }.items():
        monkeypatch.setenv(name, value)
    check_claim(SHA, 5, patience=patience)
    with pytest.raises(DataError, match="the results say"):
        check_claim(OTHER, 5, patience=patience)
