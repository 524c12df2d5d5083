"""What the judge refuses to be told."""

import math

import pytest

from ci_tools.errors import DataError
from ci_tools.release.judge import Policy, read
from tests.release.judge.cases import EVENTS

POLICY = Policy()


def raw(**changes):
    arm = {"requests": 10, "events": dict.fromkeys(EVENTS, 0), "latency": {"300": 10}, "scores": {"3": 9}}
    return {"seconds": 5.0, "canary_weight": 0.1, "baseline_weight": 0.1, "canary": arm, "baseline": arm, **changes}


def arm(**changes):
    return raw()["canary"] | changes


def test_json_is_read():
    observation = read(raw(pairs=3, flips=1, losses=[0.5, -1.0]), POLICY)
    assert observation.canary.latency == {300: 10}
    assert observation.losses == (0.5, -1.0)
    assert read(observation.model_dump(mode="json"), POLICY) == observation


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (raw(canary=arm(requests=-1)), "canary.requests: input should be greater than or equal to 0, got -1"),
        (raw(canary=arm(requests=1.5)), "canary.requests"),
        (raw(canary=arm(events={"errors": 11, "timeouts": 0, "invalid_outputs": 0})), "events.errors counts 11 of 10"),
        (raw(canary=arm(events={"errors": -3, "timeouts": 0, "invalid_outputs": 0})), "canary.events.errors"),
        (raw(canary=arm(events={"errors": 0, "timeouts": 0})), "canary.events.invalid_outputs: missing"),
        (raw(canary=arm(events={**dict.fromkeys(EVENTS, 0), "error": 1})), "canary.events.error: unknown event"),
        (raw(canary=arm(latency={"300": 11})), "latency counts 11 of 10 requests"),
        (raw(canary=arm(latency={"fast": 1})), "canary.latency.fast"),
        (raw(canary=arm(scores={"32": 1})), "canary.scores.32"),
        (raw(seconds=math.nan), "seconds"),
        (raw(seconds=-1.0), "seconds"),
        (raw(canary_weight=0.7, baseline_weight=0.7), "exceed 1 together"),
        (raw(canary_weight=math.inf), "canary_weight"),
        (raw(losses=[math.nan]), "losses.0"),
        (raw(losses=[1.5]), "losses.0"),
        (raw(pairs=1, flips=2), "flips counts 2 of 1 pairs"),
        (raw(cannary={}), "did you mean `canary`?"),
        ({"seconds": 1.0}, "required key is missing"),
    ],
)
def test_bad_input_is_one_clear_error(broken, told):
    with pytest.raises(DataError) as refused:
        read(broken, POLICY)
    assert told in str(refused.value)
    assert str(refused.value).startswith("observation: ")
    assert "\n" not in str(refused.value)
