"""The judge: observations in, a decision out, whenever one likes to look.

Two pure functions. `update` counts, and closes bins; `decide` weighs what was counted. Looking more often changes
nothing but how soon a decision is seen.
"""

from collections.abc import Mapping

import numpy as np

from ci_tools.errors import ConfigError, DataError
from ci_tools.release.judge import compared, labels, latency, routing, scores
from ci_tools.release.judge.compared import Compared, Span, Tally
from ci_tools.release.judge.followed import Followed, peaked, traced
from ci_tools.release.judge.observation import Observation, check
from ci_tools.release.judge.policy import Policy
from ci_tools.release.judge.ramp import Outcomes, next_weight
from ci_tools.release.judge.state import State, terms, thresholds
from ci_tools.release.judge.telling import verdict
from ci_tools.release.judge.verdict import Action, Decision, Outcome, Verdict, worst
from ci_tools.release.judge.wealth import Evidence

SMOOTHING = 0.3
"""Part of a new bin in the traffic that is expected next."""
NOTHING = -700.0
"""Log e-value that stands for none at all: JSON, in which states and decisions are kept, has no infinity."""


def update(state: State, observation: Observation, policy: Policy) -> State:
    """The state after a further observation.

    Law: two observations of one bin count as their sum.

    Raises:
        DataError: time runs backwards, or an arm's events are not those of the policy.
        ConfigError: the state belongs to another policy.
    """
    check(observation, policy)
    if state.policy != policy.digest:
        raise ConfigError("is not the policy that this release began with", where="release.yaml",
                          rule="budgets are spent over a whole release", fix="start the release anew")  # fmt: skip
    if observation.seconds < state.seconds:
        raise DataError(f"seconds: {observation.seconds} comes before {state.seconds}, which was judged already",
                        where="observation", fix="report spans in order")  # fmt: skip
    fresh = Span(canary_weight=observation.canary_weight, baseline_weight=observation.baseline_weight)
    if fresh.weights != state.span.weights:
        state = _close(state, policy)
        since = state.weight_since if fresh.canary_weight == state.span.canary_weight else state.seconds
        state = state.model_copy(update={"span": fresh, "weight_since": since})
    state = _peaks(_count(state, observation, policy), policy)
    if observation.seconds - state.opened >= policy.bin_seconds - 1e-9:
        state = _peaks(_close(state, policy), policy)
    return state


def evidence(state: State, policy: Policy) -> dict[str, Evidence]:
    """Of every metric, now; natural logarithms of e-values."""
    found = {
        name: compared.evidence(one, state.span, state.total, terms(name, policy), state.doubted)
        for name, one in state.compared.items()
    }
    if policy.flips:
        found["flips"] = scores.flip_evidence(state.flips, policy.flips)
    if policy.shift:
        found["shift"] = scores.shift_evidence(state.shift, state.doubted)
    if policy.labels:
        found["labels"] = labels.label_evidence(state.labels)
    return {name: Evidence(*(np.maximum(value, NOTHING) for value in one)) for name, one in found.items()}


def decide(state: State, policy: Policy) -> Decision:
    """What to do now. Harm comes first, then proof, then the reasons to wait.

    After a promotion only `roll back` still means something: labels may say so in the watch phase.
    """
    found = evidence(state, policy)
    verdicts = tuple(verdict(name, state, found[name], policy) for name in policy.metrics)
    harmful = [one for one in verdicts if one.blocks and one.outcome is Outcome.HARMFUL]
    open_ones = [one for one in verdicts if one.needed and one.outcome is not Outcome.SAFE]
    then = Action.CONTINUE
    if harmful:
        action, sentence = Action.ROLL_BACK, harmful[0].sentence
    elif _proven(state, verdicts) and state.seconds >= policy.min_seconds:
        action, sentence = Action.PROMOTE, "Every metric that promotion needs is proven to be within its margin."
    elif state.seconds >= policy.deadline_seconds:
        action, sentence = Action.INCONCLUSIVE, _undecided(open_ones, policy)
        then = Action.ROLL_BACK if policy.at_deadline == "roll_back" else Action.HOLD
    elif state.seconds - state.seen >= policy.no_traffic_seconds:
        action, sentence = Action.HOLD, f"The canary had no request for {state.seconds - state.seen:.0f} s."
    elif state.doubted:
        action, sentence = Action.HOLD, _misrouted(state)
    else:
        action, sentence = Action.CONTINUE, _undecided(open_ones, policy)
    return Decision(
        action=action,
        then=then if action is Action.INCONCLUSIVE else action,
        seconds=state.seconds,
        weight=_weight(state, policy) if action is Action.CONTINUE else state.span.canary_weight,
        sentence=sentence,
        verdicts=verdicts,
    )


def _proven(state: State, verdicts: tuple[Verdict, ...]) -> bool:
    """Whether every needed metric is safe, by counts that can be believed."""
    return worst(one for one in verdicts if one.needed) is Outcome.SAFE and not state.doubted


def _misrouted(state: State) -> str:
    span = state.span
    return (
        f"Requests do not arrive as routed: weights {span.canary_weight:g} and {span.baseline_weight:g} now, "
        f"{state.total.canary:,} requests of the canary and {state.total.baseline:,} of the baseline so far. "
        "Counts are lost, or the weights are not in force."
    )


