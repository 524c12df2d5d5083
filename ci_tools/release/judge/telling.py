"""Evidence to words: the verdict on one metric, with its counts, its interval and a sentence."""

import math
from typing import NamedTuple

from ci_tools.release.judge import proportion
from ci_tools.release.judge.budget import alphas, needed_evidence
from ci_tools.release.judge.compared import Compared, Span
from ci_tools.release.judge.followed import Followed
from ci_tools.release.judge.policy import Events, Policy
from ci_tools.release.judge.scores import shift_interval
from ci_tools.release.judge.state import State
from ci_tools.release.judge.verdict import Outcome, Verdict
from ci_tools.release.judge.wealth import Evidence


class Told(NamedTuple):
    """What a metric's counts say by themselves."""

    counts: dict[str, int]
    interval: tuple[float, float] | None
    """None without data."""
    unit: str
    """Of the interval."""
    words: str


def verdict(name: str, state: State, found: Evidence, policy: Policy) -> Verdict:
    """The verdict on one metric.

    Args:
        name: full name of the metric.
        state: of the release.
        found: the metric's evidence now.
        policy: of the release.
    """
    metric, error = policy.metrics[name], 1 - policy.ramp.confidence
    if name in state.compared:
        followed: Followed = state.compared[name]
        what = _compared(name, state.compared[name], state.total, error, policy)
    else:
        followed = {"flips": state.flips, "shift": state.shift, "labels": state.labels}[name]
        what = _alone(name, state, error)
    peak, safe = followed.peak, float(found.safe)
    enough, proof = needed_evidence(alphas(policy)[name]), needed_evidence(policy.wrong_promotion)
    if peak >= enough:
        outcome, told = Outcome.HARMFUL, f"worse than tolerated, beyond chance ({_odds(peak)}, {_odds(enough)} needed)"
    elif not what.interval:
        outcome, told = Outcome.NO_DATA, "nothing to judge by yet"
    elif safe >= proof:
        outcome, told = Outcome.SAFE, f"within the margin, beyond chance ({_odds(safe)}, {_odds(proof)} needed)"
    else:
        for_harm, for_safe = (f"{_odds(e)} ({_odds(limit)} needed)" for e, limit in ((peak, enough), (safe, proof)))
        outcome, told = Outcome.OPEN, f"open: {for_harm} for harm, {for_safe} for safe"
    if name in state.compared and state.compared[name].fired:
        told += "; baseline and stable differ too, so only the slower, robust test acts"
    return Verdict(
        metric=name,
        outcome=outcome,
        blocks=metric.blocks,
        needed=metric.needed,
        counts=what.counts,
        log10_harm=peak / math.log(10),
        log10_harm_needed=enough / math.log(10),
        log10_safe=safe / math.log(10),
        log10_safe_needed=proof / math.log(10),
        trace=followed.trace,
        interval=what.interval,
        unit=what.unit,
        sentence=f"{name}: {what.words}; {told}." if what.interval else f"{name}: {told}.",
    )


def _compared(name: str, one: Compared, total: Span, error: float, policy: Policy) -> Told:
    counts = {
        "canary": one.total.canary,
        "canary_requests": total.canary,
        "baseline": one.total.baseline,
        "baseline_requests": total.baseline,
    }
    is_event = isinstance(policy.metrics[name], Events)
    unit = "difference of the rates" if is_event else "difference of the shares of slow requests"
    if not total.canary or not total.baseline or not (is_event or one.total.canary + one.total.baseline):
        return Told(counts, None, unit, "")
    low, high = proportion.interval((one.total.canary, one.total.baseline), (total.canary, total.baseline), error / 2)
    interval = float(low[0] - high[1]), float(high[0] - low[1])
    slow = "" if is_event else " slow"
    words = (
        f"canary {one.total.canary:,}{slow} of {total.canary:,} ({percent(one.total.canary / total.canary)}), "
        f"baseline {one.total.baseline:,}{slow} of {total.baseline:,} ({percent(one.total.baseline / total.baseline)})"
    )
    return Told(counts, interval, unit, words)


def _alone(name: str, state: State, error: float) -> Told:
    if name == "flips":
        pairs, flips = state.flips.pairs, state.flips.flips
        low, high = proportion.interval(flips, pairs, error)
        words = f"{flips:,} of {pairs:,} mirrored requests were decided differently"
        return Told({"flips": flips, "pairs": pairs}, (float(low), float(high)) if pairs else None, "share", words)
    if name == "shift":
        canary, baseline = state.shift.canary, state.shift.baseline
        counts = {"canary_scores": canary.n, "baseline_scores": baseline.n}
        if not canary.n or not baseline.n:
            return Told(counts, None, "difference of the mean scores", "")
        words = f"mean score {canary.total / canary.n:.4f}, the baseline's {baseline.total / baseline.n:.4f}"
        return Told(counts, shift_interval(state.shift, error), "difference of the mean scores", words)
    differences = state.labels.differences
    if not differences.n:
        return Told({"labels": 0}, None, "difference of the mean losses", "")
    words = f"mean loss {differences.total / differences.n:+.4f} against the baseline's, on {differences.n:,} labels"
    interval = differences.interval((-1.0, 1.0), error)
    return Told({"labels": differences.n}, interval, "difference of the mean losses", words)


def percent(share: float) -> str:
    """Law: percent(0.005) == "0.5 %"."""
    return f"{100 * share:.3g} %"


def _odds(log_e: float) -> str:
    """An e-value as a person reads it: "1,200 to 1"."""
    if log_e > math.log(1e6):
        return "over a million to 1"
    e = math.exp(log_e)
    return f"{e:,.0f} to 1" if e >= 10 else f"{e:.2g} to 1"
