import re

import pytest

from ci_tools.gates.verdict import Outcome
from ci_tools.report.comment import LONGEST, headline, render
from ci_tools.report.links import Links
from ci_tools.report.markdown import units
from ci_tools.report.results import PolicyChange, Results, SeedRun, name
from tests.report import cases

ORDER = {
    "headline": "## ",
    "changes": "### What changed against",
    "failures": "### What failed",
    "curves": "<summary>Curves",
    "slices": "<summary>Slices",
    "cost": "<summary>Cost",
    "links": "**More:**",
    "policy": "### The policy changed",
    "fingerprint": "<summary>Fingerprint",
}


@pytest.mark.parametrize("case", cases.CASES)
def test_comment_is_the_golden_one(case):
    """After a change that is meant: `python -m tests.report.cases`, then look at the diff."""
    assert cases.comment(case) == (cases.GOLDEN / f"{case}.md").read_text(encoding="utf-8")


def test_parts_stand_in_the_order_of_a_reviewers_questions():
    text = cases.comment("failing")
    found = [text.index(start) for start in ORDER.values()]
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("passing", "## ✅ You can merge"),
        ("failing", "## ❌ Do not merge: 5 verdicts stop it"),
        ("inconclusive", "## ❔ Do not merge yet: the evidence does not decide"),
        ("first_run", "## ✅ You can merge: nothing blocks it, and nothing was compared with main"),
    ],
)
def test_first_line_answers_whether_to_merge(case, answer):
    assert cases.comment(case).splitlines()[0] == answer


def test_refused_input_and_no_verdict_are_no_pass():
    for results in (cases.results([cases.calm()], refused=True), cases.results([])):
        assert headline(results).startswith("## ⛔ Do not merge")


def test_failure_that_does_not_block_is_in_the_first_line():
    results = cases.results([cases.judged("stragglers", Outcome.FAILED, 2.0, 1.5, blocks=False)])
    assert headline(results).startswith("## ⚠️ You can merge: what failed does not block")


def test_failures_without_a_known_cause_are_not_blamed_on_each_other():
    failed = [cases.judged("quality_floor", Outcome.FAILED, 1.0, 0.0, subject=metric) for metric in ("a", "b")]
    assert "Look first" not in render(cases.results(failed))


def test_commit_is_that_of_the_pull_request_and_what_was_checked_out_is_told():
    results = cases.passing().model_copy(update={"commit": "f" * 40})
    assert "Commit `0b2aeb641987`, checked out as `ffffffffffff`, of `wider-embedding`" in headline(results)
    assert "checked out" not in headline(cases.passing())


def test_evidence_remedy_and_probable_cause_of_a_failure_are_told():
    text = cases.comment("failing")
    assert "Look first at `divergence`" in text
    assert "**Try:** halve the learning rate" in text
    assert "| `onset` | 210 |" in text


@pytest.mark.parametrize(("basis", "told"), [("uncalibrated", True), ("default", False), ("calibrated", False)])
def test_failure_by_a_limit_that_was_not_measured_names_the_command_that_measures_it(basis, told):
    text = render(cases.results([cases.judged("gradient_spikes", Outcome.FAILED, 126.0, 50.0, basis=basis)]))
    assert ("the gate's default, not measured on this model" in text) is told
    assert ("`switchback calibrate` measures a limit of its own" in text) is told


def test_gate_that_is_not_ours_gets_no_sentence_of_its_own():
    text = render(cases.results([cases.judged("empty_rows", Outcome.FAILED, 0.3, 0.02)]))
    assert "`empty_rows`** failed, blocks. A gate of this repository" in text
    assert "Measured: 0.3 > 0.02. Limit" in text


def test_means_over_one_seed_are_told_in_the_singular():
    metrics = tuple(one.model_copy(update={"seeds": 1}) for one in cases.passing().metrics)
    assert "Means over 1 seed per arm." in render(cases.passing().model_copy(update={"metrics": metrics}))


