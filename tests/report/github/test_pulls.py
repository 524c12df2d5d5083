from dataclasses import replace

import pytest

from ci_tools.errors import ConfigError, DataError, SwitchbackError
from ci_tools.report.github import merged_as, refuse_unless_head
from tests.report.github.hub import SHA, pull_request

OTHER = "c0" * 20


def merged(number, sha, at="2026-11-21T10:00:00Z"):
    return pull_request(number) | {"state": "closed", "merged_at": at, "merge_commit_sha": sha}


@pytest.mark.parametrize(
    ("pulls", "number"),
    [
        ([], None),
        ([merged(5, SHA)], 5),
        ([merged(4, OTHER), merged(5, SHA)], 5),
        ([merged(4, OTHER)], 4),
        ([merged(6, SHA, at=None), merged(5, SHA)], 5),
        ([merged(6, SHA, at=None)], None),
    ],
    ids=["pushed", "merged", "two", "rebased", "one is open", "open"],
)
def test_pull_request_is_the_one_that_was_merged_as_the_commit(hub, target, patience, pulls, number):
    hub.merges[SHA] = pulls
    assert merged_as(target, SHA, patience=patience) == number
    assert len(hub.requests) == 1


def test_head_of_an_open_pull_request_is_accepted(hub, target, patience):
    refuse_unless_head(target, SHA, patience=patience)


def test_commit_that_is_not_the_head_is_refused(target, patience):
    with pytest.raises(DataError, match=r"pull request #5: its head is 5b.*; only the commit that was read may be run"):
        refuse_unless_head(target, OTHER, patience=patience)


def test_closed_pull_request_is_refused(hub, target, patience):
    hub.pulls[5]["state"] = "closed"
    with pytest.raises(DataError, match="it is closed"):
        refuse_unless_head(target, SHA, patience=patience)


def test_unknown_pull_request_is_one_clear_error(target, patience):
    with pytest.raises(SwitchbackError, match="cannot read pull request #99 of octo/model: GitHub answered 404"):
        refuse_unless_head(replace(target, pull_request=99), SHA, patience=patience)
    with pytest.raises(ConfigError, match="no pull request is known"):
        refuse_unless_head(replace(target, pull_request=None), SHA, patience=patience)


@pytest.mark.parametrize(("sha", "code"), [(SHA, 0), (OTHER, 2)])
def test_command_approves_the_head_only(hub, switchback, monkeypatch, sha, code):
    for name, value in {"REPOSITORY": "octo/model", "TOKEN": "secret", "API_URL": hub.url}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    assert switchback("approved", "5", sha)[0] == code
