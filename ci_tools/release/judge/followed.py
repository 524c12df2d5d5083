"""What is kept of a metric's evidence over time: its peak, and a short trace for people."""

import math
from typing import TypeVar

from ci_tools.config import Config
from ci_tools.release.judge.wealth import Evidence

POINTS = 24
"""Of the trace; where there are more, every other one goes."""


class Followed(Config):
    """Base of every metric's state."""

    peak: float = 0.0
    """Largest log evidence of harm so far: what once sufficed suffices (Ville)."""
    trace: tuple[tuple[float, float, float], ...] = ()
    """Points (seconds, log10 e-value for harm, for safety), evenly spaced."""


F = TypeVar("F", bound=Followed)


def peaked(state: F, found: Evidence) -> F:
    """With the peak, if this is one."""
    return state.model_copy(update={"peak": max(state.peak, float(found.harm))})


def traced(state: F, seconds: float, found: Evidence) -> F:
    """With a point more on the trace, where the last is far enough."""
    trace = state.trace
    if len(trace) < 2 or seconds - trace[-1][0] >= trace[1][0] - trace[0][0] - 1e-9:
        harm, safe = (round(float(value) / math.log(10), 2) for value in found)
        trace = (*trace, (round(seconds, 3), harm, safe))
    return state.model_copy(update={"trace": trace[::2] if len(trace) > POINTS else trace})
