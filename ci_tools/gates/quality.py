"""Is the model good enough: against a floor, against main, slice by slice, against simpler models, and in what its
scores promise.

Every statistic is a loss of quality, so that larger is worse for metrics of either direction. Against main it is a mean
over seeds, and its interval covers both the seeds and the test rows (see statistics.py). N = rows.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.errors import ConfigError
from ci_tools.gates import floor, metrics, policy, statistics
from ci_tools.gates.comparison import Arm, Loss, loss, noise, outlook, recorded, scored, sentence, signs, worst
from ci_tools.gates.metrics import METRICS
from ci_tools.gates.policy import AgainstMain, Metric, Policy
from ci_tools.gates.reasons import Reason
from ci_tools.gates.run import Baseline, Run
from ci_tools.gates.scores import Scores, on_common_rows, read_evaluated, read_scores
from ci_tools.gates.verdict import Reading, gate, unmeasured

BINS = 15
"""Of the reliability curve."""
LABEL_DRAWS = 400
"""That show which calibration error a calibrated model has."""
SLICE_ROWS = 50
"""Fewest rows of a slice that is compared."""
SLICE_CLASS = 20
"""Fewest rows of the rarer class in it."""
SLICES_SHOWN = 5
COMMON_ROWS = 0.9
"""Share of the test rows that both arms must have scored."""
FEW_COMMON = "the test rows changed: only {:,} were scored by both arms, under nine in ten"


@gate(limit=0.0, unit="in the metric's unit", remedy="improve the model, or lower the floor in gates.yaml and say why")
def quality_floor(run: Run, name: str, demands: Policy) -> Reading:
    """How far the mean over seeds falls short of the metric's floor."""
    metric = _metric(name, demands)
    if metric.floor is None:
        return _silent(name, Reason.NOT_DEMANDED, f"gates.yaml sets no floor for {name}")
    arm = _arm(read_scores(run), name) if name in METRICS else recorded(run, name)
    if arm is None:
        return _silent(name, Reason.ONE_CLASS)
    found, sign = statistics.mean(arm.value_K, arm.derivative_KN), 1 if metric.higher_is_better else -1
    low, high = found.interval((1 - demands.against_main.confidence) / 2)
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else "one seed, whose own noise is unknown"
    short = sorted(sign * (metric.floor - end) for end in (low, high))
    return Reading(
        statistic=sign * (metric.floor - found.value),
        interval=(short[0], short[1]),
        diagnosis=f"{name} is {found.value:.4f} over {seeds}, truly {low:.4f} to {high:.4f}; the floor is "
        f"{metric.floor:g}",
        evidence={
            "value": found.value,
            **floor.evidence(metric.floor, metric.higher_is_better),
            "value by seed": arm.by_seed(),
            **noise(found),
        },
        subject=name,
    )


@gate(
    limit=0.0,
    unit="in the metric's unit",
    remedy="find what the change did to training, or widen the margin in gates.yaml and say why",
)
def quality_against_main(run: Run, baseline: Baseline, name: str, demands: Policy) -> Reading:
    """Loss of quality against main, whose limit is the metric's margin."""
    metric = _metric(name, demands)
    if metric.margin is None:
        return _silent(name, Reason.NOT_DEMANDED, f"gates.yaml sets no margin for {name}")
    if baseline.run is None:
        return _silent(name, baseline.reason, baseline.why_not)
    evidence: dict[str, Any] = {}
    if name in METRICS:
        mine, its, whole = _same_rows(run, baseline.run)
        if not whole:
            return _silent(name, Reason.CHANGED_ROWS, FEW_COMMON.format(len(mine.id_N)))
        if mine.same_as(its):
            return _identical(mine, name, metric.margin)
        here, main, evidence = _arm(mine, name), _arm(its, name), {"test rows": len(mine.id_N)}
    else:
        here, main = recorded(run, name), recorded(baseline.run, name)
    if here is None or main is None:
        return _silent(name, Reason.ONE_CLASS, "the test rows that both arms scored hold one class only")
    if min(len(here.seeds), len(main.seeds)) < 2:
        return replace(_silent(name, Reason.ONE_SEED), evidence={"seeds wanted": demands.against_main.seeds})
    found = loss(here, main, metric.higher_is_better, _tail(here, main, demands.against_main))
    return _against(found, name, metric.margin, demands.against_main, evidence)


