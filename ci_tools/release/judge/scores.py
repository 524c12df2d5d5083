"""Scores: how far their mean moved, and how often mirrored requests are decided differently.

**Shift.** With random routing at share w, each answer gives an unbiased view of the difference of the arms' means:

    z = (x − m)/w of the canary,  z = −(x − m)/(1 − w) of the baseline,     E[z] = mean_c − mean_b for any m

that was fixed before (inverse probability weighting; m, the mean score so far, makes z less variable). Betting on its
mean (mean.py) takes histograms as they come, and holds whatever the traffic is like, since it rests on the routing
alone. A new model is meant to move scores: harm is a shift beyond what is tolerated, up or down, at half the evidence
each; safe is a shift proven to be smaller than the margin on both sides, by the weaker of the two proofs.

**Flips.** Mirrored requests are scored by both models. The share of different decisions is a proportion: no need for
betting on a difference of two arms, and no noise from different requests.
"""

from collections.abc import Mapping

import numpy as np

from ci_tools.release.judge import mixture, proportion
from ci_tools.release.judge.followed import Followed
from ci_tools.release.judge.mean import FRACTIONS, Sample, log_factors
from ci_tools.release.judge.mixture import log_total
from ci_tools.release.judge.observation import SCORE_BINS
from ci_tools.release.judge.policy import Flips, Shift
from ci_tools.release.judge.wealth import Evidence, combine

FLAT = tuple(mixture.prior(len(FRACTIONS)).tolist())
UP, DOWN = 1.0, -1.0


class FlipState(Followed):
    """Counts; they are all that the evidence needs."""

    pairs: int = 0
    flips: int = 0


class ShiftState(Followed):
    """Log wealth of the bets, and each arm's scores."""

    harm_up: tuple[float, ...] = FLAT
    harm_down: tuple[float, ...] = FLAT
    safe_up: tuple[float, ...] = FLAT
    """That the shift is less than the margin."""
    safe_down: tuple[float, ...] = FLAT
    canary: Sample = Sample()
    baseline: Sample = Sample()
    centre: float = 0.5
    """m of the open bin."""


def flip_evidence(state: FlipState, policy: Flips) -> Evidence:
    """That flips are more frequent than tolerated; that they are rarer than the margin."""
    return Evidence(
        harm=proportion.log_e_above(state.flips, state.pairs, policy.tolerated),
        safe=proportion.log_e_below(state.flips, state.pairs, policy.margin),
    )


def shift_evidence(state: ShiftState, doubted: bool = False) -> Evidence:
    """That scores moved by more than is tolerated; that they moved by less than the margin.

    Args:
        state: of the bets.
        doubted: whether requests contradict the weights, on which the bets rest; then there is no evidence.
    """
    if doubted:
        return Evidence(harm=np.array(-np.inf), safe=np.array(-np.inf))
    up, down, safe_up, safe_down = (
        log_total(np.array(wealth)) for wealth in (state.harm_up, state.harm_down, state.safe_up, state.safe_down)
    )
    return Evidence(harm=combine((0.5, up), (0.5, down)), safe=np.minimum(safe_up, safe_down))


def add_scores(
    state: ShiftState, canary: Mapping[int, int], baseline: Mapping[int, int], share: float, policy: Shift
) -> ShiftState:
    """Bet on two histograms of scores that were routed with the canary at `share`, in (0, 1)."""
    gain, count = _views(canary, baseline, share, state.centre)
    m, w = state.centre, share
    loss = {UP: max(m / w, (1 - m) / (1 - w)), DOWN: max((1 - m) / w, m / (1 - w))}

    def bet(wealth: tuple[float, ...], sign: float, offset: float) -> tuple[float, ...]:
        factors = log_factors(sign * gain - offset, count, loss[sign] + offset)
        return tuple((np.array(wealth) + factors).tolist())

    return state.model_copy(update={
        "harm_up": bet(state.harm_up, UP, policy.tolerated),
        "harm_down": bet(state.harm_down, DOWN, policy.tolerated),
        "safe_up": bet(state.safe_up, DOWN, -policy.margin),
        "safe_down": bet(state.safe_down, UP, -policy.margin),
        "canary": state.canary.add(*_middles(canary), first_guess=0.5),
        "baseline": state.baseline.add(*_middles(baseline), first_guess=0.5),
    })  # fmt: skip


def centred(state: ShiftState) -> ShiftState:
    """For the next bin: m becomes the mean of all scores so far."""
    n = state.canary.n + state.baseline.n
    return state.model_copy(update={"centre": (state.canary.total + state.baseline.total) / n}) if n else state


def shift_interval(state: ShiftState, error: float) -> tuple[float, float]:
    """Of the canary's mean score minus the baseline's."""
    low, high = state.canary.interval((0.0, 1.0), error / 2)
    low_b, high_b = state.baseline.interval((0.0, 1.0), error / 2)
    return low - high_b, high - low_b


def _views(canary: Mapping[int, int], baseline: Mapping[int, int], share: float, centre: float) -> tuple[
    np.ndarray, np.ndarray
]:  # fmt: skip
    """The values z and how often each came."""
    (x_c, n_c), (x_b, n_b) = _middles(canary), _middles(baseline)
    return np.concatenate([(x_c - centre) / share, (centre - x_b) / (1 - share)]), np.concatenate([n_c, n_b])


def _middles(histogram: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    bins, counts = np.array(sorted(histogram.items()), dtype=np.float64).reshape(-1, 2).T
    return (bins + 0.5) / SCORE_BINS, counts
