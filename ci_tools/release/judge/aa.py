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

A tolerated θ of events.py stands for all down to the next smaller one, whose pools it covers. So it is excluded only
when several correlations in between are, too. The same correlation is taken to hold for canary and baseline; they are
pools of the same size.

H = hypotheses: first the tolerated correlations, one for θ = 0 and `WITHIN` for each further of the K; then the others.
"""

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ci_tools.release.judge.events import on_canary
from ci_tools.release.judge.mixture import F64, log_total

WITHIN = 3
"""Correlations that must all be ruled out before the one that stands for them is."""
LARGER = 0.6
"""A correlation beyond all that are tolerated."""
RATIOS = (0.5, 0.8, 1.25, 2.0)
"""Pools that differ."""


def tolerated(thetas: tuple[float, ...]) -> list[float]:
    """All correlations that are tried out, from 0 to the largest."""
    steps = [i / WITHIN for i in range(1, WITHIN + 1)]
    return [0.0, *(low + (high - low) * step for low, high in itertools.pairwise(thetas) for step in steps)]


def hypotheses(thetas: tuple[float, ...]) -> list[tuple[float, float]]:
    """Pairs (ratio, θ), the tolerated ones first."""
    alike = [(1.0, theta) for theta in tolerated(thetas)]
    beyond = max(LARGER, (1 + max(thetas)) / 2)
    unlike = [(ratio, theta) for ratio in RATIOS for theta in sorted({thetas[0], thetas[-1]})]
    return [*alike, (1.0, beyond), *unlike]


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


def exclude(log_likelihood_H: F64, thetas: tuple[float, ...], error: float) -> NDArray[np.bool_]:
    """Which of the K tolerated correlations the bins so far rule out, with those that they stand for, [..., K].

    Args:
        log_likelihood_H: sums over bins.
        thetas: the tolerated correlations.
        error: ε, the probability with which the true one may ever be ruled out.
    """
    mixed = log_total(log_likelihood_H) - np.log(log_likelihood_H.shape[-1])
    tried = 1 + WITHIN * (len(thetas) - 1)
    ruled_out = mixed[..., None] - log_likelihood_H[..., :tried] >= -np.log(error)
    cells = ruled_out[..., 1:].reshape(*ruled_out.shape[:-1], len(thetas) - 1, WITHIN)
    return np.concatenate([ruled_out[..., :1], cells.all(axis=-1)], axis=-1)
