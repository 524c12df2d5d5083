"""What stands on the page: every part asked for once, and what is missing in words."""

from collections.abc import Sequence
from pathlib import Path

from ci_tools import __version__
from ci_tools.gates import policy
from ci_tools.gates.files import Verdicts
from ci_tools.gates.run import Run
from ci_tools.gates.verdict import Outcome
from ci_tools.report import numerals
from ci_tools.report.html import curves, evaluation, gradients, origin, records, slices
from ci_tools.report.html import verdicts as judged
from ci_tools.report.html.evaluation import Against
from ci_tools.report.html.page import render
from ci_tools.report.html.reliability import diagram
from ci_tools.report.results import finite


def page(run: Run, verdicts: Verdicts) -> str:
    """The page as HTML.

    Raises:
        DataError: a file of the evaluation is damaged.
    """
    seeds, settings = records.read(run), policy.load_for_report(run.root)
    rows = judged.rows(verdicts)
    not_passed, silent = judged.grouped([row for row in rows if row.verdict.outcome is not Outcome.PASSED])
    of_steps, of_metrics = curves.of_steps(seeds), curves.of_metrics(seeds)
    charts = (*of_steps[:1], *of_metrics, *of_steps[1:])
    shown = gradients.read(seeds)
    against = evaluation.against(run, verdicts, settings)
    compared = tuple(one for one in against if one.verdict.statistic is not None)
    values = {
        "version": __version__,
        "verdicts": verdicts,
        "banner": judged.banner(verdicts, [seed.status for seed in seeds]),
        "counts": judged.counts(rows),
        "open_rows": not_passed,
        "silent": silent,
        "passed_rows": [row for row in rows if row.verdict.outcome is Outcome.PASSED],
        "divergences": origin.divergences(verdicts),
        "compared": compared,
        "not_compared": _why_not(verdicts, against),
        "worst_slices": slices.worst_slices(verdicts),
        "quality": evaluation.quality(run),
        "reliability": diagram(evaluation.calibration(run, verdicts)),
        "slices": slices.slices(run, settings),
        "seeds": seeds,
        "charts": charts,
        "metric_charts": of_metrics,
        "gradients": shown,
        "costs": origin.costs(seeds),
        "origin": origin.origin(seeds, verdicts),
        "same_policy": bool(verdicts.base) and not any(_is_of(policy.FILE, line) for line in verdicts.policy_changes),
        "judged_in": finite(verdicts.seconds),
        "number": judged.number,
        "steady": judged.steady,
        "duration": numerals.seconds,
        "energy": numerals.energy,
        "missing": numerals.MISSING,
    }
    data = {
        "seeds": [seed.name for seed in seeds],
        "charts": [chart.to_json() for chart in charts],
        "gradients": shown.data,
    }
    return render(values, data)


def _is_of(file: Path, change: str) -> bool:
    """Whether a line of the policy's changes is about this file."""
    return change.startswith(f"{file}: ")


def _why_not(verdicts: Verdicts, against: Sequence[Against]) -> str:
    """Why there is no comparison with the base revision."""
    if against:
        return against[0].verdict.diagnosis.rstrip(".")
    return f"no gate {evaluation.AGAINST} was run" if verdicts.base else "no base revision was named"
