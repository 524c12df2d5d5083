import signal

import pytest

from ci_tools import baseline
from ci_tools.errors import ConfigError
from ci_tools.gates import Baseline, Outcome, files, suite
from tests.gates import project

GATES = """\
import math
import pytest
from ci_tools.errors import RecordError
from ci_tools.gates import Reading, gate, unmeasured

@gate(limit=1.0, unit="m", remedy="go back")
def far(distance):
    evidence = {"at": 3, "worst": math.nan, "all": [math.inf, 0.5]}
    return Reading(statistic=distance, interval=(distance - 0.5, math.inf), diagnosis="went on", evidence=evidence)

@gate(limit=1.0, unit="m")
def tolerated():
    return Reading(statistic=2.0, diagnosis="is large")

@gate(limit=1.0, unit="m")
def unsure():
    return unmeasured("nobody looked")

@gate(limit=1.0, unit="m")
def near(distance):
    return Reading(statistic=distance, diagnosis="is near")
"""
TESTS = """\
import pytest
from ci_tools.gates import Reading, gate, unmeasured
from ci_tools.errors import RecordError
from tests.model.gates import far, near, tolerated, unsure

def test_far(policy):
    policy.require(far(9.0))

@pytest.mark.parametrize("gate", [tolerated, unsure])
def test_alone(gate, policy):
    policy.require(gate())

@pytest.mark.parametrize("which", ["left", "right"])
def test_several(which, policy):
    policy.require(near(0.1))
    policy.require(near(0.2))

@pytest.mark.parametrize("gate", [near])
def test_defect(gate, policy):
    policy.require(gate(1 / 0))

def test_unreadable(run, policy):
    policy.require(near.over(run.records))

def test_plain_assertion():
    assert 1 + 1 == 3, "arithmetic broke"

def test_without_a_word():
    pass

def test_skipped():
    pytest.skip("no time")

@pytest.fixture
def ruin():
    yield
    raise OSError("no space")

def test_ruined(ruin, policy):
    policy.require(near(0.3))

@pytest.mark.xfail(strict=True)
def test_unexpectedly_good():
    pass

@pytest.fixture
def shaky():
    assert not "there"

def test_unprepared(shaky):
    pass
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """One judgement of a project in which everything happens to a test that can."""
    root = tmp_path_factory.mktemp("project")
    tests = {"gates.py": GATES, "test_all.py": TESTS, "test_typo.py": "import nonsense\n"}
    project.write(root, tests | {"__init__.py": ""})
    (root / "tests/__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("PYTEST_ADDOPTS", "-n 2 --nonsense")
        yield suite.judge(), project.strict(), project.junit(), (root / "gates/pytest.log").read_text()


def of(judged, gate):
    return [(one.outcome.value, one.diagnosis) for one in judged[0].verdicts if one.gate == gate]


def test_failing_gate_fails_its_test_with_the_evidence_and_without_a_traceback(judged):
    (verdict,) = [one for one in judged[0].verdicts if one.gate == "far"]
    assert (verdict.outcome, verdict.blocks, verdict.remedy) == (Outcome.FAILED, True, "go back")
    log = judged[3]
    for words in ("far failed: 9 [8.5, inf] > 1 m, limit by default", "went on", "Fix: go back", "all    "):
        assert words in log
    assert "acceptance.py" not in log
    assert "policy.require(far(9.0))" not in log


def test_verdicts_stand_in_the_order_in_which_they_were_made(judged):
    assert [one.gate for one in judged[0].verdicts] == [
        "typo",
        "far",
        "tolerated",
        "unsure",
        *["near"] * 5,
        "unreadable",
        "plain_assertion",
        "without_a_word",
        "skipped",
        "near",
        "ruined",
        "unexpectedly_good",
        "unprepared",
    ]


def test_policy_says_what_blocks(judged):
    blocking = [one.gate for one in judged[0].blocking]
    assert "tolerated" not in blocking
    assert "unsure" in blocking
    assert judged[0].exit_code == 1
    assert "test_alone[unsure]" in judged[3]
    assert "test_alone[tolerated]" not in judged[3], "what does not block fails no test"


def test_defect_of_a_gate_is_an_error_of_that_gate_with_its_place(judged):
    assert ("error", "ZeroDivisionError: division by zero (test_all.py:20)") in of(judged, "near")


def test_run_that_cannot_be_read_is_one_line(judged):
    ((outcome, diagnosis),) = of(judged, "unreadable")
    assert outcome == "error"
    assert diagnosis.endswith("runs/seed-1: no run record here. Fix: name a folder that holds run.json")
    assert "reader.py" not in judged[3]


def test_test_without_a_gate_is_judged_by_its_own_assertions(judged):
    assert of(judged, "plain_assertion") == [("failed", "AssertionError: arithmetic broke (test_all.py:26)")]
    assert of(judged, "without_a_word") == [("passed", "its test passed")]
    assert of(judged, "unexpectedly_good")[0][0] == "failed"


def test_test_whose_preparation_fails_has_judged_nothing(judged):
    ((outcome, diagnosis),) = of(judged, "unprepared")
    assert outcome == "error"
    assert diagnosis.startswith("AssertionError")


def test_skipped_test_is_no_pass(judged):
    assert of(judged, "skipped") == [("inconclusive", "its test was skipped: no time")]


def test_error_after_the_verdict_does_not_hide_behind_it(judged):
    assert of(judged, "ruined") == [("error", "OSError: no space (test_all.py:37)")]


def test_file_that_cannot_be_collected_is_an_error_while_the_others_are_judged(judged):
    ((outcome, diagnosis),) = of(judged, "typo")
    assert outcome == "error"
    assert "test_typo.py" in diagnosis
    assert "No module named 'nonsense'" in diagnosis


def test_file_is_strict_json_and_reads_back(judged, tmp_path):
    verdicts, values, _, _ = judged
    assert (values["schema_version"], values["outcome"], values["exit_code"]) == (1, "failed", 1)
    assert values["pending"] == []
    far = next(one for one in values["verdicts"] if one["gate"] == "far")
    assert far["interval"] == [8.5, None]
    assert far["evidence"] == {"at": 3, "worst": "nan", "all": ["inf", 0.5]}
    files.write(verdicts, tmp_path / "again.json")
    assert files.read(tmp_path / "again.json") == verdicts


def test_junit_tells_what_blocks(judged):
    cases, counts = judged[2]
    assert cases["far"] == "failure"
    assert cases["unsure"] == "failure"
    assert cases["tolerated"] == "skipped"
    assert cases["unreadable"] == "error"
    assert cases["without_a_word"] == "passed"
    assert counts["tests"] == len(judged[0].verdicts)
    assert counts["errors"] == sum(one.outcome is Outcome.ERROR for one in judged[0].verdicts)


CRASH = """\
import os, signal
from ci_tools.gates import Reading, gate

