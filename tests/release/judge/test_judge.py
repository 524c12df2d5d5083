"""The judge as a whole: laws of its state, and the decisions that it comes to."""

import numpy as np
import pytest

from ci_tools.errors import ConfigError, DataError
from ci_tools.release.judge import Action, Arm, Observation, Outcome, Policy, State, begin, decide, evidence, update
from ci_tools.release.judge.latency import bin_of
from ci_tools.release.judge.verdict import worst
from tests.release.judge.cases import EVENTS, arm, few, play, span, traffic

POLICY = Policy()


def logs(state, policy):
    return {name: (found.harm, found.safe) for name, found in evidence(state, policy).items()}


def same(one, other, policy):
    for name, values in logs(one, policy).items():
        assert values == pytest.approx(logs(other, policy)[name], abs=1e-9), name


def rich(rng, seconds, slower=1.0, errors=0.01, weight=0.1, n=60):
    """An observation with everything in it."""

    def arm(rate, factor):
        bins, counts = np.unique([bin_of(x) for x in factor * np.exp(rng.normal(3, 0.3, n))], return_counts=True)
        low = int(rng.integers(0, n))
        latency = dict(zip(bins.tolist(), counts.tolist(), strict=True))
        events = dict.fromkeys(EVENTS, int(rng.binomial(n, rate)))
        return Arm(requests=n, events=events, latency=latency, scores={3: low, 9: n - low})

    return Observation(seconds=seconds, canary_weight=weight, baseline_weight=weight, canary=arm(errors, slower),
                       baseline=arm(0.01, 1), stable=arm(0.01, 1), pairs=20, flips=int(rng.binomial(20, 0.01)),
                       losses=tuple(rng.choice([-1.0, 0.0, 1.0], 3)))  # fmt: skip


def test_state_survives_json_to_the_last_bit_at_every_step():
    rng, state = np.random.default_rng(30), begin(POLICY)
    for index in range(40):
        state = update(state, rich(rng, 2.0 * (index + 1), weight=0.1 if index < 20 else 0.2), POLICY)
        again = State.model_validate_json(state.model_dump_json())
        assert again == state
        assert again.model_dump_json() == state.model_dump_json()
    assert decide(again, POLICY) == decide(state, POLICY)
    assert len(state.model_dump_json()) < 20_000


def test_parts_of_a_bin_count_as_their_sum():
    policy = few(bin_seconds=6.0)
    whole = [span(6.0, (90, 6), (90, 3), (90, 4)), span(12.0, (60, 1), (60, 0), (60, 2))]
    first = [span(2.0, (30, 1), (40, 1), (50, 4)), span(4.0, (0, 0), (10, 0)), span(6.0, (60, 5), (40, 2), (40, 0))]
    second = [span(9.0, (10, 0), (20, 0), (30, 1)), span(12.0, (50, 1), (40, 0), (30, 1))]
    one, other = (play(spans, policy).compared["events.errors"] for spans in ([*first, *second], whole))
    assert one.model_copy(update={"peak": 0.0}) == other.model_copy(update={"peak": 0.0})


def test_looking_does_not_change_what_is_seen():
    rng, policy, state = np.random.default_rng(31), POLICY, begin(POLICY)
    observations = [rich(rng, 1.0 * (index + 1)) for index in range(30)]
    for observation in observations:
        state = update(state, observation, policy)
        decide(state, policy)
    assert state == play(observations, policy)


def test_order_of_bins_changes_only_what_follows_changes():
    """Without the part that is shared out again, bins commute; with it, by at most its cost per bin."""
    policy = few(bin_seconds=5.0)
    bins = [((90, 6), (90, 3), (90, 4)), ((60, 0), (60, 2), (60, 2)), ((70, 2), (80, 2), (60, 1))]
    one = play([span(5.0 * (i + 1), *arms) for i, arms in enumerate(bins)], policy)
    other = play([span(5.0 * (i + 1), *arms) for i, arms in enumerate(bins[::-1])], policy)
    for name, values in logs(one, policy).items():
        assert values == pytest.approx(logs(other, policy)[name], abs=0.05)


def test_change_of_weights_closes_the_bin_and_keeps_the_evidence_honest():
    policy = few(bin_seconds=10.0)
    changed = play([span(4.0, (40, 3), (40, 1)), span(6.0, (200, 9), (200, 4), weight=0.4)], policy)
    apart = play([span(4.0, (40, 3), (40, 1)), span(4.0, (0, 0), (0, 0), weight=0.4),
                  span(6.0, (200, 9), (200, 4), weight=0.4)], policy)  # fmt: skip
    same(changed, apart, policy)
    assert changed.weight_since == 4.0


