import pytest

from tests.workflows.rehearsal.equivalents import Unknown
from tests.workflows.rehearsal.job import assignments


def job(steps, more=""):
    return f"on: push\npermissions: {{}}\njobs:\n  a:\n    runs-on: u\n{more}    steps:\n{steps}"


@pytest.fixture
def steps(pushed):
    """The one job of a workflow with these steps."""

    def run(steps, more="", **settings):
        (done,) = pushed(a=job(steps, more), **settings)
        return done.jobs["a"]

    return run


def outcomes(done):
    return [step.outcome for step in done.steps]


def test_a_failure_ends_the_steps_but_for_those_that_want_to_run(steps):
    done = steps("""\
      - run: exit 3
      - run: echo never
      - run: echo cleaning up
        if: always()
      - run: echo telling
        if: ${{ failure() }}
""")
    assert (done.result, outcomes(done)) == ("failure", ["failure", "success", "success"])
    assert "exit 3" in done.steps[0].output


def test_what_steps_printed_lies_beside_the_job(steps, tmp_path):
    steps("      - run: echo some news\n      - name: Bad\n        run: exit 3\n")
    log = (tmp_path / "forge/run-1/a-0/log").read_text()
    assert log.index("success: ") < log.index("some news") < log.index("failure: Bad") < log.index("exit 3")


def test_a_failure_that_is_forgiven_is_an_outcome_and_no_conclusion(steps):
    done = steps("""\
      - id: tried
        run: exit 1
        continue-on-error: true
      - run: test "$OUTCOME $CONCLUSION" = "failure success"
        env: {OUTCOME: "${{ steps.tried.outcome }}", CONCLUSION: "${{ steps.tried.conclusion }}"}
""")
    assert (done.result, outcomes(done)) == ("success", ["failure", "success"])


def test_steps_pass_on_outputs_variables_and_paths(steps):
    done = steps(
        """\
      - id: first
        run: |
          echo "sha=$GITHUB_SHA" >> "$GITHUB_OUTPUT"
          printf 'long<<END\\none\\ntwo\\nEND\\n' >> "$GITHUB_OUTPUT"
          echo KEPT=yes >> "$GITHUB_ENV"
          mkdir bin && printf '#!/bin/sh\\necho mine' > bin/mine && chmod +x bin/mine
          echo "$PWD/bin" >> "$GITHUB_PATH"
      - run: test "$KEPT" = yes && test "$(mine)" = mine && test "$SHA" = "$GITHUB_SHA"
        env: {SHA: "${{ steps.first.outputs.sha }}"}
""",
        more='    outputs: {long: "${{ steps.first.outputs.long }}"}\n',
    )
    assert (done.result, done.outputs) == ("success", {"long": "one\ntwo"})


def test_variables_of_step_job_and_workflow_go_from_near_to_far(pushed):
    text = job('      - run: test "$A$B$C" = step.job.flow.\n        env: {A: step.}\n', "    env: {A: x, B: job.}\n")
    (run,) = pushed(a=f"env: {{A: x, B: x, C: flow.}}\n{text}")
    assert run.conclusion == "success"


def test_a_pipe_that_breaks_fails_only_where_bash_is_named(steps):
    done = steps("      - run: false | true\n      - run: false | true\n        shell: bash\n")
    assert outcomes(done) == ["success", "failure"]


def test_no_variable_of_this_machine_reaches_a_command(steps, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "mine")
    assert steps('      - run: test -z "$WANDB_API_KEY" -a -z "$GITHUB_TOKEN" -a "$CI" = true\n').result == "success"


def test_actions_of_this_repository_run_with_their_inputs_alone(steps):
    action = """\
name: a
description: b
inputs: {who: {default: nobody}, what: {default: greet}}
outputs: {said: {value: "${{ steps.say.outputs.said }}"}}
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      run: echo "said=$WHAT $WHO" >> "$GITHUB_OUTPUT"
      env: {WHO: "${{ inputs.who }}", WHAT: "${{ inputs.what }}"}
"""
    done = steps(
        "      - id: act\n        uses: $/.github/actions/act\n        with: {who: you}\n",
        more='    outputs: {said: "${{ steps.act.outputs.said }}"}\n',
        files={".github/actions/act/action.yml": action},
    )
    assert done.outputs == {"said": "greet you"}


def test_a_command_that_takes_too_long_here_is_replaced_and_says_why(steps):
    def checked(job):
        """The code is tested elsewhere."""
        job.variables["CHECKED"] = "1"

    done = steps(
        '      - run: make test\n      - run: test "$CHECKED"\n', settings={"replaced": {"make test": checked}}
    )
    assert outcomes(done) == ["success", "success"]
    assert done.steps[0].output == "replaced: The code is tested elsewhere."


@pytest.mark.parametrize(
    ("steps_", "more"),
    [
        ("      - uses: somebody/else@v1\n", ""),
        ("      - uses: actions/checkout@v7\n        with: {submodules: true}\n", ""),
        ("      - run: ls\n", "    container: debian\n"),
    ],
)
def test_what_the_rehearsal_does_not_know_is_an_error(steps, steps_, more):
    with pytest.raises(Unknown):
        steps(steps_, more)


def test_attesting_takes_the_rights_and_a_subject(pushed):
    step = "    steps:\n      - run: echo model > model.onnx\n      - uses: actions/attest@v4\n"
    step += "        with: {subject-path: '*.onnx'}\n"
    rights = "{id-token: write, attestations: write}"
    text = f"on: push\njobs:\n  a:\n    runs-on: u\n    permissions: {rights}\n{step}"
    text += f"  b:\n    runs-on: u\n    permissions: {{}}\n{step}"
    (run,) = pushed(a=text)
    assert [run.jobs[name].result for name in "ab"] == ["success", "failure"]
    assert list(run.attested) == ["model.onnx"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=1\nb=x=y\n", {"a": "1", "b": "x=y"}),
        ("a<<E\nx\n\ny=z\nE\nb=<<c\n", {"a": "x\n\ny=z", "b": "<<c"}),
        ("", {}),
    ],
)
def test_assignments_are_read_as_the_runner_reads_them(text, found):
    assert assignments(text) == found
