import pytest

from ci_tools.errors import DependencyUnavailable, SwitchbackError
from ci_tools.report.github import commit_status, deployment, deployment_status
from ci_tools.report.github.statuses import shorten
from tests.report.github.hub import RESET, SHA, Reply

RUN = "https://github.com/octo/model/actions/runs/9"
BAD_GATEWAY = Reply(502, {"message": "Bad Gateway"})
said = pytest.mark.parametrize("arrives", [True, False])
faults = pytest.mark.parametrize("fault", [BAD_GATEWAY, RESET])


def test_commit_status_says_state_context_text_and_link_in_one_request(hub, target, patience):
    commit_status(target, SHA, "failure", "2 gates failed", url=RUN, patience=patience)
    (status,) = hub.statuses
    assert {key: status[key] for key in ("state", "context", "description", "target_url")} == {
        "state": "failure",
        "context": "switchback",
        "description": "2 gates failed",
        "target_url": RUN,
    }
    assert len(hub.requests) == 1


@said
@faults
def test_commit_status_is_repeated_only_if_it_did_not_arrive(hub, target, patience, fault, arrives):
    commit_status(target, SHA, "success", "old", context="other", patience=patience)
    hub.fail("POST", "/statuses/", fault, arrives=arrives)
    commit_status(target, SHA, "success", "all passed", patience=patience)
    assert [status["description"] for status in hub.statuses] == ["old", "all passed"]


def test_other_status_of_the_context_is_not_taken_for_the_one_that_failed_to_arrive(hub, target, patience):
    commit_status(target, SHA, "pending", "training", patience=patience)
    hub.fail("POST", "/statuses/", BAD_GATEWAY)
    commit_status(target, SHA, "success", "all passed", patience=patience)
    assert [status["state"] for status in hub.statuses] == ["pending", "success"]


def test_unknown_commit_is_told_in_githubs_words(target, patience):
    with pytest.raises(SwitchbackError, match="422 Validation Failed; No commit found for SHA"):
        commit_status(target, "ab" * 20, "success", patience=patience)


def test_missing_permissions_are_named(hub, target, patience):
    hub.permissions.clear()
    with pytest.raises(SwitchbackError, match="the token lacks `statuses: write`"):
        commit_status(target, SHA, "success", patience=patience)
    with pytest.raises(SwitchbackError, match="the token lacks `deployments: write`"):
        deployment(target, SHA, "production", patience=patience)
    with pytest.raises(SwitchbackError, match="the token lacks `deployments: write`"):
        deployment_status(target, 1, "success", patience=patience)


def test_outage_ends_after_a_bounded_time(hub, target, patience, clock):
    hub.fail("POST", "/statuses/", BAD_GATEWAY, times=50)
    with pytest.raises(DependencyUnavailable, match="502 Bad Gateway; attempt 6 was the last"):
        commit_status(target, SHA, "success", patience=patience)
    assert sum(clock.waits) == 31


def test_deployment_is_created_once_per_commit_and_environment(hub, target, patience):
    first = deployment(target, SHA, "production", description="canary", patience=patience)
    assert deployment(target, SHA, "production", patience=patience) == first
    assert deployment(target, SHA, "staging", patience=patience) != first
    assert [made["environment"] for made in hub.deployments.values()] == ["production", "staging"]


@said
@faults
def test_deployment_is_repeated_only_if_it_did_not_arrive(hub, target, patience, fault, arrives):
    hub.fail("POST", "/deployments$", fault, arrives=arrives)
    assert [deployment(target, SHA, "production", patience=patience)] == list(hub.deployments)


def test_deployment_status_says_how_it_fares(hub, target, patience):
    number = deployment(target, SHA, "production", patience=patience)
    deployment_status(target, number, "in_progress", patience=patience)
    deployment_status(
        target, number, "success", "promoted", log_url=RUN, environment_url="https://ml.example", patience=patience
    )
    assert [status["state"] for status in hub.deployment_statuses] == ["in_progress", "success"]
    newest = hub.deployment_statuses[-1]
    assert (newest["description"], newest["target_url"], newest["environment_url"]) == (
        "promoted",
        RUN,
        "https://ml.example",
    )


@said
@faults
def test_deployment_status_is_repeated_only_if_it_did_not_arrive(hub, target, patience, fault, arrives):
    number = deployment(target, SHA, "production", patience=patience)
    hub.fail("POST", "/statuses$", fault, arrives=arrives)
    deployment_status(target, number, "failure", "rolled back", log_url=RUN, patience=patience)
    assert [status["state"] for status in hub.deployment_statuses] == ["failure"]


def test_unknown_deployment_is_one_clear_error(target, patience):
    with pytest.raises(SwitchbackError, match="set the status of deployment 77 in octo/model: GitHub answered 404"):
        deployment_status(target, 77, "success", patience=patience)


def test_descriptions_are_one_line_that_github_takes(hub, target, patience):
    assert shorten("a\n b\tc") == "a b c"
    assert len(shorten("x" * 500)) == 140
    commit_status(target, SHA, "success", "x" * 500, patience=patience)
    assert hub.statuses[0]["description"].endswith("x…")
