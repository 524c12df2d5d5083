"""The model is good enough, and no worse than the base revision's, in every metric that gates.yaml names."""

import pytest

from ci_tools.gates import policy as policies
from ci_tools.gates.quality import quality_against_main, quality_floor

METRICS = policies.load().metrics


def demanded(what):
    """Metrics of which gates.yaml demands it; the test is skipped, which is inconclusive, where there is none."""
    names = [name for name, metric in METRICS.items() if getattr(metric, what) is not None]
    return names or [pytest.param("any metric", marks=pytest.mark.skip(f"gates.yaml names no metric with a {what}"))]


@pytest.mark.parametrize("metric", demanded("floor"))
def test_quality_floor(metric, run, policy):
    policy.require(quality_floor(run, metric, policy.settings))


@pytest.mark.parametrize("metric", demanded("margin"))
def test_quality_against_main(metric, run, baseline, policy):
    policy.require(quality_against_main(run, baseline, metric, policy.settings))
