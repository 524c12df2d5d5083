"""release.yaml with margins so wide that seconds of loopback traffic can prove them."""

from ci_tools.release.controller.settings import Settings
from ci_tools.release.judge import Policy
from ci_tools.release.judge.policy import Events, Quantile, Ramp

PER_SECOND = 300.0
"""Requests that are replayed."""


def shortened(policy: Policy, *, decides: bool) -> Policy:
    """The policy of a rehearsal.

    The probabilities of a wrong verdict, the events that count and what flips may cost are the release's own. Rarer
    failures and smaller slowdowns than these margins take more traffic than a rehearsal has.

    Args:
        policy: of the releases.
        decides: whether the model says how a score becomes a decision; without, flips cannot be judged.
    """
    rare = Events(margin_ratio=3.0, margin_rate=0.02)
    return policy.model_copy(
        update={
            "events": dict.fromkeys(policy.events, rare),
            # Three servers, Envoy and the client share this machine: slow answers may be its scheduler's.
            "latency": {"p95": Quantile(quantile=0.95, tolerated_ratio=2.0, margin_ratio=5.0, needed=False)},
            "flips": policy.flips if decides else None,
            "shift": None,
            "labels": None,
            "ramp": Ramp(first=0.1, largest=0.25, step_seconds=2.0, damage=50.0),
            "bin_seconds": 0.5,
            "min_seconds": 3.0,
            "deadline_seconds": 25.0,
            "at_deadline": "roll_back",
            "no_traffic_seconds": 8.0,
        }
    )


SETTINGS = Settings(mirror_seconds=1.0, mirror_copies=50, mirror_per_second=PER_SECOND / 3)
"""Of the controller: a mirror phase of a second."""
