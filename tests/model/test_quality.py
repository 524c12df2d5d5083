"""The model is good enough, no worse than the base revision's anywhere, and better than simpler ones."""

import pytest

from ci_tools.gates import policy as policies
from ci_tools.gates.quality import (
    calibration_error,
    quality_against_main,
    quality_floor,
    simpler_model,
    slices_against_main,
)

METRICS = policies.load().metrics


def demanded(what):
    """Metrics of which gates.yaml demands it."""
    return [name for name, metric in METRICS.items() if getattr(metric, what) is not None]


@pytest.mark.parametrize("metric", demanded("floor"))
def test_quality_floor(metric, run, policy):
    policy.require(quality_floor(run, metric, policy.settings))


@pytest.mark.parametrize("metric", demanded("margin"))
def test_quality_against_main(metric, run, baseline, policy):
    policy.require(quality_against_main(run, baseline, metric, policy.settings))


@pytest.mark.parametrize("metric", demanded("slice_margin"))
def test_slices_against_main(metric, run, baseline, policy):
    policy.require(slices_against_main(run, baseline, metric, policy.settings))


@pytest.mark.parametrize("metric", demanded("simpler_margin"))
def test_simpler_model(metric, run, policy):
    policy.require(simpler_model(run, metric, policy.settings))


def test_calibration_error(run, policy):
    policy.require(calibration_error(run))
