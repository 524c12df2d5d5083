import pytest

from tests.workflows.language import NotUnderstood, text

FORKED = {"github": {"repository": "octo/model", "event": {"pull_request": {"head": {"repo": {"full_name": "a/b"}}}}}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("github.event.pull_request.head.repo.full_name == github.repository", False),
        ("github.repository == 'OCTO/Model'", True),  # GitHub compares without regard to case
        ("github.event.nothing.here", None),
        ("contains(fromJSON('[\"a\", \"b\"]'), 'b')", True),
        ("github.event.nothing || 'fallback'", "fallback"),
    ],
)
def test_expressions_are_evaluated_as_github_does(language, expression, value):
    assert language.value(expression, FORKED) == value


@pytest.mark.parametrize(
    ("status", "success", "failure", "always"),
    [("success", True, False, True), ("failure", False, True, True), ("skipped", False, False, True)],
)
def test_status_functions_tell_what_came_before(language, status, success, failure, always):
    told = [language.value(name, {}, status) for name in ("success()", "failure()", "always()")]
    assert told == [success, failure, always]


def test_what_an_expression_reads_is_told_wherever_it_is(language):
    expression = "contains(github.event.labels.*.name, 'x') && secrets[format('A{0}', matrix.of)] || toJSON(secrets)"
    reads, literals = language.reads(expression)
    assert set(reads) == {"github.event.labels.*.name", "secrets.?", "matrix.of", "secrets"}
    assert set(literals) == {"x", "A{0}"}


def test_text_around_expressions_is_filled_in(language):
    written = {"run": "${{ format('ref {0}', github.sha) }}", "shell": "bash", "list": [1, "${{ true }}"]}
    assert language.filled(written, {"github": {"sha": "5b"}}) == {"run": "ref 5b", "shell": "bash", "list": [1, True]}


def test_a_condition_without_a_status_demands_success(written):
    (flow,) = written(
        a="on: push\njobs:\n  a:\n    if: github.ref\n    runs-on: u\n    steps: [{run: ls}]"
    ).workflows.values()
    assert flow.jobs["a"]["if"] == "success() && (github.ref)"


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("needs: b\n    runs-on: u\n    steps: [{run: ls}]", "b"),
        ("runs-on: u\n    steps: [{run: ls, shel: bash}]", "shel"),
        ("if: secrets.A\n    runs-on: u\n    steps: [{run: ls}]", "secrets"),
        ("uses: ./.github/workflows/called.yml", "Input sha is required"),
    ],
)
def test_what_github_would_refuse_is_refused_with_its_words(written, job, said):
    called = "on:\n  workflow_call:\n    inputs: {sha: {type: string, required: true}}\njobs:\n  x: {runs-on: u}"
    with pytest.raises(NotUnderstood, match=said):
        written(called=f"{called}\n", a=f"on: push\njobs:\n  a:\n    {job}\n")


@pytest.mark.parametrize("expression", ["github.", "nowhere.x", "fromJSON('{')", "unknown()"])
def test_an_expression_that_has_no_value_is_refused(language, expression):
    with pytest.raises(NotUnderstood):
        language.value(expression, {})


def test_values_become_text_as_github_writes_them():
    assert [text(value) for value in (None, True, 1.0, 0.5, "a")] == ["", "true", "1", "0.5", "a"]
