"""The rules of this repository's own workflows; and for each rule a violation that is planted and named."""

import shutil

import pytest
from ruamel.yaml import YAML

from tests.workflows import trust
from tests.workflows.files import Files
from tests.workflows.matrix import ROOT

SECRET = "${{ secrets.KEY }}"
GPU = '["self-hosted", "gpu"]'
CACHE = {"uses": "actions/cache@v5", "with": {"path": "x", "key": "y"}}


def test_nothing_crosses_a_boundary_that_must_not(language):
    files = Files(ROOT, language)
    assert {"ci.yml", "gpu.yml", "report.yml", "release.yml"} <= {flow.file for flow in files.workflows.values()}
    assert trust.violations(files) == []


def put(*path, value):
    """An edit of a workflow: the value at that path."""

    def edit(tree):
        *folders, name = path
        for folder in folders:
            tree = tree[folder]
        if isinstance(tree, list):
            tree.insert(name, value)
        else:
            tree[name] = value

    return edit


def drop(*path):
    def edit(tree):
        *folders, name = path
        for folder in folders:
            tree = tree[folder]
        del tree[name]

    return edit


def step_of(tree, job, prefix):
    """The first step of a job that uses such an action."""
    return next(step for step in tree["jobs"][job]["steps"] if step.get("uses", "").startswith(prefix))


def given(job, prefix, **values):
    """An edit: what an action is given; None takes it away."""

    def edit(tree):
        inputs = step_of(tree, job, prefix).setdefault("with", {})
        for name, value in values.items():
            inputs.pop(name, None)
            if value is not None:
                inputs[name] = value

    return edit


def both(*edits):
    return lambda tree: [edit(tree) for edit in edits]


def with_secret(job):
    return lambda tree: tree["jobs"][job]["steps"][-1].setdefault("env", {}).update(KEY=SECRET)


