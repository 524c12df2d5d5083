from dataclasses import replace

import pytest

from ci_tools.errors import ConfigError, DataError, SwitchbackError
from ci_tools.report.github import merged_as, merged_since, refuse_unless_head
from ci_tools.report.github.pulls import MOST
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


BEFORE, SECOND, INNER = "a0" * 20, "a1" * 20, "a2" * 20


def commit(sha, *parents):
    return {"sha": sha, "parents": [{"sha": parent} for parent in parents]}


def test_every_pull_request_of_a_group_is_found_the_last_first(hub, target, patience):
    hub.pushes[BEFORE, SHA] = [commit(OTHER, BEFORE), commit(SECOND, OTHER), commit(SHA, SECOND)]
    hub.merges |= {OTHER: [merged(3, OTHER)], SECOND: [], SHA: [merged(5, SHA)]}
    assert merged_since(target, BEFORE, SHA, patience=patience) == (5, 3)


def test_commits_that_a_merge_commit_brought_are_not_asked(hub, target, patience):
    hub.pushes[BEFORE, SHA] = [commit(INNER, BEFORE), commit(OTHER, BEFORE, INNER), commit(SHA, OTHER, INNER)]
    hub.merges |= {INNER: [merged(9, INNER)], OTHER: [merged(3, OTHER)], SHA: [merged(5, SHA)]}
    assert merged_since(target, BEFORE, SHA, patience=patience) == (5, 3)
    assert not [path for _, path in hub.sent("GET") if INNER in path]


def test_pull_request_of_several_commits_is_found_once(hub, target, patience):
    hub.pushes[BEFORE, SHA] = [commit(OTHER, BEFORE), commit(SHA, OTHER)]
    hub.merges |= {OTHER: [merged(5, SHA)], SHA: [merged(5, SHA)]}
    assert merged_since(target, BEFORE, SHA, patience=patience) == (5,)


def test_push_of_very_many_commits_is_not_asked_for_all(hub, target, patience):
    shas = [f"{i:040x}" for i in range(0xA0, 0xA0 + MOST + 20)] + [SHA]
    hub.pushes[BEFORE, SHA] = [commit(sha, parent) for parent, sha in zip([BEFORE, *shas], shas, strict=False)]
    assert merged_since(target, BEFORE, SHA, patience=patience) == ()
    assert sum("/pulls" in path for _, path in hub.sent("GET")) == MOST


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
