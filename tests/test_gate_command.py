import json
import sys

import pytest

from ci_tools.errors import DataError
from ci_tools.gates import Outcome, Verdict, suite
from ci_tools.gates.files import Verdicts, junit, read, write
from ci_tools.gates.policy import Policy
from tests.gates import project


def verdict(outcome, blocks=False, **changes):
    values = {
        "gate": str(outcome),
        "subject": "",
        "outcome": outcome,
        "blocks": blocks,
        "statistic": 12.4,
        "interval": (11.0, 13.5),
        "threshold": 8.0,
        "unit": "robust z",
        "basis": "default",
        "diagnosis": "the loss left its past at step 210",
        "remedy": "" if outcome is Outcome.PASSED else "halve the learning rate",
        "evidence": {"step": 210},
        "seconds": 0.1,
    }
    return Verdict(**values | changes)


PASSED, INCONCLUSIVE, ERROR, FAILED = map(verdict, Outcome)
INCONCLUSIVE_BLOCKS, ERROR_BLOCKS, FAILED_BLOCKS = (verdict(outcome, True) for outcome in list(Outcome)[1:])


def made(*verdicts, **changes):
    values = {"commit": "c", "dirty": False, "params_digest": "p", "policy_digest": "q", "started": "2026-01-01"}
    return Verdicts(**values | {"seconds": 1.5, "verdicts": verdicts} | changes)


@pytest.fixture
def judging(monkeypatch):
    """Let the gates come to given verdicts; returns the arguments that they were asked with."""

    def decide(verdicts):
        asked = []
        monkeypatch.setattr(suite, "judge", lambda *arguments: asked.append(arguments) or verdicts)
        return asked

    return decide


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([PASSED], 0),
        ([PASSED, INCONCLUSIVE, ERROR, FAILED], 0),
        ([PASSED, INCONCLUSIVE_BLOCKS, FAILED], 3),
        ([INCONCLUSIVE_BLOCKS, ERROR_BLOCKS], 2),
        ([INCONCLUSIVE_BLOCKS, ERROR_BLOCKS, FAILED_BLOCKS], 1),
        ([], 2),
    ],
)
def test_what_blocks_sets_the_exit_code(switchback, judging, verdicts, code):
    judging(made(*verdicts))
    assert switchback("gate")[0] == code
    got, out, _ = switchback("gate", "--json")
    assert (got, json.loads(out)["exit_code"]) == (code, code)


def test_lines_stand_worst_first_with_diagnosis_and_remedy_of_what_did_not_pass(switchback, judging):
    divergence = verdict(Outcome.FAILED, True, gate="divergence", subject="seed-3")
    judging(made(PASSED, divergence, INCONCLUSIVE, verdict(Outcome.FAILED, gate="drift")))
    _, out, _ = switchback("gate")
    assert out == (
        "failed        divergence (seed-3)    12.4 [11, 13.5] > 8 robust z\n"
        "              the loss left its past at step 210\n"
        "              Fix: halve the learning rate\n"
        "failed        drift; does not block  12.4 [11, 13.5] > 8 robust z\n"
        "              the loss left its past at step 210\n"
        "              Fix: halve the learning rate\n"
        "inconclusive  inconclusive           12.4 [11, 13.5] > 8 robust z\n"
        "              the loss left its past at step 210\n"
        "              Fix: halve the learning rate\n"
        "passed        passed                 12.4 [11, 13.5] > 8 robust z\n"
        "\n"
        "limits: 4 built in\n"
        "gates: 1 passed, 1 inconclusive, 2 failed in 1.5 s\n"
        "blocking: divergence (seed-3)\n"
        "look first at divergence: it may have caused the others\n"
    )


def test_limits_are_counted_by_where_they_come_from(switchback, judging):
    bases = ("default", "default", "gates.yaml", "calibrated on 20 clean runs", "default: no calibration.json")
    judging(made(*(verdict(Outcome.PASSED, gate=f"gate-{at}", basis=basis) for at, basis in enumerate(bases))))
    _, out, _ = switchback("gate")
    (line,) = [line for line in out.splitlines() if line.startswith("limits: ")]
    assert line == (
        "limits: 3 built in (1 of them not measured on this model: no calibration.json; `switchback calibrate` "
        "measures), 1 set in gates.yaml, 1 calibrated on 20 clean runs"
    )


