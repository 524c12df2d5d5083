"""The other tests of this folder trust what validates their requests; these do not."""

import json

import pytest

from ci_tools.report.github.comment import WHO

HEADERS = {"Authorization": "token secret", "Content-Type": "application/json", "Accept": "application/json"}
COMMENTS = "/repos/octo/model/issues/5/comments"


@pytest.fixture
def ready(prism):
    if not prism.ready():
        pytest.skip(f"requests are not held against GitHub's description: {prism.why_not}")
    return prism


def test_right_requests_pass(ready):
    assert ready.violations("GET", f"{COMMENTS}?per_page=100&page=2", HEADERS, b"") == []
    assert ready.violations("POST", COMMENTS, HEADERS, json.dumps({"body": "text"}).encode()) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", COMMENTS, {"text": "x"}, "body"),
        ("POST", COMMENTS, {"body": 5}, "must be string"),
        ("GET", f"{COMMENTS}?per_page=many", None, "per_page"),
        ("PUT", COMMENTS, {"body": "x"}, "NO_METHOD_MATCHED"),
        ("GET", "/user", None, "NO_PATH_MATCHED"),
        ("POST", f"/repos/octo/model/statuses/{'5b' * 20}", {"state": "passed"}, "state"),
        ("POST", "/repos/octo/model/deployments/1/statuses", {"state": "done"}, "state"),
        ("POST", "/repos/octo/model/deployments", {"environment": "production"}, "ref"),
    ],
)
def test_wrong_requests_are_told(ready, method, path, body, said):
    (violation,) = ready.violations(method, path, HEADERS, json.dumps(body).encode() if body else b"")
    assert said in violation


def test_question_for_the_account_fits_githubs_graphql_schema(ready):
    assert ready.graphql_violations(WHO) == []
    assert ready.graphql_violations("query { viewer { name_ } }") != []