def test_unequal_weights_are_accounted_for():
    policy = few()
    state = begin(policy)
    for index in range(40):
        arms = {"canary": Arm(requests=90, events={"errors": 9}), "baseline": Arm(requests=10, events={"errors": 1})}
        state = update(
            state, Observation(seconds=5.0 * (index + 1), canary_weight=0.36, baseline_weight=0.04, **arms), policy
        )
    assert evidence(state, policy)["events.errors"].harm < 0


def test_harm_rolls_back_and_says_why():
    policy = few()
    state = play(traffic(np.random.default_rng(32), policy, 60, 100, (0.05, 0.01, 0.01)), policy)
    decision = decide(state, policy)
    assert decision.action is decision.then is Action.ROLL_BACK
    verdict = decision.verdicts[0]
    assert verdict.outcome is Outcome.HARMFUL
    assert verdict.log10_harm >= verdict.log10_harm_needed
    assert decision.sentence.startswith("events.errors: canary ")
    assert "worse than tolerated, beyond chance" in decision.sentence
    assert verdict.interval[0] < 0.04 < verdict.interval[1]
    assert len(verdict.trace) > 10


def test_harm_once_proven_stays_proven():
    policy = few()
    bad = [*traffic(np.random.default_rng(33), policy, 60, 100, (0.05, 0.01, 0.01))]
    state = play(bad, policy)
    for index in range(400):
        state = update(state, span(bad[-1].seconds + 5.0 * (index + 1), (100, 0), (100, 3)), policy)
    assert decide(state, policy).action is Action.ROLL_BACK


def test_proof_promotes_but_not_before_its_time():
    policy = few(min_seconds=1500.0)
    observations = [*traffic(np.random.default_rng(34), policy, 400, 200, (0.01, 0.01, 0.01))]
    state, actions = begin(policy), []
    for observation in observations:
        state = update(state, observation, policy)
        if observation.seconds % 50 == 0:
            actions.append(decide(state, policy).action)
    assert Action.PROMOTE not in actions[:29]
    assert actions[-1] is Action.PROMOTE


def test_without_a_single_failure_many_requests_are_proof():
    policy = few()
    state = play([span(5.0 * (i + 1), (100, 0), (100, 0), (100, 0)) for i in range(60)], policy)
    assert decide(state, policy).action is Action.PROMOTE
    assert decide(play([span(5.0, (100, 0), (100, 0))], policy), policy).action is Action.CONTINUE


def test_no_data_is_never_a_success():
    state = begin(POLICY)
    assert decide(state, POLICY).action is Action.CONTINUE
    for seconds in (30.0, 61.0):
        state = update(state, Observation(seconds=seconds, canary_weight=0.1, baseline_weight=0.1), POLICY)
    decision = decide(state, POLICY)
    assert decision.action is Action.HOLD
    assert decision.sentence == "The canary had no request for 61 s."
    assert decision.weight == 0.1
    assert worst(decision.verdicts) is Outcome.NO_DATA
    state = update(state, Observation(seconds=3600.0, canary_weight=0.1, baseline_weight=0.1), POLICY)
    decision = decide(state, POLICY)
    assert (decision.action, decision.then) == (Action.INCONCLUSIVE, Action.ROLL_BACK)
    held = Policy(at_deadline="hold")
    late = update(begin(held), Observation(seconds=3600.0, canary_weight=0.1, baseline_weight=0.1), held)
    assert decide(late, held).then is Action.HOLD


