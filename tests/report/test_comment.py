import itertools
import re

import pytest

from ci_tools.gates.verdict import Outcome
from ci_tools.report import charts, numerals, wording
from ci_tools.report.comment import LONGEST, headline, render
from ci_tools.report.links import Links
from ci_tools.report.markdown import units
from ci_tools.report.results import Metric, PolicyChange, Results, SeedRun, name
from tests.report import cases
from tests.report.parsed import tokens

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


def row(loss, interval, outcome, higher=True):
    main = 0.7912
    low, high = interval
    return Metric(
        metric="m",
        higher_is_better=higher,
        main=main,
        here=main - loss if higher else main + loss,
        interval=(None if high is None else -high, -low) if higher else (low, high),
        confidence=0.95,
        margin=0.02,
        outcome=outcome,
    )


@pytest.mark.parametrize(
    ("metric", "reads"),
    [
        (row(-0.0022, (-0.0054, 0.001), Outcome.PASSED), "noise"),
        (row(-0.0022, (-0.0054, -0.001), Outcome.PASSED), "better"),
        (row(0.0022, (0.001, 0.0054), Outcome.PASSED), "worse, within the margin"),
        (row(0.0022, (0.001, 0.0054), Outcome.PASSED, higher=False), "worse, within the margin"),
        (row(-0.0022, (-0.0054, -0.001), Outcome.PASSED, higher=False), "better"),
        (row(0.05, (0.03, 0.07), Outcome.FAILED), "**worse, beyond the margin**"),
        (row(0.01, (-0.01, 0.03), Outcome.INCONCLUSIVE), "noise; a loss beyond the margin is not ruled out"),
        (row(0.02, (0.01, 0.03), Outcome.INCONCLUSIVE), "worse; a loss beyond the margin is not ruled out"),
        (row(0.0, (0.0, 0.0), Outcome.PASSED), "identical"),
        (row(0.0, (-0.1, None), Outcome.INCONCLUSIVE), "noise; a loss beyond the margin is not ruled out"),
    ],
)
def test_change_reads_as_noise_or_not(metric, reads):
    assert wording.reading(metric) == reads


def test_change_is_here_minus_main_with_its_interval():
    levels, change = wording.change(row(-0.0022, (-0.0054, 0.001), Outcome.PASSED))
    assert (levels, change) == ("0.7912 → 0.7934", "+0.0022 (95 %: \u22120.0010 to +0.0054)")


@pytest.mark.parametrize(
    ("values", "width", "places"),
    [
        ([0.79], 0.0, 4),
        ([0.0226], 0.0, 5),
        ([0.98], 0.0015, 4),
        ([0.98], 0.0001, 5),
        ([0.98], 1e-9, 6),
        ([1234.5], 0.0, 0),
        ([], 0.0, 4),
    ],
)
def test_decimal_places_show_the_change(values, width, places):
    assert numerals.places(values, width) == places


def test_evidence_remedy_and_probable_cause_of_a_failure_are_told():
    text = cases.comment("failing")
    assert "Look first at `divergence`" in text
    assert "**Try:** halve the learning rate" in text
    assert "| `onset` | 210 |" in text


def test_gate_that_is_not_ours_gets_no_sentence_of_its_own():
    text = render(cases.results([cases.judged("empty_rows", Outcome.FAILED, 0.3, 0.02)]))
    assert "`empty_rows`** failed, blocks. A gate of this repository" in text
    assert "Measured: 0.3 > 0.02. Limit" in text


def charted(text):
    return [token.content for token in tokens(text) if token.type == "fence" and token.info == "mermaid"]


@pytest.mark.parametrize("case", cases.CASES)
def test_charts_hold_numbers_and_our_words_only(case):
    drawings = charted(cases.comment(case))
    assert len(drawings) == 2
    for drawing in drawings:
        init, kind, *lines = drawing.splitlines()
        assert (init[:9], kind) == ("%%{init: ", "xychart-beta")
        for line in lines:
            assert re.fullmatch(
                r' +(x-axis "step" \d+ --> \d+|y-axis "(loss|value|log10 of the loss)" -?[\d.]+ --> -?[\d.]+'
                r"|line \[-?[\d.e-]+(, -?[\d.e-]+)*\])",
                line,
            ), line


def test_chart_ends_where_the_loss_is_no_number_any_more():
    loss, _ = cases.curves(diverged_at=210)
    known = list(itertools.takewhile(lambda value: value is not None, loss.mean))
    assert len(known) < len(loss.mean)
    (drawn, *_) = re.findall(r"line \[(.*)\]", charts.chart(loss))
    assert drawn.count(",") == len(known) - 1
    assert charts.change(loss).endswith("then not finite")


def test_constant_curve_has_an_axis_with_two_ends():
    loss = cases.curves()[0].model_copy(update=dict.fromkeys(("mean", "low", "high"), (0.5,) * 40))
    low, high = re.search(r'y-axis "loss" (\S+) --> (\S+)', charts.chart(loss)).groups()
    assert float(low) < 0.5 < float(high)


def test_curves_are_open_where_training_failed_and_folded_else():
    assert "<details open><summary>Curves" in cases.comment("failing")
    assert "<details><summary>Curves" in cases.comment("passing")


def test_cost_tells_gpu_minutes_energy_and_what_the_cache_saved():
    cost = re.search(r"<summary>(Cost.*?)</summary>", cases.comment("inconclusive"))[1]
    assert "11.6 GPU minutes in these runs (4.6 of them now)" in cost
    assert "19.6 Wh by their GPUs" in cost
    assert "the cache saved 7 min 26 s" in cost
    assert "GPU" not in re.search(r"<summary>(Cost.*?)</summary>", cases.comment("first_run"))[1]


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
