"""The loss of quality of one arm against another: how large, how sure, and what would make it surer.

K = seeds, N = test rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.errors import DataError
from ci_tools.gates import statistics
from ci_tools.gates.metrics import METRICS
from ci_tools.gates.policy import AgainstMain
from ci_tools.gates.run import Run
from ci_tools.gates.scores import Scores
from ci_tools.gates.statistics import Estimate

F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One metric of one run's seeds."""

    seeds: tuple[int, ...]
    value_K: F64
    derivative_KN: F64
    """By the weight of each test row; [K, 0] where the metric is not computed from scores."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(self.value_K.mean())

    def only(self, seeds: Sequence[int]) -> "Arm":
        """The same for some of its seeds, in this order."""
        order = [self.seeds.index(seed) for seed in seeds]
        return Arm(seeds=tuple(seeds), value_K=self.value_K[order], derivative_KN=self.derivative_KN[order])

    def by_seed(self) -> dict[str, float]:
        """Each seed's value."""
        return {str(seed): float(value) for seed, value in zip(self.seeds, self.value_K, strict=True)}


def scored(scores: Scores, metric: str) -> Arm:
    """A metric of `METRICS`, from scores with both classes."""
    measured = [METRICS[metric](scores.label_N, score_N) for score_N in scores.score_KN]
    return Arm(
        seeds=scores.seeds,
        value_K=np.array([one.value for one in measured]),
        derivative_KN=np.stack([one.derivative_N for one in measured]),
    )


def recorded(run: Run, metric: str) -> Arm:
    """A metric that the training loop handed to the recorder; nothing is known about its rows.

    Raises:
        RecordError: a record is missing, damaged or unfinished.
        DataError: a record does not hold the metric.
    """
    values = [record.metrics.get(metric) for record in run.records]
    for seed, value in zip(run.seeds, values, strict=True):
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise DataError(
                f"the record of seed {seed} holds no metric {metric}",
                where=run.root,
                rule=f"a metric is {', '.join(METRICS)}, or one that training hands to the recorder's `finish`",
                fix="correct its name in gates.yaml, or record it",
            )
    return Arm(seeds=run.seeds, value_K=np.array(values, np.float64), derivative_KN=np.zeros((len(values), 0)))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What one arm lost against the other, in the metric's unit; negative where it gained."""

    of: str
    """Slice or model, where there are several."""
    here: Arm
    there: Arm
    estimate: Estimate
    lost_K: F64 | None
    """Of each seed; None where the arms have no two seeds in common."""
    tail: float
    """Error on each side of the interval."""
    among: int
    """Comparisons of which this may be shown as the worst: the error of failing one of them is theirs together."""

    @property
    def interval(self) -> tuple[float, float]:
        """Its lower end must convince before anything fails, its upper end before anything passes."""
        low = self.estimate.value - self.estimate.reach(self.tail / self.among)
        return low, self.estimate.value + self.estimate.reach(self.tail)

    def undecided(self, margin: float) -> bool:
        """Whether the interval holds the margin."""
        low, high = self.interval
        return low <= margin < high


def loss(here: Arm, there: Arm, higher_is_better: bool, tail: float, *, of: str = "", among: int = 1) -> Loss:
    """The loss of `here` against `there`: paired over the seeds that both have, Welch's with fewer than two of them."""
    sign, lost_K = 1.0 if higher_is_better else -1.0, None
    common = [seed for seed in here.seeds if seed in there.seeds]
    if len(common) > 1:
        here, there = here.only(common), there.only(common)
        lost_K = sign * (there.value_K - here.value_K)
        estimate = statistics.mean(lost_K, there.derivative_KN - here.derivative_KN)
    else:
        estimate = statistics.difference(
            sign * there.value_K, sign * here.value_K, there.derivative_KN, here.derivative_KN
        )
    return Loss(of=of, here=here, there=there, estimate=estimate, lost_K=lost_K, tail=tail, among=among)


def worst(found: Sequence[Loss], margin: float) -> Loss:
    """The one that decides: the surest beyond the margin if any is, otherwise the one that might be worst."""
    surest = max(found, key=lambda one: one.interval[0])
    return surest if surest.interval[0] > margin else max(found, key=lambda one: one.interval[1])


def sentence(found: Loss, name: str, other: str) -> str:
    """Who is ahead, by how much, and within which bounds."""
    value, (low, high) = found.estimate.value, found.interval
    of = f" on {found.of}" if found.of else ""
    moved = "lost" if value > 0 else "gained"
    return (
        f"{name}{of} {moved} {abs(value):.4f} against {other} ({found.here.mean:.4f} here, {found.there.mean:.4f} "
        f"there), truly a loss of {low:.4f} to {high:.4f}"
    )


def outlook(found: Loss, margin: float, plan: AgainstMain) -> tuple[str, dict[str, Any]]:
    """For an interval that holds the margin: what could have been detected, and what would decide; also as evidence."""
    tail, estimate = found.tail / found.among, found.estimate
    detectable, needed = estimate.detectable(margin, tail), estimate.seeds_needed(margin, tail)
    evidence: dict[str, Any] = {"detectable loss": detectable, "seeds needed": needed}
    later = [n for n in statistics.looks(plan.seeds, plan.max_seeds) if n > estimate.seeds]
    # Of many slices some are always too noisy to tell: they alone are not worth training for.
    useful = found.among == 1 or (needed is not None and needed <= plan.max_seeds)
    # Nor is what its rows alone would leave undecided, even if further seeds moved it by a standard error.
    if later and useful and abs(estimate.value - margin) + estimate.error > estimate.row_reach(tail):
        evidence["seeds wanted"] = later[0]
    need = f"about {needed} seeds" if needed else "more test rows, since no number of seeds is enough"
    power = f"{statistics.POWER:.0%}"
    return f"a loss of {detectable:.4f} would fail in {power} of cases, and the margin needs {need}", evidence


def noise(estimate: Estimate) -> dict[str, float | None]:
    """Where the width of an interval comes from."""
    return {
        "standard error": estimate.error,
        "of which seeds": estimate.seed_variance**0.5,
        "of which test rows": estimate.row_variance**0.5,
        "degrees of freedom": estimate.freedom if np.isfinite(estimate.freedom) else None,
    }


def signs(found: Loss) -> dict[str, float]:
    """How many seeds lost and won, with the one-sided sign test; nothing where they are not paired."""
    if found.lost_K is None:
        return {}
    worse, better = int(np.sum(found.lost_K > 0)), int(np.sum(found.lost_K < 0))
    return {"seeds worse": worse, "seeds better": better, "sign test": statistics.sign_test(worse, better)}