def _undecided(open_ones: list[Verdict], policy: Policy) -> str:
    if not open_ones:
        return f"Every needed metric is proven; promotion waits for second {policy.min_seconds:g}."
    return f"Not yet proven: {', '.join(one.metric for one in open_ones)}."


def _count(state: State, observation: Observation, policy: Policy) -> State:
    """Add counts to the open bin, and bet on what needs no bin."""
    counts = {name: arm.requests for name, arm in observation.arms.items()}
    found = {name: compared.add(one, _tally(name, one, observation, policy)) for name, one in state.compared.items()}
    flips = state.flips.model_copy(update={
        "pairs": state.flips.pairs + observation.pairs, "flips": state.flips.flips + observation.flips
    })  # fmt: skip
    shift, label_state = state.shift, state.labels
    if policy.shift and state.span.requests.share and (observation.canary.scores or observation.baseline.scores):
        one, other = observation.canary.scores, observation.baseline.scores
        shift = scores.add_scores(shift, one, other, state.span.requests.share, policy.shift)
    if policy.labels and observation.losses:
        label_state = labels.add_losses(label_state, observation.losses, policy.labels)
    return state.model_copy(update={
        "seconds": observation.seconds,
        "span": _more(state.span, counts),
        "total": _more(state.total, counts),
        "compared": found,
        "flips": flips,
        "shift": shift,
        "labels": label_state,
        "reference": latency.remember(state.reference, observation.baseline.latency, observation.stable.latency),
        "seen": observation.seconds if observation.canary.requests or observation.pairs else state.seen,
    })  # fmt: skip


def _tally(name: str, one: Compared, observation: Observation, policy: Policy) -> Tally:
    """An event's counts, or the slow requests against the open bin's threshold."""
    kind, _, short = name.partition(".")
    if kind == "events":
        canary, baseline, stable = (arm.events.get(short, 0) for arm in observation.arms.values())
        return Tally(canary=canary, canary_margin=canary, baseline=baseline, stable=stable)
    if one.threshold is None:
        return Tally()
    quantile = policy.latency[short]
    return Tally(
        canary=latency.slower(observation.canary.latency, one.threshold + latency.bins_up(quantile.tolerated_ratio)),
        canary_margin=latency.slower(
            observation.canary.latency, one.threshold + latency.bins_down(quantile.margin_ratio)
        ),
        baseline=latency.slower(observation.baseline.latency, one.threshold),
        stable=latency.slower(observation.stable.latency, one.threshold),
    )


def _close(state: State, policy: Policy) -> State:
    """End the open bin now."""
    found = {name: compared.close(one, state.span, terms(name, policy)) for name, one in state.compared.items()}
    span, length = state.span, state.seconds - state.opened
    many, few = routing.step((np.array(state.routing[0]), np.array(state.routing[1])), span.requests)
    routed = span.canary + span.baseline + span.stable
    if not span.stable and span.canary_weight + span.baseline_weight > 0:
        routed = round(routed / (span.canary_weight + span.baseline_weight))
    rate = routed / length if length > 0 else state.per_second
    closed = state.model_copy(update={
        "compared": found,
        "opened": state.seconds,
        "span": Span(canary_weight=span.canary_weight, baseline_weight=span.baseline_weight),
        "shift": scores.centred(state.shift),
        "routing": (tuple(many.tolist()), tuple(few.tolist())),
        "doubted": state.doubted or bool(routing.doubted((many, few))),
        # What is expected rises at once and falls slowly: an outage costs more than a slow ramp.
        "per_second": max(rate, (1 - SMOOTHING) * state.per_second + SMOOTHING * rate),
    })  # fmt: skip
    opened = closed.model_copy(update={"compared": thresholds(closed, policy)})
    now = evidence(opened, policy)
    return _replaced(opened, {name: traced(_followed(opened, name), opened.seconds, now[name]) for name in now})


def _peaks(state: State, policy: Policy) -> State:
    """Keep the largest evidence of harm."""
    now = evidence(state, policy)
    return _replaced(state, {name: peaked(_followed(state, name), now[name]) for name in now})


def _followed(state: State, name: str) -> Followed:
    """A metric's state by its full name."""
    alone: dict[str, Followed] = {"flips": state.flips, "shift": state.shift, "labels": state.labels}
    return alone[name] if name in alone else state.compared[name]


def _replaced(state: State, found: Mapping[str, Followed]) -> State:
    """With other states of all metrics."""
    alone = {name: one for name, one in found.items() if name not in state.compared}
    return state.model_copy(update={"compared": {name: found[name] for name in state.compared}, **alone})


def _more(span: Span, counts: Mapping[str, int]) -> Span:
    return span.model_copy(update={name: getattr(span, name) + count for name, count in counts.items()})


def _weight(state: State, policy: Policy) -> float:
    """The canary's next weight; unchanged within a step."""
    current = state.span.canary_weight
    if current and state.seconds - state.weight_since < policy.ramp.step_seconds:
        return current
    counts = [
        Outcomes(one.total.canary, state.total.canary, one.total.baseline, state.total.baseline)
        for name, one in state.compared.items()
        if name.startswith("events.")
    ]
    return next_weight(current, state.per_second, counts, policy.ramp)
