"""Traffic for tests: observations with known truth, and how often a supermartingale may cross a line by chance."""

import math

import numpy as np

from ci_tools.release.judge import Arm, Observation, Policy, begin, update

EVENTS = ("errors", "timeouts", "invalid_outputs")


def few(**changes):
    """A policy with one event metric and nothing else."""
    return Policy.model_validate({"events": {"errors": {}}, "latency": {}, "flips": None, "shift": None,
                                  "labels": None, "min_seconds": 0.0, **changes})  # fmt: skip


def arm(requests, errors=0, names=("errors",), **rest):
    return Arm(requests=requests, events={name: errors if name == names[0] else 0 for name in names}, **rest)


def span(seconds, canary, baseline, stable=(0, 0), weight=0.1, names=("errors",), **rest):
    """One observation; arms are (requests, errors)."""
    return Observation(seconds=seconds, canary_weight=weight, baseline_weight=weight, canary=arm(*canary, names),
                       baseline=arm(*baseline, names), stable=arm(*stable, names), **rest)  # fmt: skip


def play(observations, policy):
    state = begin(policy)
    for observation in observations:
        state = update(state, observation, policy)
    return state


def traffic(rng, policy, bins, per_bin, rates, weight=0.1):
    """Random spans of one bin each; `rates` of canary, baseline and stable are numbers or functions of the bin."""
    for index in range(bins):
        arms = []
        for rate, factor in zip(rates, (1, 1, (1 - 2 * weight) / weight), strict=True):
            n = int(rng.poisson(per_bin * factor))
            arms.append((n, int(rng.binomial(n, rate(index) if callable(rate) else rate))))
        yield span((index + 1) * policy.bin_seconds, *arms, weight=weight)


def at_most(count, trials, probability):
    """Whether a count is compatible with so small a probability: within four standard errors."""
    return count <= trials * probability + 4 * math.sqrt(trials * probability * (1 - probability))


def mean_at_most_one(e_values):
    """Whether the mean of e-values is compatible with 1 at most: within four standard errors."""
    e = np.asarray(e_values)
    return e.mean() <= 1 + 4 * e.std() / math.sqrt(len(e)) + 1e-12
