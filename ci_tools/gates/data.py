"""Data against that of the base revision: columns, ranges, missing values and distributions.

Without a base revision the test split is compared with the train split. The two may differ because time went by, so
the interval of what a change of the data did then begins at 0: such a difference is inconclusive at worst.

B = bins of a histogram, n and m = rows of the old and the new side.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ci_tools.gates import columns
from ci_tools.gates.columns import Histogram, Pair
from ci_tools.gates.counts import upper_tail
from ci_tools.gates.reasons import Reason
from ci_tools.gates.run import Baseline, Run
from ci_tools.gates.verdict import Reading, gate, unmeasured

CHANCE = 0.001
"""Probability that sampling noise fakes an effect, over all columns of a gate."""
FREQUENT = 0.01
"""Share of the train rows from which on a category that comes or goes changes the schema."""
SHOWN = 5
"""Columns in the evidence."""


class Difference(NamedTuple):
    """How far one column differs."""

    column: str
    split: str
    size: float
    low: float
    """Lower end of where the size may lie."""
    high: float
    sentence: str
    numbers: Mapping[str, float]


@gate(
    limit=0,
    unit="changes",
    remedy="undo the change upstream; if it is meant, allow it in gates.yaml (gates.schema_changed.limit)",
)
def schema_changed(run: Run, baseline: Baseline) -> Reading:
    """Columns added, removed, or of another type or unit; another label or time; categories that came or went.

    A category counts from one in a hundred train rows on: rarer ones come and go with every sample.
    """
    if baseline.run is None:
        return unmeasured(baseline.reason, f"there is no schema to compare with: {baseline.why_not}")
    changes = [*_property_changes(baseline.run, run), *_category_changes(baseline.run, run)]
    more = f", and {len(changes) - 1} more changes" if len(changes) > 1 else ""
    return Reading(
        statistic=float(len(changes)),
        diagnosis=f"the schema changed: {changes[0]}{more}" if changes else "the schema is that of the base revision",
        evidence={"changes": changes, "source": "data/schema.json"},
    )


@gate(
    limit=0.01,
    unit="share of rows",
    remedy="look at the unit and the source of the named column; repair the values, or retrain if they are right",
)
def ranges(run: Run, baseline: Baseline) -> Reading:
    """Share of rows with a value outside the range of the baseline's rows, in the worst numeric column.

    The share of exchangeable rows outside the range of n others is Beta(2, n − 1), so that their count is
    beta-binomial. A count that this explains, at 0.001 over all columns, is no evidence: its interval begins at 0.
    """
    compared = [(pair, list(pair.values())) for pair in columns.pairs(run, baseline)]
    chance = CHANCE / max(sum(len(values) for _, values in compared), 1)
    found = [
        _outside(pair, name, old, new, chance)
        for pair, values in compared
        for name, old, new in values
        if len(old) > 1 and len(new)
    ]
    return _worst(found, baseline)


@gate(
    limit=0.05,
    unit="share of rows",
    remedy="repair the source of the named column, or fill its gaps the way they were filled for the base revision",
)
def missing_values(run: Run, baseline: Baseline) -> Reading:
    """Change in a column's share of missing values, up or down; see `share_interval`."""
    found = []
    for pair, name, old, new, z in _compared(run, baseline):
        low, high = share_interval(old.missing, old.known, new.missing, new.known, z)
        p, q = new.missing_share, old.missing_share
        sentence = f"{name} is missing in {p:.2%} of the {pair.new_split} rows; in {q:.2%} of {pair.against}"
        found.append(
            Difference(name, pair.new_split, abs(p - q), low, high, sentence, {"missing": p, "baseline_missing": q})
        )
    return _worst(found, baseline)


@gate(
    limit=0.25,
    unit="PSI",
    remedy="find out what changed in the source of the named column; if the change stays, train on rows from after it",
)
def drift(run: Run, baseline: Baseline) -> Reading:
    """Population stability index of the column that drifted most surely; see `stability_index`.

    The custom is to call 0.1 a moderate shift and 0.25 a major one (Siddiqi 2006). Missing values do not count here.
    """
    found = []
    for pair, name, old, new, z in _compared(run, baseline):
        if not (old.known and new.known):
            continue
        size, error = stability_index(old.counts_B, new.counts_B)
        numbers: dict[str, float] = {"rows": new.known, "baseline_rows": old.known, "bins": len(old.counts_B)}
        if not new.numeric:
            numbers["other_categories"] = float(new.counts_B[-1] / new.known)
        sentence = f"{name} of the {pair.new_split} rows has a PSI of {max(size, 0.0):.3f} to {pair.against}"
        low, high = (max(size + side * z * error, 0.0) for side in (-1, 1))
        found.append(Difference(name, pair.new_split, max(size, 0.0), low, high, sentence, numbers))
    return _worst(found, baseline)