def test_what_had_no_room_is_told():
    assert "No room in results.json for 1 more value." in headline(cases.passing().model_copy(update={"left_out": 1}))


def test_curves_are_open_where_training_failed_and_folded_else():
    assert "<details open><summary>Curves" in cases.comment("failing")
    assert "<details><summary>Curves" in cases.comment("passing")


def test_links_are_those_that_were_given_and_no_others():
    assert "**More:**" not in render(cases.passing())
    assert "**More:** [artifacts](<https://a.example/1>)\n" in render(
        cases.passing(), Links(artifacts="https://a.example/1")
    )


def test_policy_of_main_is_said_and_a_change_is_in_sight():
    assert "The policy of the gates is that of `origin/main`." in cases.comment("passing")
    failing = cases.comment("failing")
    assert "⚠️ The policy of the gates changed, see below." in failing
    assert "| `metrics.average_precision.margin` | 0.01 | 0.02 |" in failing
    assert "| `gates.stragglers.blocks` | unset | false |" in failing


def largest(sign):
    """Results with as much in them as the schema allows."""
    long = name(sign * 500)
    base = cases.failing()
    facts = cases.facts(**{long: long}) * 12
    verdicts = [
        cases.judged(long, outcome, 3.0, 2.0, (2.5, 3.5), long, facts=facts)
        for outcome in (Outcome.FAILED, Outcome.PASSED, Outcome.INCONCLUSIVE)
        for _ in range(100)
    ]
    update = {
        "branch": long,
        "base": long,
        "verdicts": tuple(verdicts),
        "metrics": tuple(one.model_copy(update={"metric": long}) for one in (base.metrics * 8)[:30]),
        "slices": tuple(one.model_copy(update={"slice": long, "metric": long}) for one in base.slices * 10),
        "stages": tuple(one.model_copy(update={"stage": long}) for one in (base.stages * 25)[:200]),
        "policy_changes": tuple(PolicyChange(key=long, old=0.1, new=0.2) for _ in range(100)),
        "fingerprint": {name(f"{k}{long}"): long for k in range(40)},
        "runs": tuple(SeedRun(seed=10**9 + k, status="crashed") for k in range(100)),
    }
    return Results.model_validate(base.model_copy(update=update).model_dump())


@pytest.mark.parametrize("sign", ["x", "\u00e9", "🙂"])
def test_comment_is_never_over_githubs_limit_and_says_what_it_shortened(sign):
    text = render(largest(sign), cases.LINKS)
    assert units(text) <= LONGEST
    assert "_Shortened to fit GitHub's limit: failures, other verdicts, curves, slices, cost, fingerprint." in text
    for start in ("## ❌", "### What changed", "### What failed", "**More:**", "### The policy changed"):
        assert start in text


@pytest.mark.parametrize("number", [1e308, -1e308, 5e-324])
def test_comment_holds_any_number_and_stays_below_the_limit(number):
    base = largest("x").model_dump()

    def replaced(value):
        if isinstance(value, dict):
            return {key: item if key in LIMITED else replaced(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return tuple(map(replaced, value))
        return number if isinstance(value, float) else value

    assert units(render(Results.model_validate(replaced(base)), cases.LINKS)) <= LONGEST


LIMITED = ("seconds", "ran_seconds", "gate_seconds", "pipeline_seconds", "train_seconds", "joules", "confidence")
"""Numbers that the schema keeps within limits of their own."""


def test_shortening_goes_by_priority():
    whole = render(cases.failing(), cases.LINKS)
    gone = []
    for longest in range(units(whole), 0, -200):
        text = render(cases.failing(), cases.LINKS, longest)
        told = re.search(r"_Shortened to fit GitHub's limit: (.*?)\.", text)
        gone += [part for part in (told[1].split(", ") if told else []) if part not in gone]
    assert gone == ["fingerprint", "cost", "other verdicts", "slices", "curves", "failures", "policy"]


def test_nothing_is_shortened_that_fits():
    assert "Shortened" not in cases.comment("failing")
