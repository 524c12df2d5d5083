import pytest

from ci_tools.gates import Outcome
from ci_tools.gates.files import Verdicts
from ci_tools.report import answer
from ci_tools.report.comment import answered, headline
from ci_tools.report.results import SeedRun
from tests.report import cases
from tests.report.left import verdict

PASS, OPEN = cases.judged("drift", cases.PASSED, 0.1, 0.2), cases.judged("latency", cases.INCONCLUSIVE)
COMPARED = cases.judged("quality_against_main", cases.PASSED, -0.01, 0.02, (-0.02, 0.0), "roc_auc")
NOT_COMPARED = cases.judged("quality_against_main", cases.INCONCLUSIVE, subject="roc_auc")
FAILED = cases.judged("stragglers", cases.FAILED, 2.0, 1.5, blocks=False)
ERROR = cases.judged("latency", cases.ERROR, blocks=False)
BLOCKS = cases.judged("divergence", cases.FAILED, 2.0, 1.5)


def runs(*statuses):
    return tuple(SeedRun(seed=seed, status=status) for seed, status in enumerate(statuses))


NO_METRIC = "no metric was compared with the base revision"


@pytest.mark.parametrize(
    ("verdicts", "changes", "said"),
    [
        ([PASS, COMPARED], {}, "✅ You can merge"),
        ([PASS, COMPARED, OPEN], {}, "✅ You can merge: nothing blocks it"),
        ([PASS], {"base": ""}, "✅ You can merge: nothing blocks it, and nothing was compared with main"),
        ([PASS], {}, f"⚠️ You can merge: nothing blocks it, and {NO_METRIC}"),
        ([PASS, NOT_COMPARED], {}, f"⚠️ You can merge: nothing blocks it, and {NO_METRIC}"),
        (
            [COMPARED],
            {"selected": True},
            "⚠️ You can merge: nothing blocks it, and only some of the tests were asked for",
        ),
        (
            [COMPARED],
            {"runs": runs("crashed", "unreadable")},
            "⚠️ You can merge: nothing blocks it, and no training finished",
        ),
        (
            [COMPARED],
            {"runs": runs("finished", "failed")},
            "⚠️ You can merge: nothing blocks it, and not every training finished",
        ),
        ([COMPARED], {"runs": ()}, "✅ You can merge"),
        ([COMPARED, FAILED, OPEN], {}, "⚠️ You can merge: what failed does not block"),
        ([COMPARED, ERROR], {}, "⚠️ You can merge: what could not be judged does not block"),
        ([COMPARED, ERROR, FAILED], {}, "⚠️ You can merge: what failed or could not be judged does not block"),
        (
            [FAILED],
            {"base": ""},
            "⚠️ You can merge: what failed does not block, and nothing was compared with main",
        ),
        (
            [FAILED],
            {"selected": True, "runs": runs("crashed")},
            "⚠️ You can merge: what failed does not block, only some of the tests were asked for, no training finished, "
            f"and {NO_METRIC}",
        ),
        ([BLOCKS], {}, "❌ Do not merge: 1 verdict stops it"),
        ([BLOCKS, BLOCKS, FAILED], {"selected": True}, "❌ Do not merge: 2 verdicts stop it"),
        ([PASS], {"refused": True}, "⛔ Do not merge: the run could not be judged"),
        ([], {}, "⛔ Do not merge: the run could not be judged"),
        (
            [OPEN.model_copy(update={"blocks": True})],
            {"base": ""},
            "❔ Do not merge yet: the evidence does not decide",
        ),
    ],
)
def test_first_line_holds_every_reservation(verdicts, changes, said):
    results = cases.results(verdicts, **changes)
    assert headline(results).splitlines()[0] == f"## {said}"
    assert str(answered(results)) == said


@pytest.mark.parametrize(
    ("outcome", "blocks", "code"),
    [(Outcome.PASSED, False, 0), (Outcome.FAILED, True, 1), (Outcome.ERROR, True, 2), (Outcome.INCONCLUSIVE, True, 3)],
)
def test_verdicts_of_the_gates_are_answered_as_those_of_results_json(outcome, blocks, code):
    found = Verdicts(
        commit="", dirty=False, params_digest="", policy_digest="", started="2026",
        verdicts=(verdict(outcome=outcome, blocks=blocks),),
    )  # fmt: skip
    crossed = cases.results([cases.judged("divergence", outcome, 0.5, 0.8, blocks=blocks)], base="", runs=())
    of_gates = answer.of(found.verdicts, found.exit_code, base="", selected=False, statuses=())
    assert (found.exit_code, of_gates) == (code, answered(crossed))
    assert of_gates.outcome is outcome
