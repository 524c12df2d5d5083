"""The traffic that all rules are shown: an hour per release, in bins of five seconds, many releases at once.

Arms come in the order canary, baseline, stable. R = releases, N = requests of one bin, over all releases.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ci_tools.release.judge import latency

BIN_SECONDS = 5.0
MINUTES = 60
BINS = round(MINUTES * 60 / BIN_SECONDS)
BASE_RATE = 0.005
"""Share of requests that fail in a healthy pool."""
CORRELATION = 0.002
"""Of two requests' failures within a bin and pool, where failures come in bursts."""
MEDIAN_MS, SPREAD = 100.0, 0.4
"""Of a lognormal latency: its p99 is 254 ms."""
TAIL, TAIL_MS = 0.02, 300.0
"""Share of requests that a slow tail delays, and by how much."""
HICCUP = 0.1
"""Standard deviation of the log of a pool's slowness per bin, where latency comes in bursts."""
WEIGHTS = ((0.02, 0.1), (0.1, 0.1), (0.25, 0.1), (0.05, 0.1), (0.2, 0.2), (0.1, 0.1))
"""Of canary and baseline, ten minutes each, where weights change."""
EVEN = (0.1, 0.1)
OUTAGE_MINUTE = 30.0
"""When the canary begins to fail every request, where it does."""
LOWEST = latency.bin_of(5.0)
LATENCY_BINS = latency.bin_of(20_000.0) - LOWEST
Counts = np.ndarray
"""[3, R] per arm and release."""


@dataclass(frozen=True)
class Cell:
    """One truth at one volume."""

    kind: str
    """`errors` or `latency`: what the rules judge by."""
    truth: str
    """What the canary does: `none`, `x1.5` …, `outage`, `+10 %` …, `tail`."""
    shape: str
    """What the traffic does: `flat`, `bursts`, `weights`, `diurnal`, `silent`."""
    per_minute: int
    """Requests to the canary, and to the baseline, at even weights."""

    @property
    def factor(self) -> float:
        """Of the canary's failure rate, or of its latency."""
        if self.truth.startswith("x"):
            return float(self.truth[1:])
        return 1 + float(self.truth[1:-2]) / 100 if self.truth.startswith("+") else 1.0

    @property
    def name(self) -> str:
        """Unique, and stable from run to run: it seeds the traffic."""
        return f"{self.kind} {self.truth} {self.shape} {self.per_minute}"


class Bin(NamedTuple):
    """What one bin brought."""

    requests: Counts
    failures: Counts
    weights: tuple[float, float]
    """Of canary and baseline."""
    releases: tuple[np.ndarray, ...]
    """Per arm, the release of every request, [N]; empty where latency is not judged."""
    milliseconds: tuple[np.ndarray, ...]
    """Per arm, the latency of every request, [N]."""
    places: tuple[np.ndarray, ...]
    """Per arm, the histogram bin of every request, counted from `LOWEST`, [N]."""


def cells() -> list[Cell]:
    """All of the campaign."""
    found = []
    for n in (20, 200, 2000):
        found += [Cell("errors", truth, "flat", n) for truth in ("none", "x1.5", "x2", "x5", "outage")]
        found += [
            Cell("errors", truth, shape, n) for shape in ("bursts", "weights") for truth in ("none", "x1.5", "x2")
        ]
        found += [Cell("errors", truth, "diurnal", n) for truth in ("none", "x2")]
        found += [Cell("latency", truth, "flat", n) for truth in ("none", "+10 %", "+20 %", "+25 %", "tail")]
        found += [Cell("latency", truth, shape, n) for shape in ("bursts", "diurnal") for truth in ("none", "+20 %")]
    return [*found, Cell("errors", "none", "silent", 200)]


def bins(cell: Cell, runs: int, seed: int) -> Iterator[Bin]:
    """The hour of `runs` releases; law: the same cell, number and seed give the same traffic."""
    rng = np.random.default_rng([seed, *cell.name.encode()])
    for index in range(BINS):
        hour = math.sin(2 * math.pi * index / BINS) if cell.shape == "diurnal" else 0.0
        canary, baseline = _weights(cell, index)
        volume = cell.per_minute * BIN_SECONDS / 60 * (1 + 0.8 * hour) / EVEN[0]
        sent = 0.0 if cell.shape == "silent" else canary
        per_arm = volume * np.array([[sent], [baseline], [1 - canary - baseline]])
        requests = rng.poisson(per_arm, (3, runs))
        failures = rng.binomial(requests, _failure_rates(cell, rng, runs, index, hour))
        releases = tuple(np.repeat(np.arange(runs), n) for n in requests) if cell.kind == "latency" else ()
        slowness = tuple(_slowness(cell, rng, arm, runs, hour).astype(np.float32) for arm in range(3))
        milliseconds = tuple(
            slowness[arm][which] * _latencies(cell, rng, arm, len(which)) for arm, which in enumerate(releases)
        )
        places = tuple(map(_places, milliseconds))
        yield Bin(requests, failures, (canary, baseline), releases, milliseconds, places)


def _weights(cell: Cell, index: int) -> tuple[float, float]:
    if cell.kind == "latency":
        return (1 / 3, 1 / 3)  # three pools of one size: single requests are drawn, which takes time
    return WEIGHTS[index * len(WEIGHTS) // BINS] if cell.shape == "weights" else EVEN


def _failure_rates(cell: Cell, rng: np.random.Generator, runs: int, index: int, hour: float) -> np.ndarray:
    """Of every arm and release in one bin, [3, R]."""
    rate = np.full((3, runs), BASE_RATE * (1 + 0.8 * hour))
    if cell.kind == "errors":
        rate[0] *= cell.factor
    if cell.shape == "bursts" and cell.kind == "errors":
        concentration = 1 / CORRELATION - 1
        rate = rng.beta(rate * concentration, (1 - rate) * concentration)
    if cell.truth == "outage" and index * BIN_SECONDS >= OUTAGE_MINUTE * 60:
        rate[0] = 1.0
    return rate


def _slowness(cell: Cell, rng: np.random.Generator, arm: int, runs: int, hour: float) -> np.ndarray:
    """Factor of the latency of one arm, per release."""
    factor = (1 + 0.5 * hour) * (cell.factor if arm == 0 and cell.kind == "latency" else 1.0)
    return factor * np.exp(HICCUP * rng.normal(size=runs)) if cell.shape == "bursts" else np.full(runs, factor)


def _latencies(cell: Cell, rng: np.random.Generator, arm: int, n: int) -> np.ndarray:
    milliseconds: np.ndarray = MEDIAN_MS * np.exp(SPREAD * rng.standard_normal(n, dtype=np.float32))
    if arm == 0 and cell.truth == "tail":
        milliseconds += TAIL_MS * (rng.random(n) < TAIL)
    return milliseconds


def _places(milliseconds: np.ndarray) -> np.ndarray:
    """latency.bin_of of many, counted from LOWEST."""
    index = np.ceil(latency.BINS_PER_DOUBLING * np.log2(milliseconds)).astype(np.int64) - 1 - LOWEST
    return np.clip(index, 0, LATENCY_BINS - 1)
