"""The live A/A judge: baseline against stable, two pools with the same model.

They differ only in what pools differ in without a reason. So they tell, while a release runs, whether an event's arm is
the coin that events.py takes it for. Per bin the baseline's events, given those of both pools, are Pólya draws with
mean v (the baseline's share of the two pools' traffic) and correlation θ. For each θ that the policy tolerates

    F_θ = Σ_h π_h L_h / L_θ,     h over all tolerated θ, larger θ, and pools that differ by a ratio

is an e-value against it: where F_θ reaches 1/ε, θ is excluded for good, and the true one is excluded with probability ε
at most (Ville). What is left is a confidence set that holds at all times. It may lose its large members (the pools are
calm, so the fast test may act at full strength), its small ones (there are bursts: the fast test must allow for
them), or all. Then pools differ by more than the policy foresees: the judge has *fired*, and only the robust test,
which needs no coin, may act.

The same correlation is taken to hold for canary and baseline; they are pools of the same size.

H = hypotheses, of which the first K are the tolerated ones.
"""

import numpy as np
from numpy.typing import ArrayLike

from ci_tools.release.judge.events import on_canary
from ci_tools.release.judge.mixture import F64, log_total

LARGER = 0.6
"""A correlation beyond all that are tolerated."""
RATIOS = (0.5, 0.8, 1.25, 2.0)
"""Pools that differ."""


def hypotheses(thetas: tuple[float, ...]) -> list[tuple[float, float]]:
    """Pairs (ratio, θ), the tolerated ones first."""
    tolerated = [(1.0, theta) for theta in thetas]
    beyond = max(LARGER, (1 + max(thetas)) / 2)
    return [
        *tolerated,
        (1.0, beyond),
        *((ratio, theta) for ratio in RATIOS for theta in sorted({thetas[0], thetas[-1]})),
    ]


def log_likelihoods(baseline: ArrayLike, stable: ArrayLike, share: float, thetas: tuple[float, ...]) -> F64:
    """Of one bin's events under every hypothesis, [..., H], but for the binomial coefficient that all share.

    Args:
        baseline: events in the bin.
        stable: events in the bin.
        share: of the baseline in the traffic of both, in (0, 1).
        thetas: the tolerated correlations.
    """
    from scipy.special import gammaln

    b, s = (np.asarray(count, dtype=np.float64) for count in (baseline, stable))
    columns = []
    for ratio, theta in hypotheses(thetas):
        p = float(on_canary(ratio, share))
        if theta:
            m = 1 / theta - 1
            columns.append(
                gammaln(p * m + b) - gammaln(p * m) + gammaln((1 - p) * m + s) - gammaln((1 - p) * m)
                - gammaln(m + b + s) + gammaln(m)
            )  # fmt: skip
        else:
            columns.append(b * np.log(p) + s * np.log1p(-p))
    return np.stack(columns, axis=-1)


def exclude(log_likelihood_H: F64, thetas: tuple[float, ...], error: float) -> np.ndarray:
    """Which of the K tolerated correlations the bins so far rule out, [..., K] of bool.

    Args:
        log_likelihood_H: sums over bins.
        thetas: the tolerated correlations.
        error: ε, the probability with which the true one may ever be ruled out.
    """
    hypothesis_count = log_likelihood_H.shape[-1]
    mixed = log_total(log_likelihood_H) - np.log(hypothesis_count)
    ruled_out: np.ndarray = mixed[..., None] - log_likelihood_H[..., : len(thetas)] >= -np.log(error)
    return ruled_out
