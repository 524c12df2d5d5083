import json

import pytest

from ci_tools.errors import ConfigError, DataError
from ci_tools.report.github import Event, Head, find_event, read_event

SHA, FORK_SHA = "5b" * 20, "c0" * 20
HERE = {"full_name": "octo/model", "private": False}
PULL = {
    "action": "synchronize",
    "number": 5,
    "repository": HERE,
    "pull_request": {
        "number": 5,
        "title": "deeper",
        "head": {"sha": FORK_SHA, "ref": "deeper", "repo": {"full_name": "alice/model"}},
    },
}
RUN = {
    "action": "completed",
    "repository": HERE,
    "workflow_run": {
        "id": 9,
        "event": "pull_request",
        "head_sha": FORK_SHA,
        "head_branch": "deeper",
        "head_repository": {"full_name": "alice/model"},
        "pull_requests": [],
    },
}
GROUP = {
    "action": "checks_requested",
    "repository": HERE,
    "merge_group": {"head_sha": SHA, "head_ref": "refs/heads/gh-readonly-queue/main/pr-5-c0", "base_sha": FORK_SHA},
}
DISPATCH = {"ref": "refs/heads/main", "repository": HERE, "workflow": ".github/workflows/gpu.yml"}
PUSH = {"ref": "refs/heads/main", "before": FORK_SHA, "after": SHA, "repository": HERE}


@pytest.fixture
def written(tmp_path):
    def write(event):
        path = tmp_path / "event.json"
        path.write_text(event if isinstance(event, str) else json.dumps(event))
        return path

    return write


def with_numbers(*numbers):
    return RUN | {"workflow_run": RUN["workflow_run"] | {"pull_requests": [{"number": n, "id": 1} for n in numbers]}}


def typed(number):
    """A maintainer named a fork's commit."""
    return DISPATCH | {"inputs": {"sha": FORK_SHA, "pull_request": number}}


@pytest.mark.parametrize(
    ("event", "read"),
    [
        (PULL, Event("pull_request", Head(FORK_SHA, "alice/model", "deeper"), 5)),
        (RUN, Event("workflow_run", Head(FORK_SHA, "alice/model", "deeper"), None)),
        (with_numbers(5), Event("workflow_run", Head(FORK_SHA, "alice/model", "deeper"), 5)),
        (with_numbers(5, 6), Event("workflow_run", Head(FORK_SHA, "alice/model", "deeper"), None)),
        (GROUP, Event("merge_group", Head(SHA, "octo/model", "gh-readonly-queue/main/pr-5-c0"), None)),
        (PUSH, Event("push", Head(SHA, "octo/model", "main"), None, FORK_SHA)),
        (PUSH | {"before": "0" * 40}, Event("push", Head(SHA, "octo/model", "main"), None)),
        (typed("5"), Event("workflow_dispatch", Head(FORK_SHA, "", ""), 5)),
        (
            DISPATCH | {"inputs": {"sha": FORK_SHA, "pull_request": 5}},
            Event("workflow_dispatch", Head(FORK_SHA, "", ""), 5),
        ),
    ],
    ids=[
        "pull_request",
        "workflow_run of a fork",
        "workflow_run",
        "run of two",
        "merge_group",
        "push",
        "first push",
        "approved fork",
        "its number as one",
    ],
)
def test_each_event_says_which_commit_it_is_about(written, event, read):
    assert read_event(written(event)) == read


def test_deleted_fork_has_no_repository(written):
    event = RUN | {"workflow_run": RUN["workflow_run"] | {"head_repository": None, "head_branch": None}}
    assert read_event(written(event)).head == Head(FORK_SHA, "", "")


def test_path_comes_from_the_environment(written, monkeypatch):
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(written(PUSH)))
    assert read_event().kind == "push"
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    with pytest.raises(ConfigError, match="GITHUB_EVENT_PATH is not set"):
        read_event()


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("", "invalid json"),
        ('{"repository": ', "invalid json"),
        ("[]", "should be an object"),
        ({"action": "created"}, "repository: field required"),
        ({"repository": 1}, "repository: input should be an object"),
        (PULL | {"pull_request": {"number": 5}}, "pull_request.head: field required"),
        (PULL | {"pull_request": PULL["pull_request"] | {"number": "5"}}, "pull_request.number: input should be a"),
        (PUSH | {"after": "main; rm -rf /"}, "after: string should match"),
        (PUSH | {"before": "main; rm -rf /"}, "before: string should match"),
        (PUSH | {"repository": {"full_name": "octo/model/../x"}}, "repository.full_name: string should match"),
        (PUSH | {"after": "0" * 40}, "deleted a branch"),
        ({"repository": HERE, "schedule": "0 3 * * *"}, "carries no commit"),
        (DISPATCH | {"inputs": {"reason": "it is slow"}}, "carries no commit"),
        (DISPATCH | {"inputs": {"sha": "main", "pull_request": "5"}}, "sha: string should match"),
        (DISPATCH | {"inputs": {"sha": FORK_SHA, "pull_request": "5; rm"}}, "pull_request"),
    ],
)
def test_malformed_event_is_one_error_that_names_the_key(written, event, said):
    path = written(event)
    with pytest.raises(DataError) as caught:
        read_event(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("event", [{"repository": HERE, "schedule": "0 3 * * *"}, PUSH | {"after": "0" * 40}])
def test_event_without_a_commit_may_have_started_a_run(written, event):
    assert find_event(written(event)) is None
    assert find_event(written(PUSH)) == read_event(written(PUSH))


def test_damaged_event_says_how_to_mend_it_and_is_never_passed_over(written):
    for reader in (read_event, find_event):
        with pytest.raises(DataError, match=r"Fix: set GITHUB_EVENT_PATH to the file that GitHub Actions wrote"):
            reader(written({"repository": 1}))


def test_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"event\.json: cannot be read \(No such file or directory\)"):
        read_event(tmp_path / "event.json")
