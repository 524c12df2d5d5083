"""Requests to observations: counts per weights under which they were routed."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ci_tools.release.controller.predictions import Pair, is_flip
from ci_tools.release.judge import Arm, Observation, Policy
from ci_tools.release.judge.latency import bin_of
from ci_tools.release.judge.observation import SCORE_BINS
from ci_tools.release.plan import Role
from ci_tools.release.traffic.access import ERRORS, INVALID, TIMEOUTS, Entry

SHORTEST_MS = 1e-3
"""To which a latency of nothing is rounded."""
Weights = tuple[float, float]
"""Of canary and baseline."""
Scorer = Callable[[str, bool], float | None]
"""Score of a request id, of the canary where true."""
COUNTED = frozenset({ERRORS, TIMEOUTS, INVALID})
"""Bad outcomes that the access log tells of."""
FALLBACK = ERRORS
"""Metric that takes bad outcomes for which the policy has none of their own."""


def observations(
    entries: Sequence[Entry],
    *,
    serials: Mapping[int, Weights],
    current: Weights,
    seconds: float,
    policy: Policy,
    score: Scorer,
    pairs: Sequence[Pair] = (),
    thresholds: tuple[float, float] | None = None,
    losses: tuple[float, ...] = (),
) -> list[Observation]:
    """What the judge is told: one observation for each weights, those in force last, all of them at `seconds`.

    Late requests are told with the weights of their time, in between; the judge closes its bin for them. Requests
    under weights that were not in force are left out: nothing was routed at random.

    Args:
        entries: requests that are to be counted, in their order.
        serials: weights of the release's plans.
        current: weights in force now.
        seconds: since the release began.
        policy: of the release.
        score: what the models answered.
        pairs: new mirrored requests.
        thresholds: of the champion's and the canary's decisions; None: they decide nothing.
        losses: of new labels.
    """
    routed: dict[Weights, list[Entry]] = {}
    for entry in sorted(entries, key=lambda one: one.serial):
        if entry.leased and entry.serial in serials:
            routed.setdefault(serials[entry.serial], []).append(entry)
    last = routed.pop(current, [])
    found = [_observation(some, weights, seconds, policy, score) for weights, some in routed.items()]
    valid = [pair for pair in pairs if thresholds is None or pair.champion]
    alone = {"pairs": len(valid), "flips": sum(is_flip(pair, thresholds) for pair in valid), "losses": losses}
    return [*found, _observation(last, current, seconds, policy, score).model_copy(update=alone)]


def _observation(
    entries: Iterable[Entry], weights: Weights, seconds: float, policy: Policy, score: Scorer
) -> Observation:
    by_arm: dict[Role, list[Entry]] = {Role.CANARY: [], Role.BASELINE: [], Role.STABLE: []}
    for entry in entries:
        by_arm[entry.arm].append(entry)
    canary, baseline, stable = (_arm(some, role, policy, score) for role, some in by_arm.items())
    return Observation(seconds=seconds, canary_weight=weights[0], baseline_weight=weights[1],
                       canary=canary, baseline=baseline, stable=stable)  # fmt: skip


def _arm(entries: Sequence[Entry], role: Role, policy: Policy, score: Scorer) -> Arm:
    events = dict.fromkeys(policy.events, 0)
    latency: dict[int, int] = {}
    scores: dict[int, int] = {}
    for entry in entries:
        name = entry.event if entry.event in events else FALLBACK
        if entry.event and name in events:
            events[name] += 1
        index = bin_of(max(entry.ms, SHORTEST_MS))
        latency[index] = latency.get(index, 0) + 1
        # Scores of stable are compared with nobody's; those of failed requests may be of another arm's second attempt.
        known = score(entry.id, role is Role.CANARY) if role is not Role.STABLE and not entry.event else None
        if known is not None and 0 <= known <= 1:
            slot = min(int(known * SCORE_BINS), SCORE_BINS - 1)
            scores[slot] = scores.get(slot, 0) + 1
    return Arm(requests=len(entries), events=events, latency=latency, scores=scores)
