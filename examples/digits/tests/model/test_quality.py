"""The model is good enough, and no worse than the base revision's, in every metric that gates.yaml names."""

import pytest

from ci_tools.gates import policy as policies
from ci_tools.gates.quality import quality_against_main, quality_floor

METRICS = policies.load().metrics


def demanded(what):
    """Metrics of which gates.yaml demands it; where there is none, the test has no case, which is inconclusive."""
    return [name for name, metric in METRICS.items() if getattr(metric, what) is not None]


@pytest.mark.parametrize("metric", demanded("floor"))
def test_quality_floor(metric, run, policy):
    policy.require(quality_floor(run, metric, policy.settings))


@pytest.mark.parametrize("metric", demanded("margin"))
def test_quality_against_main(metric, run, baseline, policy):
    policy.require(quality_against_main(run, baseline, metric, policy.settings))
