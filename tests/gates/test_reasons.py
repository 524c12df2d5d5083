"""Why nothing was measured: a code and a sentence, for every cause that a gate of ours knows."""

import ast
import json
import re
from pathlib import Path

import pytest

from ci_tools.gates import Baseline, Outcome, Reading, Reason, files, gate, suite, unmeasured
from ci_tools.gates.policy import Judge, Policy
from tests.gates import project

GATES = Path(files.__file__).parent
DOCS = Path(__file__).parents[2] / "docs/gates.md"
SKIPPING = """\
import pytest
from ci_tools.gates import Reason

@pytest.mark.skipif(True, reason=Reason.NOT_EXPORTED.sentence)
def test_latency():
    raise AssertionError

@pytest.mark.parametrize("metric", [])
def test_quality_floor(metric):
    raise AssertionError

def test_drift():
    pytest.skip("no time")

def test_of_the_base(baseline, policy):
    from ci_tools.gates import gate, unmeasured

    @gate(limit=1, unit="")
    def reproducible():
        return unmeasured(baseline.reason, baseline.why_not)

    policy.require(reproducible())
"""


@gate(limit=1.0, unit="")
def seen(run):
    return run


def verdict(measurement):
    return Judge(Policy(), None, "", 0).verdict(measurement)


def calls(tree, names):
    """The calls of these functions, with the place of what says why."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node, node.args[names[node.func.id]]


def test_gates_of_ours_always_say_why_by_a_code():
    texts = []
    for path in GATES.glob("*.py"):
        for call, why in calls(ast.parse(path.read_text()), {"unmeasured": 0, "_silent": 1}):
            if isinstance(why, ast.Constant | ast.JoinedStr):
                texts.append(f"{path.name}:{call.lineno}")
    assert texts == []


@pytest.mark.parametrize("reason", Reason)
def test_reason_is_a_code_and_a_sentence_of_its_own(reason):
    assert re.fullmatch("[a-z]+(_[a-z]+)*", reason)
    assert not reason.sentence.endswith(".")
    assert Reason.of(reason.sentence) is reason
    assert Reason(json.loads(json.dumps(reason))) is reason


def test_text_of_somebody_else_is_no_reason():
    assert Reason.of("no time") is None
    assert unmeasured("no time").reason is None


def test_verdict_holds_the_reason_and_the_words_that_say_more():
    found = verdict(seen(unmeasured(Reason.FEW_STEPS, "12 steps are too few", steps=12)))
    assert (found.outcome, found.reason, found.diagnosis) == (
        Outcome.INCONCLUSIVE, Reason.FEW_STEPS, "12 steps are too few",
    )  # fmt: skip
    assert found.evidence == {"steps": 12}


def test_what_one_run_lacks_is_the_reason_unless_another_decides():
    low, high = (Reading(statistic=value, diagnosis="d") for value in (0.5, 2.0))
    silent = unmeasured(Reason.NO_SHADOW)
    assert verdict(seen.over([low, silent])).reason is Reason.NO_SHADOW
    assert verdict(seen.over([high, silent])).reason is None
    assert verdict(seen.over([low, low])).reason is None
    assert verdict(seen.over([])).reason is Reason.NOTHING


@pytest.mark.parametrize("mark", ["skip", "xfail", "fail_at_collect"])
def test_tests_that_are_skipped_or_have_no_case_say_which_without_a_placeholder(tmp_path, monkeypatch, mark):
    """Whatever a repository's own tests make of one without a case."""
    project.write(tmp_path, {"test_all.py": SKIPPING}, policy="{}")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nempty_parameter_set_mark = {mark}\n")
    monkeypatch.chdir(tmp_path)
    judged = suite.judge()
    told = {one.gate: (one.subject, one.outcome, one.reason, one.diagnosis) for one in judged.verdicts}
    assert told == {
        "latency": ("", "inconclusive", Reason.NOT_EXPORTED, Reason.NOT_EXPORTED.sentence),
        "quality_floor": ("", "inconclusive", Reason.NO_CASES, Reason.NO_CASES.sentence),
        "drift": ("", "inconclusive", Reason.SKIPPED, "its test was skipped: no time"),
        "reproducible": ("", "inconclusive", Reason.NO_BASE, Reason.NO_BASE.sentence),
    }
    assert files.read(files.FOLDER / files.VERDICTS) == judged


def test_documents_list_every_reason():
    listed = DOCS.read_text().partition("<!-- reasons -->")[2].partition("<!-- /reasons -->")[0]
    assert listed.splitlines()[3:] == [f"| `{reason}` | {reason.sentence} |" for reason in Reason]


def test_baseline_without_a_word_is_one_that_nobody_named():
    assert Baseline(None).reason is Reason.NO_BASE
