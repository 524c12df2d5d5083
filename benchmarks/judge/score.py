"""From times to rates: false and missed rollbacks, wrong promotions, and how long each rule took."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.judge import campaign, traffic
from benchmarks.judge.campaign import ALPHAS, AT_MARGIN, BETA, Line
from benchmarks.judge.traffic import Cell
from ci_tools.gates.statistics import wilson

OURS = tuple(f"Switchback at {alpha:.0%}" for alpha in ALPHAS)


class Rates(NamedTuple):
    """Of one rule in one cell."""

    rolled_back: float
    """Share of the releases."""
    minutes: float | None
    """Median over all releases, from the onset of an outage, before which a false alarm counts as negative; None where
    fewer than half were rolled back."""
    promoted: float
    """Share of the releases."""
    runs: int


def rates(lines: Sequence[Line]) -> dict[str, dict[str, Rates]]:
    """Per cell and rule.

    Of the judge, `rolled back` counts every release that it would have rolled back within the hour had it not been
    promoted before, which is what α bounds; and `promoted` every one that was proven before any rollback.
    """
    found: dict[str, dict[str, Rates]] = {}
    for cell in traffic.cells():
        of_cell = [line for line in lines if line["what"] == cell.name]
        merged: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for line in of_cell:
            for rule, times in line["rules"].items():
                for name, minutes in times.items():
                    merged[rule][name] += [math.inf if x is None else x for x in minutes]
        found[cell.name] = {rule: _rates(cell, times) for rule, times in merged.items()}
    return found


def _rates(cell: Cell, times: Mapping[str, list[float]]) -> Rates:
    rolled, promoted = times["rolled_back"], times["promoted"]
    onset = traffic.OUTAGE_MINUTE if cell.truth == "outage" else 0.0
    median = statistics.median(rolled) - onset
    return Rates(
        rolled_back=_share([x < math.inf for x in rolled]),
        minutes=round(median, 2) if math.isfinite(median) else None,
        promoted=_share([x < other for x, other in zip(promoted, rolled, strict=True)]),
        runs=len(rolled),
    )


def _share(said: Sequence[bool]) -> float:
    return round(sum(said) / len(said), 4)


def delays(lines: Sequence[Line]) -> dict[str, float | None]:
    """Mean of the event test's over the oracle's, per ratio and share; None where it once took too long to tell."""
    found: dict[str, float | None] = {}
    for line in lines:
        if line["what"].startswith("oracle"):
            known = [x for x in line["delays"] if x is not None]
            found[line["what"]] = round(statistics.fmean(known), 3) if len(known) == len(line["delays"]) else None
    return found


def claims(cells: Mapping[str, Mapping[str, Rates]], oracle: Mapping[str, float | None]) -> dict[str, Any]:
    """What the table shows in a few numbers, with 95 % intervals (Wilson).

    A level is exceeded where even the lower end of a cell's interval lies above it.
    """
    found: dict[str, Any] = {}
    for rule, alpha in zip(OURS, ALPHAS, strict=True):
        of_rule = {name: by_rule[rule] for name, by_rule in cells.items()}
        false = {name: _interval(of_rule[name].rolled_back, of_rule[name].runs) for name in _with(("none",))}
        wrong = {name: _interval(of_rule[name].promoted, of_rule[name].runs) for name in _with(AT_MARGIN)}
        for what, shares, level in (("false rollbacks", false, alpha), ("wrong promotions", wrong, BETA)):
            worst = max(shares, key=lambda name: shares[name])
            found[f"{rule}: largest share of {what}"] = [worst, *shares[worst]]
            found[f"{rule}: cells above {level:.0%} of {what}"] = [n for n, share in shares.items() if share[1] > level]
    found["event test over Wald's oracle, largest mean"] = max(one or math.inf for one in oracle.values())
    return found


def _with(truths: Sequence[str]) -> list[str]:
    """Names of the cells in which one of these is true."""
    return [cell.name for cell in traffic.cells() if cell.truth in truths]


def _interval(share: float, runs: int) -> tuple[float, ...]:
    """A share and the ends of its interval."""
    return tuple(round(value, 4) for value in (share, *wilson(round(share * runs), runs)))


def markdown(cells: Mapping[str, Mapping[str, Rates]], oracle: Mapping[str, float | None]) -> str:
    """Rolled back / median minutes per rule; promotions of the judge; delays over the oracle's."""
    rules = list(next(iter(cells.values())))
    lines = [f"| traffic, truth | {' | '.join(rules)} | promoted by {OURS[0]} |", "|---" * (len(rules) + 2) + "|"]
    for name, found in cells.items():
        shown = [f"{one.rolled_back:.3f} / {_minutes(one.minutes)}" for one in found.values()]
        lines.append(f"| {name} | {' | '.join(shown)} | {found[OURS[0]].promoted:.3f} |")
    lines += ["", f"| event test over Wald's oracle at {campaign.ORACLE_ALPHA:.0%} | mean |", "|---|---|"]
    lines += [f"| {name.removeprefix('oracle ')} (ratio, share) | {one} |" for name, one in oracle.items()]
    return "\n".join(lines)


def _minutes(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