def test_total_outage_after_an_hour_of_health_is_found_within_two_seconds():
    policy = POLICY
    state, seconds = begin(policy), 0.0
    for index in range(200):
        seconds = 5.0 * (index + 1)
        state = update(state, span(seconds, (100, index % 2), (100, index % 3 // 2), (900, 4), names=EVENTS), policy)
    assert decide(state, policy).action is not Action.ROLL_BACK
    for tenth in range(1, 21):
        state = update(state, span(seconds + tenth / 10, (2, 2), (2, 0), (16, 0), names=EVENTS), policy)
        if decide(state, policy).action is Action.ROLL_BACK:
            break
    assert tenth <= 20
    assert decide(state, policy).action is Action.ROLL_BACK


def test_failure_common_to_both_arms_is_no_harm():
    policy = few()
    state = play(traffic(np.random.default_rng(39), policy, 40, 100, (0.6, 0.6, 0.6)), policy)
    assert decide(state, policy).action is not Action.ROLL_BACK


def test_slower_canary_is_rolled_back_by_its_latency():
    rng, policy = np.random.default_rng(35), POLICY
    state = play((rich(rng, 5.0 * (i + 1), slower=1.5, errors=0.01) for i in range(120)), policy)
    decision = decide(state, policy)
    assert decision.action is Action.ROLL_BACK
    assert decision.sentence.startswith("latency.p95: canary ")


def test_pools_that_differ_without_reason_leave_it_to_the_robust_test():
    policy = few()
    state = play(traffic(np.random.default_rng(36), policy, 150, 200, (0.05, 0.05, 0.01)), policy)
    assert state.compared["events.errors"].fired
    assert "only the slower, robust test acts" in decide(state, policy).verdicts[0].sentence
    assert decide(state, policy).action is not Action.ROLL_BACK


def test_more_tolerance_needs_more_than_equality_to_be_broken():
    rates = (0.03, 0.02, 0.02)
    for ratio, harmful in ((1.0, True), (2.0, False)):
        policy = few(events={"errors": {"tolerated_ratio": ratio, "margin_ratio": 2.5}})
        state = play(traffic(np.random.default_rng(37), policy, 300, 100, rates), policy)
        assert (decide(state, policy).action is Action.ROLL_BACK) == harmful


def test_weight_follows_the_ramp_and_holds_within_a_step():
    policy = few(deadline_seconds=9000.0, wrong_promotion=1e-12)
    state, seconds, weight, weights = begin(policy), 0.0, 0.0, []
    for _ in range(80):
        weight = decide(state, policy).weight
        seconds += 5.0
        state = update(
            state, span(seconds, (round(1000 * weight), 0), (round(1000 * weight), 0), weight=weight), policy
        )
        weights.append(weight)
    assert weights[:6] == [0.01] * 6
    assert weights[7] == 0.02
    assert weights[-1] == policy.ramp.largest


def test_expected_traffic_rises_at_once_and_falls_slowly():
    """Traffic that has just begun must not look too little for what the first weight may cost."""
    policy = few()
    state, seen = begin(policy), []
    for index, requests in enumerate((3, 1000, 1000, 0, 0)):
        seconds = (index + 1) * policy.bin_seconds
        state = update(state, span(seconds, (0, 0), (0, 0), (requests, 0), weight=0.0), policy)
        seen.append(state.per_second * policy.bin_seconds)
    assert seen == pytest.approx([3, 1000, 1000, 700, 490])


def test_trace_is_short_and_even():
    policy = few()
    state = play([span(5.0 * (i + 1), (10, 0), (10, 0)) for i in range(500)], policy)
    seconds = [point[0] for point in state.compared["events.errors"].trace]
    assert len(seconds) <= 24
    assert np.ptp(np.diff(seconds)) <= 5


def test_every_metric_tells_its_evidence_over_time():
    rng = np.random.default_rng(38)
    decision = decide(play((rich(rng, 5.0 * (i + 1)) for i in range(20)), POLICY), POLICY)
    assert {verdict.metric for verdict in decision.verdicts} == {*POLICY.metrics}
    for verdict in decision.verdicts:
        assert len(verdict.trace) > 5, verdict.metric
        assert verdict.interval[0] < verdict.interval[1], verdict.metric
        assert verdict.sentence.startswith(f"{verdict.metric}: "), verdict.metric
        assert verdict.log10_safe == pytest.approx(verdict.trace[-1][2], abs=3)


def test_wrong_use_is_refused():
    state = begin(POLICY)
    with pytest.raises(ConfigError, match="not the policy that this release began with"):
        update(state, span(1.0, (1, 0), (1, 0), names=EVENTS), Policy(false_rollback=0.02))
    later = update(state, span(9.0, (1, 0), (1, 0), names=EVENTS), POLICY)
    with pytest.raises(DataError, match=r"comes before 9\.0"):
        update(later, span(8.0, (1, 0), (1, 0), names=EVENTS), POLICY)
    with pytest.raises(DataError, match="unknown event"):
        update(state, span(1.0, (1, 0), (1, 0)), few(events={"other": {}}))


def test_severity_is_ordered():
    assert [action.rank for action in Action] == [0, 1, 2, 3, 4]
    assert max(Action, key=lambda one: one.rank) is Action.ROLL_BACK
    assert min(Action, key=lambda one: one.rank) is Action.PROMOTE
    assert worst([]) is Outcome.NO_DATA


@pytest.mark.parametrize("tolerated_ratio", [1.0, 1.2])
def test_doubted_counts_leave_a_state_and_a_decision_that_json_can_hold(tolerated_ratio):
    policy = Policy.model_validate({"events": {"errors": {"tolerated_ratio": tolerated_ratio}}, "min_seconds": 0.0})
    state = begin(policy)
    for index in range(30):
        arms = {name: arm(n, scores={3: n}) for name, n in (("canary", 10), ("baseline", 300), ("stable", 500))}
        state = update(state, Observation(seconds=5.0 * (index + 1), canary_weight=0.2, baseline_weight=0.2, **arms),
                       policy)  # fmt: skip
    assert state.doubted
    assert State.model_validate_json(state.model_dump_json()) == state
    decision = decide(state, policy)
    assert decision.action is Action.HOLD
    assert type(decision).model_validate_json(decision.model_dump_json()) == decision
