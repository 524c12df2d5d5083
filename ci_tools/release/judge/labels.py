"""Delayed labels: is the canary's loss larger than the baseline's on the same requests?

On mirrored requests both models score the same input. When its label arrives, D = loss_c − loss_b in [−1, 1] is a fair
view of the difference: no routing, no different inputs. Labels come in any order and days late; they are bets on a
bounded mean (mean.py) one by one, so that there is nothing to wait for. What matters is that *which* labels arrive does
not depend on D; labels from complaints alone would.
"""

from collections.abc import Sequence

import numpy as np

from ci_tools.release.judge.followed import Followed
from ci_tools.release.judge.mean import Sample, log_factors
from ci_tools.release.judge.mixture import log_total
from ci_tools.release.judge.policy import Labels
from ci_tools.release.judge.scores import FLAT
from ci_tools.release.judge.wealth import Evidence


class LabelState(Followed):
    """Log wealth of the bets, and the differences seen."""

    harm: tuple[float, ...] = FLAT
    safe: tuple[float, ...] = FLAT
    differences: Sample = Sample()


def add_losses(state: LabelState, losses: Sequence[float], policy: Labels) -> LabelState:
    """Bet on differences D that have just arrived."""
    d, once = np.array(losses, dtype=np.float64), np.ones(len(losses))
    harm = np.array(state.harm) + log_factors(d - policy.tolerated, once, 1 + policy.tolerated)
    safe = np.array(state.safe) + log_factors(policy.margin - d, once, 1 - policy.margin)
    return state.model_copy(update={
        "harm": tuple(harm.tolist()),
        "safe": tuple(safe.tolist()),
        "differences": state.differences.add(d, once, first_guess=0.0),
    })  # fmt: skip


def label_evidence(state: LabelState) -> Evidence:
    """That the mean difference exceeds what is tolerated; that it is below the margin."""
    return Evidence(harm=log_total(np.array(state.harm)), safe=log_total(np.array(state.safe)))