@gate(
    limit=0.0,
    unit="in the metric's unit",
    remedy="look at what the change did for the rows of this slice, or widen slice_margin in gates.yaml and say why",
)
def slices_against_main(run: Run, baseline: Baseline, name: str, demands: Policy) -> Reading:
    """Loss of quality against main in the slice where it is worst, whose limit is the metric's slice margin.

    To fail one of S slices in error is as rare as it is for a single one (Holm); to pass, all of them must.
    """
    metric = _metric(name, demands)
    if metric.slice_margin is None:
        return _silent(name, Reason.NOT_DEMANDED, f"gates.yaml sets no slice_margin for {name}")
    if baseline.run is None:
        return _silent(name, baseline.reason, baseline.why_not)
    if name not in METRICS:
        told = f"{name} cannot be computed for slices; {', '.join(METRICS)} can"
        return _silent(name, Reason.NOT_FROM_SCORES, told)
    mine, its, whole = _same_rows(run, baseline.run)
    if not whole:
        return _silent(name, Reason.CHANGED_ROWS, FEW_COMMON.format(len(mine.id_N)))
    if mine.same_as(its):
        return _identical(mine, name, metric.slice_margin)
    if min(len(mine.seeds), len(its.seeds)) < 2:
        return _silent(name, Reason.ONE_SEED)
    slices = list(_slices(mine))
    large = [(of, inside_N) for of, inside_N in slices if len(inside_N) >= SLICE_ROWS and _rarer(mine, inside_N)]
    if not large:
        least = f"{SLICE_ROWS} rows with {SLICE_CLASS} of the rarer class"
        return _silent(name, Reason.SMALL_SLICES, f"none of {len(slices)} slices has {least}")
    found = []
    for of, inside_N in large:
        here, main = scored(mine.rows(inside_N), name), scored(its.rows(inside_N), name)
        tail = _tail(here, main, demands.against_main)
        found.append(loss(here, main, metric.higher_is_better, tail, of=of, among=len(large)))
    shown = sorted(found, key=lambda one: one.interval[1], reverse=True)[:SLICES_SHOWN]
    adjusted = statistics.holm([one.estimate.chance_above(metric.slice_margin) for one in found])
    evidence = {
        "slices compared": len(large),
        "slices too small": len(slices) - len(large),
        "worst slices": {one.of: [one.estimate.value, *one.interval] for one in shown},
        "slices that failed": [one.of for one, p in zip(found, adjusted, strict=True) if p < one.tail],
    }
    return _against(worst(found, metric.slice_margin), name, metric.slice_margin, demands.against_main, evidence)


@gate(
    limit=0.0,
    unit="in the metric's unit",
    remedy="use the simpler model, or find what keeps the network from learning as much: features, tuning, more steps",
)
def simpler_model(run: Run, name: str, demands: Policy) -> Reading:
    """How far the best simpler model is ahead of the released weights on the same rows; its limit is simpler_margin."""
    metric = _metric(name, demands)
    if metric.simpler_margin is None:
        return _silent(name, Reason.NOT_DEMANDED, f"gates.yaml sets no simpler_margin for {name}")
    if name not in METRICS:
        told = f"{name} cannot be computed from scores; {', '.join(METRICS)} can"
        return _silent(name, Reason.NOT_FROM_SCORES, told)
    release, simpler = read_evaluated(run)
    if not simpler:
        return _silent(name, Reason.NO_SIMPLER_MODEL)
    ours = _arm(release, name)
    if ours is None:
        return _silent(name, Reason.ONE_CLASS)
    tail, n = (1 - demands.against_main.confidence) / 2, len(simpler)
    found = worst(
        [
            loss(ours, scored(scores, name), metric.higher_is_better, tail, of=model, among=n)
            for model, scores in simpler.items()
        ],
        metric.simpler_margin,
    )
    value, (low, high) = found.estimate.value, found.interval
    return Reading(
        statistic=value,
        interval=(low, high),
        diagnosis=f"{found.of} is {abs(value):.4f} {'ahead of' if value > 0 else 'behind'} the released network in "
        f"{name} ({found.there.mean:.4f} against {ours.mean:.4f}), truly {low:.4f} to {high:.4f} ahead",
        evidence={"release": ours.mean, found.of: found.there.mean, "test rows": len(release.id_N)},
        limit=metric.simpler_margin,
        subject=f"{name}, {found.of}",
    )