def test_limits_that_are_built_in_are_counted_once(switchback, judging):
    judging(made(*(verdict(Outcome.PASSED, basis=basis) for basis in ("default: no calibration.json",) * 2)))
    _, out, _ = switchback("gate")
    assert "limits: 2 built in (not measured on this model: no calibration.json; `switchback" in out


def silent(gate, why="no base revision was named", outcome=Outcome.INCONCLUSIVE, **changes):
    """A verdict that rests on no measurement."""
    nothing = {"statistic": None, "interval": None, "threshold": None, "remedy": "", "evidence": {}}
    return verdict(outcome, gate=gate, diagnosis=why, **nothing | changes)


def test_verdicts_that_measured_nothing_for_one_reason_share_a_line(switchback, judging):
    alike = [silent("latency"), silent("slices_against_main", subject="roc_auc"), silent("model_size")]
    judging(made(alike[0], silent("drift", "no reference"), PASSED, *alike[1:], silent("alone", blocks=True)))
    _, out, _ = switchback("gate")
    assert out.partition("\n\n")[0] == (
        "inconclusive  alone\n"
        "              no base revision was named\n"
        "inconclusive  latency, slices_against_main (roc_auc), model_size (3 verdicts)\n"
        "              no base revision was named\n"
        "inconclusive  drift\n"
        "              no reference\n"
        "passed        passed  12.4 [11, 13.5] > 8 robust z"
    )
    assert "6 inconclusive" not in out
    assert "5 inconclusive" in out


def test_tests_that_passed_without_a_measurement_keep_a_line_each(switchback, judging):
    judging(made(*(silent(gate, "its test passed", Outcome.PASSED) for gate in ("a", "b"))))
    assert switchback("gate")[1].startswith("passed  a\npassed  b\n")


def test_on_a_terminal_one_reason_is_told_once(monkeypatch, capsys):
    from ci_tools.gates import show

    monkeypatch.setattr(show, "on_terminal", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    show.show(made(PASSED, silent("latency"), silent("model_size")))
    out = capsys.readouterr().out
    assert out.count("no base revision was named") == 1
    assert "2 verdicts, see below" in out
    assert "latency, model_size" in out


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123456, "0.123"), (999.6, "1000"), (1234.56, "1235"), (400_000.0, "400000"), (2e12, "2e+12"), (-0.0, "0")],
)
def test_three_digits_are_enough_but_steps_and_rows_are_told_in_full(value, shown):
    from ci_tools.gates.show import number

    assert number(value) == shown