def stability_index(old_B: NDArray[np.int64], new_B: NDArray[np.int64]) -> tuple[float, float]:
    """PSI = Σ (p − q) ln(p/q) between two histograms, less what sampling noise makes of it; and its standard error.

    Every bin counts half a row more than it holds, so that an empty one stays finite (Krichevsky and Trofimov 1981);
    bins that are empty on both sides do not count. Without drift the index is (1/n + 1/m) times a χ² variable with
    B − 1 degrees of freedom (Yurdakul 2018): its mean is taken off, its variance is added to that of the delta method.
    Equal histograms differ by nothing: (0, 0).
    """
    if np.array_equal(old_B, new_B):
        return 0.0, 0.0
    some = (old_B + new_B) > 0
    bins, n, m = int(some.sum()), int(old_B.sum()), int(new_B.sum())
    q, p = ((counts[some] + 0.5) / (counts.sum() + 0.5 * bins) for counts in (old_B, new_B))
    log_ratio, noise = np.log(p / q), 1 / n + 1 / m
    slope_p, slope_q = log_ratio + 1 - q / p, 1 - p / q - log_ratio
    without_drift = 2 * (bins - 1) * noise**2
    # The slopes are noisy themselves, which alone makes the delta method see twice the variance without drift.
    drifted = _variance(p, slope_p) / m + _variance(q, slope_q) / n - 2 * without_drift
    variance = without_drift + max(drifted, 0.0)
    return float(((p - q) * log_ratio).sum()) - (bins - 1) * noise, math.sqrt(variance)


def share_interval(hits: int, misses: int, new_hits: int, new_misses: int, z: float) -> tuple[float, float]:
    """Where the distance of two proportions may lie; equal counts differ by nothing: (0, 0).

    Source: Agresti and Caffo (2000), who add one hit and one miss to each side of Wald's interval.
    """
    if (hits, misses) == (new_hits, new_misses):
        return 0.0, 0.0
    n, m = hits + misses + 2, new_hits + new_misses + 2
    q, p = (hits + 1) / n, (new_hits + 1) / m
    error = z * math.sqrt(q * (1 - q) / n + p * (1 - p) / m)
    return max(abs(p - q) - error, 0.0), abs(p - q) + error


def _variance(share_B: NDArray[np.float64], slope_B: NDArray[np.float64]) -> float:
    """Of a function of one draw's category, from its slope in each share."""
    return float((share_B * slope_B**2).sum() - (share_B * slope_B).sum() ** 2)


def _compared(run: Run, baseline: Baseline) -> Iterator[tuple[Pair, str, Histogram, Histogram, float]]:
    """Every column of every pair, with the standard errors that noise stays within over all of them."""
    found = [(pair, *column) for pair in columns.pairs(run, baseline) for column in pair.columns()]
    z = NormalDist().inv_cdf(1 - CHANCE / max(len(found), 1) / 2)
    for one in found:
        yield (*one, z)


def _outside(pair: Pair, name: str, old: NDArray[np.float64], new: NDArray[np.float64], chance: float) -> Difference:
    lowest, highest = float(old.min()), float(old.max())
    count = int(((new < lowest) | (new > highest)).sum())
    share = count / len(new)
    expected = upper_tail(count, len(new), 2, len(old) - 1)
    sentence = (
        f"{count:,} of {len(new):,} {pair.new_split} rows ({share:.2%}) have {name} outside "
        f"{lowest:g} to {highest:g}, the range of {pair.against}"
    )
    numbers = {"rows": count, "lowest": float(new.min()), "highest": float(new.max()),
               "baseline_lowest": lowest, "baseline_highest": highest}  # fmt: skip
    return Difference(name, pair.new_split, share, share if expected < chance else 0.0, share, sentence, numbers)


def _worst(found: Iterable[Difference], baseline: Baseline) -> Reading:
    """The column that differs most surely; without a base revision nothing is sure."""
    ranked = sorted(found, key=lambda one: (-one.low, -one.size))
    if not ranked:
        why = baseline.why_not or "none is in both revisions"
        return unmeasured(Reason.NO_COLUMN, f"{Reason.NO_COLUMN.sentence} ({why})")
    worst = ranked[0]
    shown = [{"column": one.column, "split": one.split, "size": one.size, **one.numbers} for one in ranked[:SHOWN]]
    return Reading(
        statistic=worst.size,
        interval=(worst.low if baseline.run else 0.0, worst.high),
        diagnosis=(worst.sentence if worst.size else "no column differs")
        + ("" if baseline.run else f" (test against train, because {baseline.why_not})"),
        evidence={"columns": shown, "source": "data/profile.json"},
        reason=None if baseline.run else baseline.reason,
    )


def _property_changes(old_run: Run, new_run: Run) -> Iterator[str]:
    old, new = columns.described(old_run), columns.described(new_run)
    for name in sorted(old.keys() | new.keys()):
        if name not in new or name not in old:
            yield f"{name} was {'removed' if name in old else 'added'}"
            continue
        for key in sorted(old[name].keys() & new[name].keys()):
            if old[name][key] != new[name][key]:
                yield f"{key} of {name}: {old[name][key]} → {new[name][key]}"


def _category_changes(old_run: Run, new_run: Run) -> Iterator[str]:
    sides = [(columns.categories(run), columns.histograms(run, "train")) for run in (old_run, new_run)]
    (old, _), (new, _) = sides
    for name in (name for name in old if name in new):
        for (_, frequent), other, verb in ((sides[1], old, "new"), (sides[0], new, "gone")):
            column = frequent[name]
            shares = zip(column.bins, column.counts_B / max(column.known, 1), strict=False)
            for category, share in shares:
                if share >= FREQUENT and category not in other[name]:
                    yield f"category {category} of {name} is {verb} ({share:.1%} of the rows)"
