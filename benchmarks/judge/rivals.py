"""What others do, from their public documentation: four rules that look once a minute or more rarely.

Each is told per minute, of canary and baseline, and returns the minute of its rollback; one that never rolled back
promotes at the end of the hour. M = minutes, R = releases.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.judge.ours import Times
from benchmarks.judge.traffic import BIN_SECONDS, LATENCY_BINS, LOWEST, MINUTES, Bin
from ci_tools.release.judge import latency

Z_PEEK = 1.645
"""One-sided 5 %, as if one looked once."""
FLAGGER_FAILURES = 5
"""`threshold` of the documented example: failed checks, one a minute, until rollback."""
SUCCESS = 0.99
"""`request-success-rate` of the documented Flagger example; Argo's has 0.95, which would see nothing here."""
SLOWEST_MS = 500.0
"""`request-duration`, p99, of the documented Flagger example."""
ARGO_MINUTES, ARGO_FAILURES = 5, 3
"""`interval` and `failureLimit` of Argo Rollouts' documented AnalysisTemplate: more failures than that abort."""
KAYENTA_MINUTES, KAYENTA_FRACTION, KAYENTA_Z = 15, 0.25, 2.326
"""Lifetime per judgement; part of the Hodges-Lehmann estimate that the interval must clear; 98 % two-sided."""


class Minutes(NamedTuple):
    """What the rules see, [2, M, R], canary first."""

    requests: np.ndarray
    failures: np.ndarray
    p99: np.ndarray
    """Milliseconds; NaN without requests."""
    total_ms: np.ndarray
    squares_ms: np.ndarray


class Recorder:
    """Sums bins into minutes."""

    def __init__(self, runs: int) -> None:
        self.rows: list[np.ndarray] = []
        self.runs, self.per_minute = runs, round(60 / BIN_SECONDS)
        self._clear()

    def see(self, one: Bin) -> None:
        """Count one bin."""
        self.sums[0] += one.requests[:2]
        self.sums[1] += one.failures[:2]
        for arm, which in enumerate(one.releases[:2]):
            ms = one.milliseconds[arm]
            places = which * LATENCY_BINS + one.places[arm]
            self.histograms[arm] += np.bincount(places, minlength=self.histograms[arm].size).reshape(self.runs, -1)
            self.sums[3, arm] += np.bincount(which, ms, minlength=self.runs)
            self.sums[4, arm] += np.bincount(which, ms**2, minlength=self.runs)
        self.seen += 1
        if self.seen == self.per_minute:
            below = self.histograms.cumsum(axis=-1)
            index = (below < 0.99 * below[..., -1:]).sum(axis=-1)
            edges = 2.0 ** ((index + LOWEST + 1) / latency.BINS_PER_DOUBLING)
            self.sums[2] = np.where(below[..., -1] > 0, edges, np.nan)
            self.rows.append(self.sums)
            self._clear()

    def minutes(self) -> Minutes:
        """All whole minutes so far."""
        return Minutes(*np.stack(self.rows, axis=2))

    def _clear(self) -> None:
        self.sums = np.zeros((5, 2, self.runs))
        self.histograms = np.zeros((2, self.runs, LATENCY_BINS), dtype=np.int64)
        self.seen = 0


def z_peek(seen: Minutes, kind: str) -> np.ndarray:
    """A z-test of all data so far, repeated every minute at the level of a single look."""
    n = seen.requests.cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "errors":
            e = seen.failures.cumsum(axis=1)
            mean, pooled = e / n, e.sum(axis=0) / n.sum(axis=0)
            error = np.sqrt(pooled * (1 - pooled) * (1 / n).sum(axis=0))
        else:
            mean = seen.total_ms.cumsum(axis=1) / n
            error = np.sqrt(((seen.squares_ms.cumsum(axis=1) / n - mean**2) / n).sum(axis=0))
        return _first((mean[0] - mean[1]) / error > Z_PEEK)


def flagger(seen: Minutes, kind: str) -> np.ndarray:
    """Flagger: a fixed threshold every minute; failed checks add up and are never forgiven."""
    return _first(_bad(seen, kind, 1).cumsum(axis=0) >= FLAGGER_FAILURES)


def argo(seen: Minutes, kind: str) -> np.ndarray:
    """Argo Rollouts: a fixed threshold every five minutes; more failures than `failureLimit` abort."""
    return _first(_bad(seen, kind, ARGO_MINUTES).cumsum(axis=0) > ARGO_FAILURES) * ARGO_MINUTES


def kayenta(seen: Minutes, kind: str) -> np.ndarray:
    """Kayenta's judge: Mann–Whitney on the minutes' values so far, every 15 minutes.

    The canary fails if the lower end of the 98 % interval of the shift lies above a quarter of its estimate. The
    interval is the usual one by ordered differences, with the normal approximation of the rank sum.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.nan_to_num(seen.failures / seen.requests if kind == "errors" else seen.p99)
    failed = []
    for m in range(KAYENTA_MINUTES, MINUTES + 1, KAYENTA_MINUTES):
        differences = values[0, :m, None] - values[1, None, :m]
        ordered = np.sort(differences.reshape(m * m, -1), axis=0)
        rank = max(int(m * m / 2 - KAYENTA_Z * np.sqrt(m * m * (2 * m + 1) / 12)), 0)
        failed.append(ordered[rank] > KAYENTA_FRACTION * np.abs(np.median(ordered, axis=0)))
    return _first(np.array(failed)) * KAYENTA_MINUTES


RULES = {"z-test, peeking": z_peek, "Flagger": flagger, "Argo": argo, "Kayenta": kayenta}


def times(seen: Minutes, kind: str) -> dict[str, Times]:
    """Of every rule."""
    found = {name: rule(seen, kind) for name, rule in RULES.items()}
    return {name: Times(at, np.where(np.isinf(at), float(MINUTES), np.inf)) for name, at in found.items()}


def _bad(seen: Minutes, kind: str, window: int) -> np.ndarray:
    """Whether each window of minutes breaks its fixed threshold, [M / window, R]."""
    n = seen.requests[0].reshape(-1, window, seen.requests.shape[-1]).sum(axis=1)
    if kind == "latency":
        worst = np.nan_to_num(seen.p99[0]).reshape(-1, window, n.shape[-1]).mean(axis=1)
        return worst > SLOWEST_MS
    e = seen.failures[0].reshape(-1, window, n.shape[-1]).sum(axis=1)
    return e > (1 - SUCCESS) * n


def _first(said: np.ndarray) -> np.ndarray:
    """The first look, from 1, at which a rule said so; infinite where it never did."""
    return np.where(said.any(axis=0), said.argmax(axis=0) + 1.0, np.inf)