def test_on_a_terminal_the_same_is_a_table(monkeypatch, capsys):
    from ci_tools.gates import show

    monkeypatch.setattr(show, "on_terminal", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    show.show(made(PASSED, FAILED_BLOCKS, policy_changes=("gates.yaml: gates.drift.blocks false",), base="main"))
    out = capsys.readouterr().out
    assert out.index("failed") < out.index("passed")
    for words in (
        "the loss left its past at step 210",
        "Fix: halve",
        "differs from main: gates.yaml: gates.drift.blocks false",
    ):
        assert words in out


def test_loosened_policy_shows(switchback, judging):
    judging(made(PASSED, base="main", policy_changes=("gates.yaml: metrics.roc_auc.floor 0.9 → 0.5",)))
    assert "differs from main: gates.yaml: metrics.roc_auc.floor 0.9 → 0.5\n" in switchback("gate")[1]
    assert json.loads(switchback("gate", "--json")[1])["policy_changes"] == [
        "gates.yaml: metrics.roc_auc.floor 0.9 → 0.5"
    ]


def test_of_several_failures_the_probable_cause_is_named(switchback, judging):
    gates = ["slow_convergence", "vanishing_gradients", "quality_floor"]
    judging(made(PASSED, *(verdict(Outcome.FAILED, gate=gate) for gate in gates)))
    assert "look first at vanishing_gradients: it may have caused the others\n" in switchback("gate")[1]
    assert json.loads(switchback("gate", "--json")[1])["cause"] == "vanishing_gradients"
    judging(made(PASSED, FAILED))
    assert "look first" not in switchback("gate")[1]


def test_options_reach_the_suite(switchback, judging):
    asked = judging(made(PASSED))
    switchback("gate", "--base", "main", "-k", "divergence", "--policy", "v1")
    switchback("gate")
    assert asked == [("main", "divergence", "v1"), ("", "", "")]


def test_bad_policy_is_one_line_and_exit_2(switchback, tmp_path, monkeypatch):
    project.write(tmp_path, {"test_a.py": ""}, policy="gates: {drift: {blocks: maybe}}")
    monkeypatch.chdir(tmp_path)
    code, out, err = switchback("gate")
    assert (code, out) == (2, "")
    assert err == "error: gates.yaml: gates.drift.blocks: input should be a valid boolean, got 'maybe'\n"


def test_schema_of_gates_is_json_schema_with_units(switchback):
    code, out, _ = switchback("schema", "gates")
    assert code == 0
    assert json.loads(out)["$defs"]["Metric"]["properties"]["margin"]["description"].endswith("none: not compared.")
    assert json.loads(out) == Policy.model_json_schema()


TEST = "def test_two_records(run):\n    assert len(run.records) == {count}\n"


@pytest.mark.parametrize(("count", "code"), [(2, 0), (3, 1)])
def test_run_ends_with_the_verdicts_and_their_exit_code(switchback, repository, count, code):
    folder = repository / "tests/model"
    folder.mkdir(parents=True)
    (folder / "test_records.py").write_text(TEST.format(count=count))
    got, out, _ = switchback("run", "--json")
    values = json.loads(out)
    assert got == code
    assert values["pipeline"]["steps"]
    assert values["gates"]["exit_code"] == code
    assert [one["gate"] for one in values["gates"]["verdicts"]] == ["two_records"]
    got, out, _ = switchback("run")
    assert got == code
    assert out.index("pipeline: ") < out.index("two_records")


def test_run_without_acceptance_tests_says_that_nothing_was_judged(switchback, repository):
    code, out, err = switchback("run", "--json")
    assert code == 0
    assert json.loads(out)["gates"] is None
    assert "nothing was judged" not in err, "a machine reads null"
    assert "nothing was judged: no acceptance tests in tests/model" in switchback("run")[2]


def test_gate_in_a_folder_that_is_no_project_is_one_line(switchback, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = switchback("gate")
    assert code == 2
    assert err.startswith("error: tests/model: no acceptance tests here")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a list of verdicts"),
        ("[]", "is not a list of verdicts"),
        ("{}", "schema version None; 1 is read"),
        ('{"schema_version": 1}', "is not a list of verdicts"),
        ('{"schema_version": 1, "verdicts": [{"interval": 3}], "pending": []}', "is not a list of verdicts"),
        ('{"schema_version": 1, "verdicts": [], "pending": []}', "commit"),
    ],
)
def test_file_that_holds_no_verdicts_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "verdicts.json"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        read(path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "other.json")


def test_read_after_write_is_equal(tmp_path):
    everything = made(PASSED, FAILED_BLOCKS, pending=(ERROR_BLOCKS,), base="main", selection="x", policy_changes=("a",))
    write(everything, tmp_path / "new/verdicts.json")
    assert read(tmp_path / "new/verdicts.json") == everything
    assert everything.outcome is Outcome.FAILED
    assert made(PASSED, pending=(ERROR_BLOCKS,)).exit_code == 2, "a test that has not ended is no pass"


def test_unknown_and_open_ends_of_intervals_survive(tmp_path):
    path = tmp_path / "verdicts.json"
    ends = {(0.5, float("inf")): (0.5, float("inf")), (float("nan"), 1.0): None, None: None}
    for interval, expected in ends.items():
        write(made(verdict(Outcome.PASSED, interval=interval)), path)
        project.strict(path)
        assert read(path).verdicts[0].interval == expected


def test_words_that_xml_forbids_do_not_break_junit(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(junit(made(verdict(Outcome.FAILED, True, gate="<a&b>", diagnosis="\x00\x1b[31m ü → \ud800"))))
    cases, counts = project.junit(path)
    assert (cases, counts["failures"]) == ({"<a&b>": "failure"}, 1)
