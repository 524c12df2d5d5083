"""Stragglers on step times made from formulas."""

from dataclasses import replace

import numpy as np
import pytest

from ci_tools.gates import specimen
from ci_tools.gates.timing import ordinary, stragglers

SEEDS = range(10)
STEPS = np.arange(specimen.STEPS)


def failed(measurement):
    return measurement.reading.statistic > measurement.limit


def slowed(run, rows, factor, *, data=False):
    extra = np.where(rows, (factor - 1) * run.step_ms_S, 0.0)
    return replace(run, step_ms_S=run.step_ms_S + extra, data_ms_S=run.data_ms_S + (extra if data else 0.0))


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_runs_pass(seed):
    assert not failed(stragglers(specimen.clean(seed)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [2.0, 2.5, 4.0])
def test_slow_second_half_is_named_with_its_factor(seed, factor):
    found = stragglers(slowed(specimen.clean(seed), STEPS >= 100, factor))
    assert failed(found)
    assert found.reading.statistic == pytest.approx(factor, rel=0.12)
    assert "data" not in found.reading.remedy


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_slow_worker_that_comes_round_again_is_named_with_its_period(seed, period):
    found = stragglers(slowed(specimen.clean(seed), STEPS % period == 1, 3.0, data=True))
    assert failed(found)
    assert found.reading.evidence["period"] % period == 0
    assert found.reading.evidence["periodic ratio"] == pytest.approx(3.0, rel=0.15)
    assert "loader" in found.reading.remedy


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "rows",
    [
        np.isin(STEPS, [20, 40, 60, 80, 100, 120, 140, 160, 180]),
        STEPS % specimen.EPOCH == 0,
        STEPS == 100,
        (STEPS + 1) % specimen.PROBE_EVERY == 0,
        (STEPS >= 110) & (STEPS < 142),
        STEPS < 80,
    ],
    ids=["evaluations and shadows", "epoch starts", "checkpoint", "probes", "disturbance that ends", "slow start"],
)
def test_work_beside_training_and_bursts_are_harmless(rows, seed):
    assert not failed(stragglers(slowed(specimen.clean(seed), rows, 20.0)))


def test_steps_left_out_are_those_behind_other_work():
    found = np.flatnonzero(~ordinary(replace(specimen.clean(1), checkpoint_every=33)))
    probes = np.arange(9, 200, 10)
    expected = {0, *probes, *(probes + 1), *range(20, 200, 20), *range(0, 200, 25), *range(0, 200, 33)}
    assert set(found) == expected - {200}


def test_few_steps_tell_nothing():
    assert np.isnan(stragglers(specimen.clean(1, steps=25)).reading.statistic)
