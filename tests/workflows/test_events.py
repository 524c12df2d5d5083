import json

import pytest

from tests.workflows import events
from tests.workflows.events import Code, starts
from tests.workflows.files import Workflow


def flow(on, name="CI"):
    return Workflow(".github/workflows/ci.yml", {"name": name, "on": on, "jobs": {}})


@pytest.mark.parametrize(
    ("on", "event", "whether"),
    [
        ("push", events.push(), True),
        (["push", "pull_request"], events.pull_request(), True),
        ("push", events.pull_request(), False),
        ({"push": {"branches": ["main"]}}, events.push(branch="deeper"), False),
        ({"push": {"branches": ["release/**"]}}, events.push(branch="release/1/2"), True),
        ({"push": {"branches": ["release/*"]}}, events.push(branch="release/1/2"), False),
        ({"push": {"branches": ["**", "!main"]}}, events.push(), False),
        ({"push": {"branches-ignore": ["main"]}}, events.push(), False),
        ({"push": {"tags": ["v*"]}}, events.push(), False),
        ({"pull_request": {"types": ["labeled"]}}, events.pull_request(), False),
        ({"pull_request": {"types": ["labeled"]}}, events.pull_request(action="labeled"), True),
        ({"pull_request": {"branches": ["main"]}}, events.pull_request(), True),
        ({"workflow_run": {"workflows": ["CI"]}}, events.workflow_run(events.push(), flow("push")), True),
        ({"workflow_run": {"workflows": ["Other"]}}, events.workflow_run(events.push(), flow("push")), False),
        ({"workflow_dispatch": None}, events.dispatch(), True),
    ],
)
def test_filters_decide_what_starts_a_workflow(on, event, whether):
    assert starts(flow(on), event) is whether


def test_a_run_of_a_fork_runs_the_default_branchs_code_and_names_no_pull_request():
    ended = events.workflow_run(events.pull_request(source=events.FORK), flow("pull_request"))
    assert (ended.code, ended.about, ended.sha) == (Code.MAIN, Code.FORK, events.TIP)
    run = ended.payload["workflow_run"]
    assert (run["head_sha"], run["head_repository"]["full_name"]) == (events.HEAD, events.FORK)
    assert run["pull_requests"] == []
    own = events.workflow_run(events.pull_request(), flow("pull_request")).payload["workflow_run"]
    assert [pull["number"] for pull in own["pull_requests"]] == [5]


@pytest.mark.parametrize(
    "event",
    [
        events.pull_request(),
        events.merge_group(),
        events.push(),
        events.workflow_run(events.pull_request(), flow("pull_request")),
    ],
)
def test_payloads_are_such_as_switchback_reads(event, tmp_path):
    from ci_tools.report.github import read_event

    path = tmp_path / "event.json"
    path.write_text(json.dumps(event.payload))
    assert read_event(path).kind == event.kind