PLANTS = {
    "a secret in a job that forks start": (
        "ci.yml", with_secret("lint"), "ci.yml: lint: reads KEY for a fork's pull request"),
    "a secret for a whole workflow": (
        "ci.yml", put("env", value={"KEY": SECRET}), "ci.yml: required: reads KEY for a fork's pull request"),
    "the GPU for forks": (
        "ci.yml", put("jobs", "smoke", "with", "runner", value=GPU),
        "ci.yml: smoke / experiment: reaches the runner ['gpu', 'self-hosted'] for a fork's pull request"),
    "a condition that forgets forks": (
        "gpu.yml", put("jobs", "own", "if", value="github.event_name == 'pull_request'"),
        "gpu.yml: own / experiment: reaches the runner"),
    "a condition that trusts the branch's name": (
        "gpu.yml", put("jobs", "own", "if", value="github.event_name == 'pull_request' && github.head_ref == 'deeper'"),
        "gpu.yml: own / experiment: reaches the runner"),
    "a fork's commit without approval": (
        "gpu.yml", drop("jobs", "approve", "environment"), "with anybody's commit (dispatch), and nobody approves it"),
    "a fork's commit that does not wait": (
        "gpu.yml", drop("jobs", "fork", "needs"), "with anybody's commit (dispatch), and nobody approves it"),
    "a fork's commit after a refusal": (
        "gpu.yml", put("jobs", "fork", "if", value="always() && github.event_name == 'workflow_dispatch'"),
        "with anybody's commit (dispatch), and nobody approves it"),
    "a right to write for forks": (
        "ci.yml", put("jobs", "test", "permissions", value={"contents": "write"}),
        "ci.yml: test: may contents: write for a fork's pull request"),
    "rights that nobody states": (
        "ci.yml", both(drop("permissions"), drop("jobs", "lint", "permissions")),
        "ci.yml: lint: may everything: write for a fork's pull request"),
    "every secret for a called workflow": (
        "gpu.yml", put("jobs", "merge", "secrets", value="inherit"), "gpu.yml: merge: hands over every secret"),
    "a secret beside training": (
        "retrain.yml", with_secret("drift"), "retrain.yml: drift: reads KEY beside `switchback reproduce`"),
    "pull_request_target": (
        "ci.yml", put("on", "pull_request_target", value=None), "ci.yml: is started by pull_request_target"),
    "comments that start jobs": (
        "ci.yml", put("on", "issue_comment", value={"types": ["created"]}), "ci.yml: is started by issue_comment"),
    "a cache in a release": (
        "release.yml", put("jobs", "attest", "steps", 0, value=CACHE), "release.yml: attest: restores a cache"),
    "a cache of the set-up in a release": (
        "release.yml", given("attest", "$/.github/actions/setup", cache="true"),
        "release.yml: attest: restores a cache (actions/setup-python)"),
    "a cache in what a release calls": (
        "_experiment.yml", put("jobs", "experiment", "steps", 0, value=CACHE),
        "release.yml: experiment / experiment: restores a cache"),
    "signing where nothing is attested": (
        "release.yml", put("jobs", "announce", "permissions", "id-token", value="write"),
        "release.yml: announce: may id-token: write and attests nothing"),
    "signing beside training": (
        "release.yml",
        put("jobs", "attest", "steps", 1, value={"run": "switchback reproduce"}),
        "release.yml: attest: may sign beside `switchback reproduce`"),
    "signing beside training that takes the shell's place": (
        "release.yml",
        put("jobs", "attest", "steps", 1, value={"run": "exec  switchback reproduce --pull"}),
        "release.yml: attest: may sign beside `switchback reproduce`"),
    "signing beside the tests": (
        "release.yml",
        put("jobs", "attest", "steps", 1, value={"run": "make test ARGS=tests/model"}),
        "release.yml: attest: may sign beside `make test`"),
    "a deployment of a pull request": (
        "ci.yml", put("jobs", "lint", "environment", value="production"),
        "ci.yml: lint: deploys to ['production'] for a fork's pull request"),
    "a checkout of the reported code": (
        "report.yml", given("comment", "actions/checkout", ref="${{ github.event.workflow_run.head_sha }}"),
        "report.yml: comment: checks out a fork's code after its run"),
    "whatever a run left": (
        "report.yml", given("comment", "actions/download-artifact", name=None),
        "report.yml: comment: downloads whichever artifacts the run left"),
    "an artifact over the checkout": (
        "report.yml", given("comment", "actions/download-artifact", path=None),
        "report.yml: comment: unpacks an artifact over its checkout"),
    "a branch's name in a script": (
        "ci.yml", put("jobs", "lint", "steps", 0, value={"run": "echo ${{ github.head_ref }}"}),
        "ci.yml: lint: writes github.head_ref into a script"),
    "an input in a script": (
        "_experiment.yml", put("jobs", "experiment", "steps", 0, value={"run": "echo ${{ inputs.base }}"}),
        "_experiment.yml: experiment: writes inputs.base into a script"),
    "a called job that asks for more": (
        "_experiment.yml", put("jobs", "experiment", "permissions", "packages", value="read"),
        "ci.yml: smoke: calls _experiment.yml, whose job experiment asks for packages: read"),
    "a run that nobody starts": (
        "report.yml", put("on", "workflow_run", "workflows", 0, value="Nothing"),
        "report.yml: awaits runs of 'Nothing'"),
    "an output that nobody sets": (
        "gpu.yml", put("jobs", "judged", "env", value={"X": "${{ needs.own.outputs.sha }}"}),
        "gpu.yml: judged: reads needs.own.outputs.sha, which is never set"),
    "a step that is not there": (
        "_experiment.yml",
        put("jobs", "experiment", "steps", -1, value={"run": "ls", "if": "steps.gone.outcome == ''"}),
        "_experiment.yml: experiment: reads steps.gone.outcome, and no step has that id"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_violation_is_named(language, tmp_path, name):
    file, edit, said = PLANTS[name]
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    path = tmp_path / ".github/workflows" / file
    yaml = YAML()
    tree = yaml.load(path.read_text())
    edit(tree)
    with path.open("w") as out:
        yaml.dump(tree, out)
    found = trust.violations(Files(tmp_path, language))
    assert any(said in one for one in found), found
