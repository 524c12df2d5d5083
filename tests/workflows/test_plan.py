import pytest

from tests.workflows import events
from tests.workflows.events import Code
from tests.workflows.plan import COMMIT, State, plan

JOB = "runs-on: ubuntu-24.04\n    permissions: {}\n    steps: [{run: make lint}]"
CALLED = """\
on:
  workflow_call:
    inputs:
      sha: {type: string, required: true}
      runner: {type: string, default: '["ubuntu-24.04"]'}
      environment: {type: string}
    secrets: {key: {}}
jobs:
  train:
    runs-on: ${{ fromJSON(inputs.runner) }}
    environment: ${{ inputs.environment }}
    permissions: {contents: read}
    steps:
      - uses: actions/checkout@v7
        with: {ref: "${{ inputs.sha }}"}
      - run: make train
        env: {KEY: "${{ secrets.key }}"}
"""


@pytest.fixture
def planned(written):
    """The jobs of a workflow, by name."""

    def run(jobs, event, on="[pull_request, push, workflow_dispatch]"):
        files = written(called=CALLED, flow=f"on: {on}\njobs:\n{jobs}")
        flow = files.workflows[".github/workflows/flow.yml"]
        return {job.job: job for job in plan(files, flow, event)}

    return run


def states(jobs):
    return {name: job.state.value for name, job in jobs.items()}


def test_a_job_runs_where_its_condition_may_hold(planned):
    jobs = f"  a:\n    if: github.event_name == 'push'\n    {JOB}\n  b:\n    if: vars.B == 'yes'\n    {JOB}\n"
    assert states(planned(jobs, events.push())) == {"a": "runs", "b": "runs"}
    assert states(planned(jobs, events.pull_request())) == {"a": "-", "b": "runs"}


def test_a_skipped_need_skips_its_dependants_unless_they_always_run(planned):
    jobs = f"  a:\n    if: github.event_name == 'push'\n    {JOB}\n"
    jobs += f"  b:\n    needs: a\n    {JOB}\n  c:\n    needs: b\n    if: always()\n    {JOB}\n"
    jobs += f"  d:\n    needs: [a]\n    if: ${{{{ !cancelled() && needs.a.result == 'success' }}}}\n    {JOB}\n"
    assert states(planned(jobs, events.pull_request())) == {"a": "-", "b": "-", "c": "runs", "d": "-"}
    assert states(planned(jobs, events.push())) == dict.fromkeys("abcd", "runs")


def test_a_job_after_a_failure_counts_as_reached(planned):
    jobs = f"  a:\n    {JOB}\n  b:\n    needs: a\n    if: failure()\n    {JOB}\n"
    assert planned(jobs, events.push())["b"].outcomes == {"success", "failure", "skipped"}


def test_outputs_of_other_jobs_may_be_whatever_a_condition_asks_for(planned):
    jobs = f"  a:\n    {JOB}\n    outputs: {{x: y}}\n  b:\n    needs: a\n    if: needs.a.outputs.x == 'go'\n    {JOB}\n"
    assert planned(jobs, events.push())["b"].state is State.RUNS


def test_a_reviewed_environment_holds_a_job_and_all_that_need_it(planned):
    held = JOB.replace("permissions", "environment: fork-gpu\n    permissions")
    jobs = f"  a:\n    {held}\n  b:\n    needs: a\n    {JOB}\n  c:\n    needs: b\n    if: always()\n    {JOB}\n"
    jobs += "  d:\n    needs: b\n    uses: ./.github/workflows/called.yml\n    with: {sha: x}\n"
    found = planned(jobs, events.push())
    assert states(found) == {"a": "waits", "b": "waits", "c": "runs", "d": "waits", "d / train": "waits"}


def test_an_environment_that_only_may_be_reviewed_holds_nothing(planned):
    jobs = f"  a:\n    environment: ${{{{ vars.E && 'fork-gpu' || 'other' }}}}\n    {JOB}\n"
    assert planned(jobs, events.push())["a"].state is State.RUNS


