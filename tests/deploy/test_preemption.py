"""A runner is taken away from a training job: another, with nothing but what the job kept, ends with the same bits."""

from pathlib import Path

import pytest

from benchmarks import preemption
from benchmarks.preemption import KEPT, KINDS, Project, hand_over
from ci_tools.config import read_yaml
from ci_tools.errors import PREEMPTED, SwitchbackError
from ci_tools.pipeline import reproduce
from tests.conftest import TRAIN_PY


def test_fresh_runner_trains_only_what_was_not_kept(repository, tmp_path_factory, monkeypatch, git):
    notice, second = tmp_path_factory.mktemp("notice") / "given", tmp_path_factory.mktemp("second")
    told = f"train['exit'] = 75 if seed == '2' and pathlib.Path({str(notice)!r}).exists() else 0\n"
    (repository / "train.py").write_text(TRAIN_PY.replace("folder = ", f"{told}folder = ", 1))
    git("commit", "--quiet", "--all", "-m", "stops when told")
    notice.touch()
    with pytest.raises(SwitchbackError) as stopped:
        reproduce()
    assert stopped.value.exit_code == PREEMPTED
    git("clone", "--quiet", str(repository), str(second))
    hand_over(repository, second)
    notice.unlink()

    monkeypatch.chdir(second)
    walk = reproduce()
    outcomes = {step.stage: step.outcome for step in walk.steps}
    assert outcomes == {"look": "checked", "double": "restored", "train@1": "cached", "train@2": "ran"}
    (line,) = (second / "ran.log").read_text().splitlines()
    assert line.startswith("train 2 resumes 10 steps")


def test_workflow_keeps_what_is_handed_over_here():
    workflow = read_yaml(Path(__file__).parents[2] / ".github/workflows/_experiment.yml")
    steps = [step.get("with", {}) for step in workflow["jobs"]["experiment"]["steps"]]
    before, after = [given for given in steps if given.get("name", "").startswith("unfinished")]
    assert before["name"] == after["name"]
    assert tuple(after["path"].split()) == KEPT
    assert after["include-hidden-files"] is True, ".dvc is one"


def test_steps_are_counted_as_the_training_wrote_them_down(tmp_path):
    for name, lines in {"a": "1 0\n1 1\n2 0\n1", "b": ""}.items():
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / ".git/steps").write_text(lines)
    assert preemption.executed(tmp_path / "a") == [(1, 0), (1, 1), (2, 0)], "a torn line is no step"
    assert preemption.executed(tmp_path / "b") == []


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("preemption"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.partition(":")[0])
@pytest.mark.parametrize("step", [15, preemption.STEPS + 25], ids=["first seed", "second seed"])
def test_retried_job_ends_with_the_same_bits_and_repeats_no_step_of_a_checkpoint(project, kind, step):
    case = project.preempt(kind, step)
    assert case.problem == ""
    assert case.needless == 0
    assert case.steps > step
    if kind == preemption.DRAINED:
        assert case.repeated == 0, "the last step was saved"