@gate(
    limit=0.1,
    unit="of the rarer class's share",
    remedy="recalibrate the scores on validation rows (temperature scaling), or look for a change in the class balance",
)
def calibration_error(run: Run) -> Reading:
    """Expected calibration error of the release beyond what its scores would show if they were true probabilities.

    Divided by the share of the rarer class, since scores and their errors are small where positives are rare. The
    interval is as wide as the error of calibrated scores varies (consistency resampling, see metrics.py).
    """
    release, _ = read_evaluated(run)
    label_N, score_N = release.label_N, release.score_KN[0]
    if not release.rarer:
        return unmeasured(Reason.ONE_CLASS)
    share = release.rarer / len(label_N)
    curve, expected = metrics.calibration(label_N, score_N, BINS), metrics.calibrated_errors(score_N, BINS, LABEL_DRAWS)
    low, high = (curve.error - np.quantile(expected, [0.975, 0.025])) / share
    at = int(np.argmax(curve.rows * np.abs(curve.observed - curve.predicted)))
    return Reading(
        statistic=float(curve.error - expected.mean()) / share,
        interval=(float(low), float(high)),
        diagnosis=f"scores are off by {curve.error:.5f} on average, where calibrated ones would show "
        f"{expected.mean():.5f}; the {curve.rows[at]} scores near {curve.predicted[at]:.4f} came true in "
        f"{curve.observed[at]:.4f}",
        evidence={
            "calibration error": curve.error,
            "expected if calibrated": float(expected.mean()),
            "mean score": float(score_N.mean()),
            "share of positives": float(label_N.mean()),
            "predicted by bin": curve.predicted.tolist(),
            "observed by bin": curve.observed.tolist(),
        },
    )


def _same_rows(run: Run, main: Run) -> tuple[Scores, Scores, bool]:
    """Both arms on their common rows, and whether those are nearly all of either: dropped rows are no fair sample."""
    here, there = read_scores(run), read_scores(main)
    mine, its = on_common_rows(here, there)
    return mine, its, len(mine.id_N) >= COMMON_ROWS * max(len(here.id_N), len(there.id_N))


def _against(found: Loss, name: str, margin: float, plan: AgainstMain, evidence: dict[str, Any]) -> Reading:
    """The reading of one loss against main, with what would decide it where its interval holds the margin."""
    here, main, estimate = found.here, found.there, found.estimate
    counts = (
        f"{estimate.seeds} paired seeds"
        if found.lost_K is not None
        else f"{len(here.seeds)} and {len(main.seeds)} seeds"
    )
    diagnosis, remedy = f"{sentence(found, name, 'main')}; margin {margin:g}, {counts}", ""
    evidence = {
        "here by seed": here.by_seed(),
        "main by seed": main.by_seed(),
        "confidence of the interval": 1 - 2 * found.tail,
        **noise(estimate),
        **signs(found),
        **evidence,
    }
    if found.undecided(margin):
        told, numbers = outlook(found, margin, plan)
        diagnosis, evidence = f"{diagnosis}; {told}", evidence | numbers
        remedy = "raise against_main.max_seeds in gates.yaml, enlarge the test split, or accept a wider margin"
    return Reading(
        statistic=estimate.value,
        interval=found.interval,
        diagnosis=diagnosis,
        evidence=evidence,
        limit=margin,
        remedy=remedy,
        subject=f"{name}, {found.of}" if found.of else name,
    )


def _identical(scores: Scores, name: str, margin: float) -> Reading:
    same = f"identical: all {len(scores.seeds)} seeds score all {len(scores.id_N)} test rows as in main"
    return Reading(statistic=0.0, diagnosis=same, limit=margin, subject=name)


def _slices(scores: Scores) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Name of each slice, and the indices of its rows."""
    for column, value_N in scores.slices.items():
        for value in np.unique(value_N):
            yield f"{column}={value}", np.flatnonzero(value_N == value)


def _rarer(scores: Scores, inside_N: NDArray[np.intp]) -> bool:
    return scores.rows(inside_N).rarer >= SLICE_CLASS


def _arm(scores: Scores, name: str) -> Arm | None:
    """None where one class only leaves the metric without a meaning."""
    return scored(scores, name) if scores.rarer else None


def _tail(here: Arm, main: Arm, plan: AgainstMain) -> float:
    looks = statistics.looks(plan.seeds, plan.max_seeds)
    return statistics.tail_of_look(min(len(here.seeds), len(main.seeds)), looks, plan.confidence)


def _metric(name: str, demands: Policy) -> Metric:
    if name not in demands.metrics:
        raise ConfigError(f"metrics.{name}: not set", where=policy.FILE, fix=f"add {name} with a floor or a margin")
    return demands.metrics[name]


def _silent(subject: str, why: Reason, told: str = "") -> Reading:
    return replace(unmeasured(why, told), subject=subject)