def test_called_workflows_get_inputs_secrets_and_rights_from_their_caller(planned):
    jobs = """\
  own:
    uses: ./.github/workflows/called.yml
    permissions: {contents: read}
    with: {sha: "${{ github.event.pull_request.head.sha }}", runner: '["self-hosted", "gpu"]', environment: fork-gpu}
    secrets: {key: "${{ secrets.A }}"}
  bare:
    uses: $/.github/workflows/called.yml
    with: {sha: ""}
"""
    found = planned(jobs, events.pull_request(source=events.FORK))
    own, bare = found["own / train"], found["bare / train"]
    assert (own.state, own.own_runners) == (State.GUARDED, ["gpu", "self-hosted"])
    assert own.secrets == {"A", "key"}  # the environment may have one of that name
    assert (bare.state, bare.secrets, bare.own_runners) == (State.RUNS, set(), [])
    assert (own.code, own.permissions) == (Code.FORK, {"contents": "read"})
    assert (found["own"].called, own.called) == (True, False)


@pytest.mark.parametrize(
    ("ref", "event", "code"),
    [
        ("", events.pull_request(), Code.OWN),
        ("", events.pull_request(source=events.FORK), Code.FORK),
        ("${{ github.sha }}", events.merge_group(), Code.QUEUED),
        ("${{ github.event.pull_request.base.sha }}", events.pull_request(source=events.FORK), Code.MAIN),
        ("${{ github.event.pull_request.head.ref }}", events.pull_request(source=events.FORK), Code.FORK),
        ("${{ github.event.repository.default_branch }}", events.dispatch(), Code.MAIN),
        ("${{ inputs.sha }}", events.dispatch(inputs={"sha": COMMIT}), Code.FORK),
        ("${{ vars.REF || 'main' }}", events.push(), Code.FORK),  # whatever the variable says
    ],
)
def test_whose_code_is_checked_out_is_known(planned, ref, event, code):
    step = f'- uses: actions/checkout@v7\n        with: {{ref: "{ref}"}}'
    jobs = f"  a:\n    runs-on: u\n    steps:\n      {step}\n"
    on = "{pull_request: {}, merge_group: {}, push: {}, workflow_dispatch: {inputs: {sha: {type: string}}}}"
    assert planned(jobs, event, on)["a"].code is code


def test_a_matrix_and_a_variable_may_choose_the_runner(planned):
    jobs = """\
  a:
    strategy: {matrix: {on: [ubuntu-24.04, "${{ vars.MY_RUNNER }}"]}}
    runs-on: ${{ matrix.on }}
    steps: [{run: ls}]
"""
    found = planned(jobs, events.push())["a"]
    assert "ubuntu-24.04" in found.runners
    assert found.own_runners


def test_secrets_are_found_wherever_a_job_reads_them(planned, tmp_path):
    action = tmp_path / "act" / "action.yml"
    action.parent.mkdir()
    action.write_text(
        "name: a\ndescription: b\ninputs: {k: {default: ''}, on: {default: 'no'}}\n"
        "runs:\n  using: composite\n  steps:\n"
        "    - {run: ls, shell: bash}\n    - {uses: actions/cache@v5, if: inputs.on == 'yes'}\n"
    )
    jobs = """\
  a:
    runs-on: u
    env: {A: "${{ secrets.A }}"}
    container: {image: x, credentials: {username: u, password: "${{ secrets.B }}"}}
    steps:
      - run: echo "$C"
        env: {C: "${{ format('{0}', secrets.C) }}", T: "${{ secrets.GITHUB_TOKEN }}"}
      - uses: ./act
        with: {k: "${{ secrets.D }}"}
      - run: ls
        if: github.event_name == 'schedule'
        env: {E: "${{ secrets.E }}"}
  every: {runs-on: u, steps: [{run: ls, env: {ALL: "${{ toJSON(secrets) }}"}}]}
"""
    found = planned(jobs, events.push())
    assert found["a"].secrets == {"A", "B", "C", "D"}
    assert found["every"].secrets == {"*"}
    assert [step.uses for step in found["a"].steps if step.uses] == []  # the cache is not asked for


@pytest.mark.parametrize(
    ("top", "job", "writes"),
    [
        ("", "", ["everything: write"]),
        ("permissions: {}\n", "", []),
        ("permissions: write-all\n", "", ["everything: write"]),
        ("permissions: {contents: write}\n", "permissions: {issues: write}", ["issues: write"]),
        ("permissions: {contents: write}\n", "", ["contents: write"]),
        ("permissions: read-all\n", "", []),
    ],
)
def test_a_token_may_do_everything_where_nobody_says(written, top, job, writes):
    files = written(flow=f"on: push\n{top}jobs:\n  a:\n    runs-on: u\n    {job}\n    steps: [{{run: ls}}]\n")
    (found,) = plan(files, *files.workflows.values(), events.push())
    assert found.writes == writes
