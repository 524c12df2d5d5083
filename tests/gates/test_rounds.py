"""Comparisons that ask for further seeds are judged again with them, and nothing else is."""

import pytest

from ci_tools import baseline
from ci_tools.errors import SwitchbackError
from ci_tools.gates import Baseline, Outcome, files, suite
from ci_tools.gates.run import open_run
from tests.gates import project

UNDECIDED = """\
from ci_tools.gates import Reading, gate

@gate(limit=1.0, unit="")
def quality(run):
    enough = len(run.seeds) >= 4
    evidence = {} if enough else {"seeds wanted": len(run.seeds) + 1}
    return Reading(statistic=0.5, interval=(0.0, 0.9 if enough else 2.0), diagnosis=f"{run.root}", evidence=evidence)

def test_quality(run, policy):
    policy.require(quality(run))
"""


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """A base revision with seeds 1 and 2, and further seeds for both arms; returns the seeds that were asked for."""
    asked = []

    def extend(run, baseline, seeds):
        asked.append(tuple(seeds))
        return open_run(seeds, tmp_path / "elsewhere"), Baseline(open_run(seeds, baseline.run.root))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baseline, "prepare", lambda *_: Baseline(open_run([1, 2], tmp_path / "theirs")))
    monkeypatch.setattr(baseline, "policy_difference", lambda ref: [])
    monkeypatch.setattr(baseline, "extend", extend)
    return asked


@pytest.mark.parametrize(("max_seeds", "outcome"), [(10, "passed"), (3, "inconclusive")])
def test_undecided_comparison_gets_more_seeds_until_it_is_decided_or_has_no_more(
    tmp_path, extended, max_seeds, outcome
):
    policy = f"against_main: {{seeds: 2, max_seeds: {max_seeds}}}\ngates: {{quality: {{inconclusive: blocks}}}}\n"
    project.write(tmp_path, {"test_it.py": UNDECIDED}, policy=policy)
    (verdict,) = suite.judge(base="main").verdicts
    assert (verdict.outcome, verdict.diagnosis) == (outcome, str(tmp_path / "elsewhere"))
    assert verdict.test == "tests/model/test_it.py::test_quality"
    assert extended == [(1, 2, 3), (1, 2, 3, 4)][: min(max_seeds, 4) - 2]


def test_arm_with_fewer_seeds_gets_as_many_as_the_other_has(tmp_path, extended):
    undecided = UNDECIDED.replace("(run)", "(run, baseline)").replace("(run, policy)", "(run, baseline, policy)")
    undecided = undecided.replace("len(run.seeds)", "len(baseline.run.seeds)")
    project.write(tmp_path, {"test_it.py": undecided}, params="seeds: [1, 2, 3, 4]\n", policy="{}")
    assert suite.judge(base="main").outcome is Outcome.PASSED
    assert extended == [(1, 2, 3), (1, 2, 3, 4)]


def test_without_a_second_arm_no_seeds_are_trained(tmp_path, extended):
    project.write(tmp_path, {"test_it.py": UNDECIDED}, policy="{}")
    assert suite.judge().outcome is Outcome.INCONCLUSIVE
    assert extended == []


DAMAGED = """

@gate(limit=1.0, unit="")
def damage(run):
    return Reading(statistic=9.0 if str(run.root) == "." else 0.0, diagnosis=f"looked at {run.root}")

def test_damage(run, policy):
    with open("ran.log", "a") as log:
        print("damage", file=log)
    policy.require(damage(run))
"""


def test_what_the_files_at_hand_showed_stays_when_further_seeds_are_judged(tmp_path, extended):
    policy = "gates: {damage: {blocks: false}}\n"
    project.write(tmp_path, {"test_it.py": UNDECIDED + DAMAGED}, policy=policy)
    found = {one.gate: (one.outcome.value, one.diagnosis) for one in suite.judge(base="main").verdicts}
    assert len(extended) == 2
    assert found == {
        "damage": ("failed", "looked at ."),
        "quality": ("passed", str(tmp_path / "elsewhere")),
    }
    assert (tmp_path / "ran.log").read_text() == "damage\n", "only what asked for seeds is judged again"
    assert project.junit()[1] == {"tests": 2, "failures": 0, "errors": 0, "skipped": 1}


def test_no_seeds_are_trained_where_something_else_stops_the_merge(tmp_path, extended):
    project.write(tmp_path, {"test_it.py": UNDECIDED + DAMAGED}, policy="{}")
    verdicts = suite.judge(base="main")
    assert [(one.gate, one.outcome.value) for one in verdicts.verdicts] == [
        ("quality", "inconclusive"),
        ("damage", "failed"),
    ]
    assert extended == []


def test_test_that_is_gone_when_it_is_to_be_judged_again_is_an_error(tmp_path, extended, monkeypatch):
    project.write(tmp_path, {"test_it.py": UNDECIDED}, policy="{}")

    def extend(run, baseline, seeds):
        (tmp_path / "tests/model/test_it.py").write_text("def test_other():\n    pass\n")
        return open_run(seeds), Baseline(open_run(seeds))

    monkeypatch.setattr(baseline, "extend", extend)
    (verdict,) = suite.judge(base="main").verdicts
    assert (verdict.gate, verdict.outcome) == ("quality", Outcome.ERROR)
    assert verdict.diagnosis.startswith("its test was not reached: pytest ended with exit code 5")


@pytest.mark.parametrize("code", [1, 2, 4, 75])
def test_seeds_that_cannot_be_trained_are_an_error_in_the_files_too(tmp_path, extended, monkeypatch, code):
    project.write(tmp_path, {"test_it.py": UNDECIDED}, policy="{}")
    failure = SwitchbackError("seed 3 went wrong")
    failure.exit_code = code

    def extend(*_):
        assert project.strict()["exit_code"] == 2, "if it is killed now"
        raise failure

    monkeypatch.setattr(baseline, "extend", extend)
    if code in (1, 2):
        assert suite.judge(base="main").exit_code == 2
    else:
        with pytest.raises(SwitchbackError, match="seed 3 went wrong"):
            suite.judge(base="main")
    (verdict,) = files.read(files.FOLDER / files.VERDICTS).verdicts
    assert (verdict.gate, verdict.outcome) == ("quality", Outcome.ERROR)
    assert verdict.diagnosis.endswith("more seeds could not be trained: seed 3 went wrong")
    assert project.junit()[0] == {"quality": "error"}
