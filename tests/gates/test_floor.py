import math

import pytest

from ci_tools.gates import floor
from ci_tools.gates.floor import Floor
from ci_tools.gates.show import comparison
from tests.test_gate_command import PASSED, verdict


def fallen_short(short, limit, higher, interval=None):
    """A verdict of the gate on a metric whose floor is 0.75."""
    numbers = {"statistic": short, "threshold": limit, "interval": interval, "unit": "in the metric's unit"}
    return verdict(PASSED.outcome, gate="quality_floor", evidence=floor.evidence(0.75, higher), **numbers)


@pytest.mark.parametrize("higher", [True, False])
def test_value_that_falls_short_by_nothing_is_the_floor(higher):
    assert Floor(0.75, higher).value(0.0) == 0.75


@pytest.mark.parametrize(
    ("short", "higher", "interval", "told"),
    [
        (-0.0412, True, (-0.05, -0.0312), "0.791 [0.781, 0.8] ≥ 0.75"),
        (0.0412, True, None, "0.709 < 0.75"),
        (0.0412, False, (0.01, math.inf), "0.791 [0.76, inf] > 0.75"),
        (-0.0412, False, None, "0.709 ≤ 0.75"),
    ],
)
def test_value_and_floor_are_told_in_the_metrics_own_direction(short, higher, interval, told):
    assert comparison(fallen_short(short, 0.0, higher, interval)) == told


@pytest.mark.parametrize(
    ("gate", "evidence"),
    [
        ("my_gate", floor.evidence(0.75, True)),
        ("quality_floor", {}),
        ("quality_floor", {"floor": 0.75}),
        ("quality_floor", {"floor": "0.75", "better": "higher"}),
        ("quality_floor", {"floor": 0.75, "better": "neither"}),
    ],
)
def test_other_evidence_names_no_floor(gate, evidence):
    assert floor.of(gate, evidence) is None
