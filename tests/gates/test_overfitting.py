"""Overfitting on losses per example made from formulas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ci_tools.gates import specimen
from ci_tools.gates.overfitting import overfitting

SEEDS = range(10)


def failed(measurement):
    return measurement.reading.statistic > measurement.limit


def with_excess(run, excess_E):
    """The validation loss of every example is raised by a share of the null loss, per evaluation."""
    return replace(run, example_loss_EV=run.example_loss_EV + specimen.NULL * np.asarray(excess_E)[:, None])


def tail(*last):
    return np.concatenate([np.zeros(10 - len(last)), last])


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_runs_pass(seed):
    assert not failed(overfitting(specimen.clean(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_that_stays_above_its_best_is_overfitting(seed):
    found = overfitting(with_excess(specimen.clean(seed), tail(0.05, 0.1, 0.15, 0.2, 0.25)))
    assert failed(found)
    assert found.reading.evidence["best step"] <= 120
    assert found.reading.evidence["steps"] == [160, 180, 200]


@pytest.mark.parametrize(
    "excess",
    [tail(0.5), tail(0.5, 0.0, 0.0), tail(0.1, 0.3, 0.3, 0.1, 0.0), tail(0.004, 0.006, 0.008)],
    ids=["noisy last evaluation", "noisy evaluation", "double descent", "tiny"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_harmless_bumps_are_none(excess, seed):
    assert not failed(overfitting(with_excess(specimen.clean(seed), excess)))


def test_statistic_is_the_lower_end_of_scipys_paired_interval():
    run = with_excess(specimen.clean(1), tail(0.1, 0.2, 0.3))
    loss, best = run.example_loss_EV, int(run.example_loss_EV.mean(axis=1).argmin())
    ends = [stats.ttest_rel(loss[e], loss[best]).confidence_interval(0.9) for e in (7, 8, 9)]
    gain = specimen.NULL - loss[best].mean()
    found = overfitting(run).reading
    assert found.statistic == pytest.approx(min(end.low for end in ends) / gain, rel=1e-9)
    assert found.interval == pytest.approx((found.statistic, min(end.high for end in ends) / gain), rel=1e-9)


def test_rise_that_the_training_loss_shares_is_none():
    run = with_excess(specimen.clean(1), tail(0.1, 0.2, 0.3))
    rising = replace(run, loss_S=run.loss_S + np.interp(np.arange(specimen.STEPS), [130, 140], [0.0, 0.5]))
    assert failed(overfitting(run))
    assert not failed(overfitting(rising))


def test_few_examples_that_differ_are_inconclusive_not_failed():
    run = specimen.clean(1)
    excess = np.zeros((10, 400))
    excess[5:, :3] = 20.0
    one = overfitting(replace(run, example_loss_EV=run.example_loss_EV + excess))
    assert one.reading.interval[0] < one.limit < one.reading.interval[1]


def test_mean_losses_serve_where_none_are_kept_per_example():
    run = with_excess(specimen.clean(1), tail(0.1, 0.2, 0.3, 0.4))
    run = replace(
        run, evals={key: replace(one, value_E=run.example_loss_EV.mean(axis=1)) for key, one in run.evals.items()}
    )
    without = replace(run, example_loss_EV=np.zeros((0, 0)), example_step_E=np.zeros(0, dtype=np.int64))
    assert failed(overfitting(without))
    clean = specimen.clean(1)
    assert not failed(overfitting(replace(clean, example_loss_EV=np.zeros((0, 0)), example_step_E=np.zeros(0, int))))


def test_nothing_evaluated_is_no_pass():
    run = specimen.clean(1)
    bare = replace(run, example_loss_EV=np.zeros((0, 0)), example_step_E=np.zeros(0, dtype=np.int64), evals={})
    assert np.isnan(overfitting(bare).reading.statistic)
