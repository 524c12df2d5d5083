import pytest

from tests.workflows import events
from tests.workflows.language import NotUnderstood
from tests.workflows.rehearsal.forge import Forge

TEST = """\
name: Test
on: [push, pull_request]
permissions: {}
jobs:
  build:
    runs-on: u
    outputs: {made: "${{ steps.make.outputs.made }}"}
    steps:
      - uses: actions/checkout@v7
      - {id: make, run: "cat code.txt > result.txt; echo made=yes >> $GITHUB_OUTPUT"}
      - {uses: actions/upload-artifact@v7, with: {name: result, path: result.txt}}
  use:
    needs: build
    if: needs.build.outputs.made == 'yes'
    uses: ./.github/workflows/called.yml
    with: {words: "${{ needs.build.outputs.made }}"}
    secrets: {key: "${{ secrets.KEY }}"}
  never: {needs: use, if: needs.use.outputs.said == 'no', runs-on: u, steps: [{run: exit 1}]}
  last:
    needs: never
    if: always()
    runs-on: u
    steps: [{run: "test $R = skipped", env: {R: "${{ needs.never.result }}"}}]
  not: {needs: never, runs-on: u, steps: [{run: exit 1}]}
"""
CALLED = """\
on:
  workflow_call:
    inputs: {words: {type: string, required: true}, more: {type: string, default: again}}
    outputs: {said: {value: "${{ jobs.say.outputs.said }}"}}
    secrets: {key: {}}
permissions: {}
jobs:
  say:
    runs-on: u
    outputs: {said: "${{ steps.say.outputs.said }}"}
    steps:
      - {uses: actions/download-artifact@v8, with: {name: result, path: got}}
      - {run: "test $KEY$OTHER = k", env: {KEY: "${{ secrets.key }}", OTHER: "${{ secrets.KEY2 }}"}}
      - id: say
        run: echo "said=$W $(cat got/result.txt)" >> "$GITHUB_OUTPUT"
        env: {W: "${{ inputs.words }} ${{ inputs.more }}"}
"""
AFTER = """\
name: After
on: {workflow_run: {workflows: [Test], types: [completed]}}
permissions: {}
jobs:
  tell:
    if: github.event.workflow_run.conclusion == 'success'
    runs-on: u
    permissions: {actions: read}
    steps:
      - uses: actions/checkout@v7
      - uses: actions/download-artifact@v8
        with:
          name: result
          path: got
          run-id: ${{ github.event.workflow_run.id }}
          github-token: ${{ github.token }}
      - run: test "$(cat got/result.txt) $(cat code.txt)" = "$SEEN"
        env: {SEEN: "${{ vars.SEEN }}"}
"""


def results(run):
    return {name: done.result for name, done in run.jobs.items()}


def test_jobs_pass_on_artifacts_outputs_and_skips(pushed):
    settings = {"secrets": {"KEY": "k", "KEY2": "never"}}
    (run,) = pushed(files={"code.txt": "main"}, settings=settings, test=TEST, called=CALLED)
    done = {"build": "success", "use / say": "success", "use": "success"}
    assert results(run) == done | {"never": "skipped", "last": "success", "not": "skipped"}, str(run)
    assert run.jobs["use"].outputs == {"said": "yes again main"}
    assert run.conclusion == "success"


def test_the_end_of_a_run_starts_the_default_branchs_code(repository, tmp_path, language, git):
    flows = {".github/workflows/test.yml": TEST, ".github/workflows/called.yml": CALLED}
    main = repository(flows | {".github/workflows/after.yml": AFTER, "code.txt": "main"})
    git("checkout", "--quiet", "-b", "deeper")
    head = repository(
        {"code.txt": "theirs", ".github/workflows/after.yml": AFTER.replace("run: test", "run: false && test")}
    )
    settings = {"secrets": {"KEY": "k"}, "variables": {"SEEN": "theirs main"}}
    forge = Forge(tmp_path / "forge", repository.folder, language, **settings)
    test, after = forge.happens(events.pull_request(head=head, merged=head, base=main))
    assert (test.conclusion, after.conclusion) == ("success", "success"), f"{test}\n{after}"
    assert after.event.payload["workflow_run"]["head_sha"] == head


def test_a_matrix_runs_once_per_combination(pushed):
    text = """\
on: push
permissions: {}
jobs:
  a:
    runs-on: u
    strategy: {matrix: {x: [1, 2], y: [p, q], include: [{x: 3, y: r}]}}
    steps: [{run: "echo $X$Y", env: {X: "${{ matrix.x }}", Y: "${{ matrix.y }}"}}]
"""
    (run,) = pushed(a=text)
    assert [step.output.split()[0] for step in run.jobs["a"].steps] == ["1p", "1q", "2p", "2q", "3r"]


def test_a_checkout_is_shallow_unless_history_is_asked_for(pushed, repository):
    repository({"code.txt": "old"})
    text = """\
on: push
permissions: {}
jobs:
  a:
    runs-on: u
    steps:
      - uses: actions/checkout@v7
      - run: test "$(git rev-list --count HEAD)" = 1 && ! git rev-parse --quiet --verify origin/main
  b:
    runs-on: u
    steps:
      - {uses: actions/checkout@v7, with: {fetch-depth: 0}}
      - run: test "$(git rev-list --count HEAD)" = 2 && git rev-parse --verify origin/main && git branch --show-current
"""
    (run,) = pushed(a=text)
    assert run.conclusion == "success", str(run)


def test_rights_are_told_before_each_job(pushed):
    seen = []
    text = "on: push\npermissions: {issues: write}\njobs:\n  a: {runs-on: u, steps: [{run: ls}]}\n"
    text += "  b: {runs-on: u, permissions: {}, steps: [{run: ls}]}\n"
    pushed(a=text, settings={"rights": seen.append})
    assert seen == [{"issues": "write"}, {}]


def test_a_workflow_that_github_refuses_does_not_run(pushed):
    with pytest.raises(NotUnderstood, match="runs_on"):
        pushed(a="on: push\njobs: {a: {runs_on: u, steps: [{run: ls}]}}\n")
