"""The judge on many releases at once: the product's own tests (ci_tools/release/judge/wealth.py), one row per release.

A test holds it against `update` and `decide`. R = releases, L = latency bins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.judge.traffic import BIN_SECONDS, LATENCY_BINS, Bin, Cell
from ci_tools.release.judge import Policy, latency, routing, wealth
from ci_tools.release.judge.budget import alphas, needed_evidence
from ci_tools.release.judge.mixture import log_total
from ci_tools.release.judge.state import terms
from ci_tools.release.judge.wealth import Outcomes, Requests

NO_BIN = Requests(0, 0, 0, 0.0, 0.0)
NO_OUTCOMES = Outcomes(0, 0, 0, 0)


class Times(NamedTuple):
    """When a rule first said so, in minutes, per release; infinite where it never did. [R]"""

    rolled_back: np.ndarray
    promoted: np.ndarray


def policy(cell: Cell, alpha: float, beta: float) -> Policy:
    """One kind of metric, with the whole budget."""
    quantiles = {"p95": {"quantile": 0.95}, "p99": {"quantile": 0.99}}
    return Policy.model_validate({
        "false_rollback": alpha, "wrong_promotion": beta, "flips": None, "shift": None, "labels": None,
        "events": {"errors": {}} if cell.kind == "errors" else {},
        "latency": quantiles if cell.kind == "latency" else {},
        "bin_seconds": BIN_SECONDS, "min_seconds": 0.0,
    })  # fmt: skip


class Judge:
    """Follows R releases under policies that differ in α; also what two tests would have said alone, at the first α."""

    def __init__(self, policies: Sequence[Policy], runs: int) -> None:
        self.rules = rules = policies[0]
        self.names = list(rules.metrics)
        self.terms = {name: terms(name, rules) for name in self.names}
        self.needed = [{name: needed_evidence(a) for name, a in alphas(one).items()} for one in policies]
        self.wealth = {name: wealth.begin(rules.burst_correlation, runs) for name in self.names}
        self.bad = {name: np.zeros((4, runs), dtype=np.int64) for name in self.names}
        self.requests, self.routing = np.zeros((3, runs), dtype=np.int64), routing.begin(runs)
        self.doubted = np.zeros(runs, dtype=bool)
        self.reference = np.zeros((runs, LATENCY_BINS), dtype=np.int64)
        self.thresholds = {name: np.full(runs, -1) for name in self.names}
        self.whole = [Times(*np.full((2, runs), np.inf)) for _ in policies]
        self.coin, self.robust = (Times(*np.full((2, runs), np.inf)) for _ in range(2))
        self.minutes = 0.0

    def see(self, one: Bin) -> None:
        """Close one bin."""
        self.minutes += BIN_SECONDS / 60
        self.requests += one.requests
        found, requests = self._outcomes(one), Requests(*one.requests, *one.weights)
        every, proofs = Requests(*self.requests, *one.weights), []
        self.routing = routing.step(self.routing, requests)
        self.doubted |= routing.doubted(self.routing)
        for name in self.names:
            self.bad[name] += found[name]
            self.wealth[name] = wealth.step(self.wealth[name], Outcomes(*found[name]), requests, self.terms[name])
            evidence = wealth.weigh(
                self.wealth[name], NO_OUTCOMES, NO_BIN, Outcomes(*self.bad[name]), every, self.terms[name], self.doubted
            )
            proofs.append(evidence.safe >= needed_evidence(self.rules.wrong_promotion))
            for times, needed in zip(self.whole, self.needed, strict=True):
                self._note(times.rolled_back, evidence.harm >= needed[name])
            enough = self.needed[0][name]
            self._note(self.robust.rolled_back, log_total(self.wealth[name].robust_harm_J) >= enough)
            self._note(self.coin.rolled_back, log_total(self.wealth[name].harm_KJ)[:, 0] >= enough)
        for times in self.whole:
            self._note(times.promoted, np.all(proofs, axis=0) & ~self.doubted)
        if one.releases:
            self._remember(one)

    def _note(self, minutes: np.ndarray, now: np.ndarray) -> None:
        minutes[now & np.isinf(minutes)] = self.minutes

    def _outcomes(self, one: Bin) -> dict[str, np.ndarray]:
        """Bad outcomes per metric: canary, canary against the margin, baseline, stable; [4, R]."""
        if not one.releases:
            return {self.names[0]: one.failures[[0, 0, 1, 2]]}
        return {f"latency.{short}": self._slow(one, short) for short in self.rules.latency}

    def _slow(self, one: Bin, short: str) -> np.ndarray:
        quantile, edge = self.rules.latency[short], self.thresholds[f"latency.{short}"]
        shifts = (latency.bins_up(quantile.tolerated_ratio), latency.bins_down(quantile.margin_ratio), 0, 0)
        rows = []
        for arm, shift in zip((0, 0, 1, 2), shifts, strict=True):
            which = one.releases[arm]
            slow = (one.places[arm] > edge[which] + shift) & (edge[which] >= 0)
            rows.append(np.bincount(which[slow], minlength=len(edge)))
        return np.array(rows)

    def _remember(self, one: Bin) -> None:
        """The reference and the next bin's thresholds, as latency.py has them."""
        runs = len(self.reference)
        for arm in (1, 2):
            places = one.releases[arm] * LATENCY_BINS + one.places[arm]
            self.reference += np.bincount(places, minlength=runs * LATENCY_BINS).reshape(runs, LATENCY_BINS)
        full = self.reference.sum(axis=1) > latency.REMEMBERED
        self.reference[full] //= 2
        total, below = self.reference.sum(axis=1), self.reference.cumsum(axis=1)
        for short, quantile in self.rules.latency.items():
            index = (below < quantile.quantile * total[:, None]).sum(axis=1)
            enough = total * (1 - quantile.quantile) >= latency.SLOW_NEEDED
            self.thresholds[f"latency.{short}"] = np.where(enough, index, -1)