@gate(limit=1.0, unit="")
def fine():
    return Reading(statistic=0.0, diagnosis="is fine")

def test_before(policy):
    policy.require(fine())

def test_crash(policy):
    policy.require(fine())
    {how}

def test_after(policy):
    policy.require(fine())
"""


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", f"signal {int(signal.SIGSEGV)} (Segmentation fault)"),
        ("os._exit(0)", "exit code 0"),
    ],
)
def test_tests_that_end_the_process_are_errors_and_what_was_judged_stays(tmp_path, monkeypatch, how, words):
    project.write(tmp_path, {"test_crash.py": CRASH.format(how=how)}, policy="gates: {never_ran: {blocks: false}}")
    monkeypatch.chdir(tmp_path)
    verdicts = suite.judge()
    assert [(one.gate, one.outcome.value) for one in verdicts.verdicts] == [
        ("fine", "passed"),
        ("fine", "passed"),
        ("crash", "error"),
        ("after", "error"),
    ]
    assert verdicts.verdicts[2].diagnosis == f"its test did not end: pytest ended with {words}, see gates/pytest.log"
    assert verdicts.verdicts[3].diagnosis.startswith("its test was not reached: pytest ended")
    assert verdicts.exit_code == 2
    assert project.strict()["outcome"] == "error"
    assert project.junit()[1] == {"tests": 4, "failures": 0, "errors": 2, "skipped": 0}


def test_tests_that_cannot_start_are_an_error_and_the_reason_is_shown(tmp_path, monkeypatch, capfd):
    project.write(tmp_path, {"conftest.py": "1 / 0\n", "test_a.py": "def test_a():\n    pass\n"}, policy="{}")
    monkeypatch.chdir(tmp_path)
    verdicts = suite.judge()
    assert [one.diagnosis for one in verdicts.verdicts] == [
        "the tests were not collected: pytest ended with exit code 4, see gates/pytest.log"
    ]
    assert verdicts.exit_code == 2
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_only_matching_tests_run_and_rules_of_the_others_are_no_mistake(tmp_path, monkeypatch):
    project.write(tmp_path, {"test_crash.py": CRASH.format(how="pass")}, policy="gates: {other: {blocks: false}}")
    monkeypatch.chdir(tmp_path)
    verdicts = suite.judge(select="before or after")
    assert (len(verdicts.verdicts), verdicts.selection) == (2, "before or after")
    with pytest.raises(ConfigError, match="no test matches -k 'nonsense'"):
        suite.judge(select="nonsense")
    with pytest.raises(ConfigError, match=r"gates\.other: no test ran a gate of this name"):
        suite.judge()


def test_rule_that_no_gate_heard_of_is_told_where_a_test_that_broke_may_have_meant_it(tmp_path, monkeypatch, capfd):
    unprepared = "def test_broken(absent):\n    pass\n"
    project.write(tmp_path, {"test_a.py": unprepared}, policy="gates: {other: {blocks: false}}")
    monkeypatch.chdir(tmp_path)
    assert suite.judge().outcome is Outcome.ERROR
    assert "warning: gates.yaml: gates.other: no test ran a gate of this name" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("gates.yaml", "gatez: {}"), "gatez"),
        (("params.yaml", "train: {}"), "seeds: unknown key"),
        (("params.yaml", "seeds: 5"), "must be a list of whole numbers, got 5"),
        (("params.yaml", "seeds: [true]"), "must be a list of whole numbers"),
        (("calibration.json", "{}"), "calibration.json"),
    ],
)
def test_bad_configuration_is_told_before_any_test_runs(tmp_path, monkeypatch, change, words):
    project.write(tmp_path, {"test_a.py": "def test_a():\n    pass\n"})
    (tmp_path / change[0]).write_text(change[1])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        suite.judge()
    assert words in str(raised.value)
    assert not (tmp_path / "gates").exists()


def test_project_without_acceptance_tests_is_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no acceptance tests here"):
        suite.judge()
    project.write(tmp_path, {"conftest.py": ""}, policy="{}")
    with pytest.raises(ConfigError, match=r"no test found.*policy\.require"):
        suite.judge()


def test_pipeline_that_was_never_run_is_one_clear_error_and_no_error_per_gate(tmp_path, monkeypatch):
    project.write(tmp_path, {"test_a.py": "def test_run(run):\n    run.release\n\ndef test_data():\n    pass\n"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(ConfigError, match=r"^runs: nothing to judge yet\. Fix: run `switchback run`$"):
        suite.judge()
    assert not (tmp_path / files.FOLDER / files.VERDICTS).exists()
    assert suite.judge(select="test_data").outcome is Outcome.PASSED, "what needs no run can be asked for"
    (tmp_path / "runs/seed-2").mkdir(parents=True)
    assert [one.outcome for one in suite.judge().verdicts] == [Outcome.ERROR, Outcome.PASSED]


def test_base_revision_reaches_the_tests_and_policy_changes_the_file(tmp_path, monkeypatch):
    from ci_tools.gates import Run

    test = (
        "def test_seen(baseline):\n    assert (str(baseline.run.root), baseline.run.seeds) == ('elsewhere', (7, 9))\n"
    )
    project.write(tmp_path, {"test_a.py": test}, policy="{}")
    monkeypatch.chdir(tmp_path)
    found = Baseline(Run(tmp_path.__class__("elsewhere"), (7, 9)))
    monkeypatch.setattr(baseline, "prepare", lambda ref, policy, run: found)
    monkeypatch.setattr(baseline, "policy_difference", lambda ref: [f"{ref}: floor 0.9 → 0.8"])
    verdicts = suite.judge(base="main")
    assert [one.outcome for one in verdicts.verdicts] == [Outcome.PASSED]
    assert (verdicts.base, verdicts.policy_changes) == ("main", ("main: floor 0.9 → 0.8",))


def test_where_no_baseline_could_be_made_the_tests_learn_why(tmp_path, monkeypatch):
    test = "def test_seen(baseline):\n    assert (baseline.run, baseline.why_not) == (None, 'main has no pipeline')\n"
    project.write(tmp_path, {"test_a.py": test}, policy="{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baseline, "prepare", lambda *_: Baseline(None, "main has no pipeline"))
    monkeypatch.setattr(baseline, "policy_difference", lambda ref: [])
    assert suite.judge(base="main").outcome is Outcome.PASSED


def test_baseline_that_could_not_be_run_makes_comparisons_errors_and_nothing_else(tmp_path, monkeypatch):
    test = "def test_compared(baseline):\n    pass\n\ndef test_alone():\n    pass\n"
    project.write(tmp_path, {"test_a.py": test}, policy="{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baseline, "prepare", lambda *_: Baseline(None, "main cannot be run here", failed=True))
    monkeypatch.setattr(baseline, "policy_difference", lambda ref: [])
    verdicts = suite.judge(base="main")
    assert [(one.gate, one.outcome.value, one.diagnosis) for one in verdicts.verdicts] == [
        ("compared", "error", "main cannot be run here"),
        ("alone", "passed", "its test passed"),
    ]
    assert verdicts.exit_code == 2


def test_refused_input_is_refused_in_the_files_too(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    project.write(tmp_path, {"test_crash.py": CRASH.format(how="pass")}, policy="gates: {other: {blocks: false}}")
    cases = {
        "": r"gates\.other: no test ran a gate of this name",
        "nonsense": "no test matches -k 'nonsense'",
        "before and": r"-k 'before and': Wrong expression.*Fix: correct the expression",
    }
    for select, words in cases.items():
        capfd.readouterr()
        with pytest.raises(ConfigError, match=words) as raised:
            suite.judge(select=select)
        assert "ERROR" not in capfd.readouterr().err, "one error is told once"
        values = project.strict()
        assert (values["exit_code"], values["outcome"]) == (raised.value.exit_code, "error")
        assert str(raised.value) in values["verdicts"][-1]["diagnosis"]
        assert project.junit()[1]["errors"] == len([one for one in values["verdicts"] if one["outcome"] == "error"])


def test_refused_input_is_no_failure_of_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project.write(
        tmp_path, {"test_a.py": "def test_a():\n    assert False\n"}, policy="gates: {other: {blocks: false}}"
    )
    with pytest.raises(ConfigError) as raised:
        suite.judge()
    assert project.strict()["exit_code"] == raised.value.exit_code == 2
    (tmp_path / "gates.yaml").unlink()
    assert suite.judge().exit_code == project.strict()["exit_code"] == 1


@pytest.mark.parametrize("change", ["gates.yaml", "base", "no tests"])
def test_verdicts_of_an_earlier_call_do_not_outlive_a_refused_one(tmp_path, monkeypatch, git, change):
    monkeypatch.chdir(tmp_path)
    project.write(tmp_path, {"test_a.py": "def test_a():\n    pass\n"}, policy="{}")
    git("init", "--quiet", ".")
    suite.judge()
    if change == "gates.yaml":
        (tmp_path / "gates.yaml").write_text("gatez: {}")
    if change == "no tests":
        (tmp_path / "tests/model").rename(tmp_path / "tests/other")
    assert {path.name for path in (tmp_path / "gates").iterdir()} == {"verdicts.json", "junit.xml", "pytest.log"}
    with pytest.raises(ConfigError):
        suite.judge(base="nowhere" if change == "base" else "")
    assert {path.name for path in (tmp_path / "gates").iterdir()} == {"pytest.log"}
