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

METRICS = list(policies.load().metrics)


@pytest.mark.parametrize("metric", METRICS)
def test_quality_floor(metric, run, policy):
    policy.require(quality_floor(run, metric, policy))


@pytest.mark.parametrize("gate", [quality_against_main, slices_against_main])
@pytest.mark.parametrize("metric", METRICS)
def test_against_main(gate, metric, run, baseline, policy):
    policy.require(gate(run, baseline, metric, policy))


@pytest.mark.parametrize("metric", METRICS)
def test_simpler_model(metric, run, policy):
    policy.require(simpler_model(run, metric, policy))


def test_calibration_error(run, policy):
    policy.require(calibration_error(run))
