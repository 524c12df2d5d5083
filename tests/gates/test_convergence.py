"""Divergence, slow convergence and plateau on runs made from formulas."""

from dataclasses import replace

import numpy as np
import pytest

from ci_tools.gates import convergence, specimen
from ci_tools.gates.convergence import divergence, plateau, reference_of, slow_convergence
from ci_tools.gates.rise import DIVERGED, NEVER, rise

SEEDS = range(20)
STEPS = np.arange(specimen.STEPS)


def with_loss(loss, seed=1):
    return replace(specimen.clean(seed), loss_S=np.asarray(loss, dtype=np.float64))


def failed(measurement):
    return measurement.reading.statistic > measurement.limit


def rising(run, start=120, rate=0.1):
    """The run's loss, growing exponentially from a step on."""
    return replace(run, loss_S=run.loss_S * np.exp(rate * np.maximum(STEPS - start, 0)))


def restart(run, start=120, share=0.7):
    """A warm restart gives back a share of what was gained, which is then won again."""
    lost = share * (specimen.NULL - run.loss_S[start]) * np.exp(-np.maximum(STEPS - start, 0) / 15)
    return replace(run, loss_S=run.loss_S + np.where(start <= STEPS, lost, 0.0))


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_runs_pass(seed):
    run, reference = specimen.clean(seed), reference_of([specimen.clean(100 + i) for i in range(5)])
    assert not failed(divergence(run))
    assert not failed(slow_convergence(run, reference))
    assert not failed(slow_convergence(run))
    assert not failed(plateau(run))


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_that_rises_for_good_is_a_divergence(seed):
    found = divergence(rising(specimen.clean(seed)))
    assert failed(found)
    assert 110 <= found.reading.evidence["onset"] <= 145
    assert found.reading.evidence["step"] == specimen.STEPS - 1


def test_height_is_the_share_of_the_gain_that_was_lost():
    loss = np.where(STEPS < 50, 0.3, np.where(STEPS < 100, 0.2, 0.45))
    found = rise(replace(with_loss(loss), null_loss=0.7))
    assert found.height == pytest.approx(0.25 / 0.5)
    assert (found.best_step, found.step) == (60, 102)


def test_loss_that_is_far_above_the_null_loss_from_the_start_and_grows_is_a_divergence():
    assert failed(divergence(with_loss(0.7 * np.exp(0.05 * STEPS))))


def test_loss_that_explodes_in_its_first_steps_is_a_divergence_though_it_comes_back():
    found = divergence(with_loss(np.where((STEPS > 0) & (STEPS < 30), 500.0, specimen.NULL)))
    assert failed(found)
    assert found.reading.evidence["onset"] < 5


def test_slow_drift_where_nothing_was_gained_is_no_divergence():
    assert not failed(divergence(with_loss(specimen.NULL * (1 + 0.1 * STEPS / specimen.STEPS))))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "harmless",
    [
        lambda run: restart(run),
        lambda run: replace(run, loss_S=np.where(np.isin(STEPS, [90, 91]), 50.0, run.loss_S)),
        lambda run: replace(run, loss_S=run.loss_S + 20 * np.exp(-STEPS / 8)),
        lambda run: replace(run, loss_S=np.interp(STEPS, [0, 40, 199], [0.7, 0.69, 0.2]) * run.loss_S**0),
    ],
    ids=["restart", "spike of two steps", "high loss at first", "warm-up"],
)
def test_harmless_rises_are_no_divergence(harmless, seed):
    assert not failed(divergence(harmless(specimen.clean(seed))))


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_where_nothing_is_learned_is_no_divergence(seed):
    loss = specimen.NULL * np.exp(np.random.default_rng(seed).normal(0, 0.2, specimen.STEPS))
    assert not failed(divergence(with_loss(loss)))


def test_return_to_a_checkpoint_is_a_divergence():
    found = divergence(replace(specimen.clean(1), recoveries=(70,)))
    assert failed(found)
    assert "step 70" in found.reading.diagnosis


def broken(run, at, before):
    """The loss is NaN from a step on, after the given losses."""
    loss = np.where(at <= STEPS, np.nan, run.loss_S)
    loss[at - len(before) : at] = before
    nonfinite = np.where(at <= STEPS, 3, 0)
    return replace(run, loss_S=loss, nonfinite_S=nonfinite, status="failed")


def test_loss_that_blows_up_into_nan_is_a_divergence_and_one_that_breaks_at_once_is_none():
    run = specimen.clean(1)
    blown = divergence(broken(run, 100, [2.0, 60.0, 4e5]))
    assert failed(blown)
    assert "blew up before step 100" in blown.reading.diagnosis
    assert not failed(divergence(broken(run, 100, [])))


def test_gradient_that_blows_up_before_the_loss_breaks_is_a_divergence():
    run = broken(specimen.clean(1), 100, [])
    norm = run.grad_norm_S.copy()
    norm[97:100] *= [10, 1e3, 1e6]
    assert failed(divergence(replace(run, grad_norm_S=norm)))


def test_network_thrown_to_where_no_gradient_is_left_has_diverged():
    run = specimen.clean(1)
    rms = run.grad_rms_SL.copy()
    rms[5:, :9] = 0
    thrown = replace(run, grad_rms_SL=rms, loss_S=np.full(specimen.STEPS, specimen.NULL))
    found = divergence(thrown)
    assert failed(found)
    assert "90 % of the layers" in found.reading.diagnosis
    assert not failed(divergence(replace(thrown, loss_S=run.loss_S)))  # layers frozen once they are good
    frozen = replace(thrown, grad_rms_SL=np.where(np.arange(10) < 9, 0.0, run.grad_rms_SL))
    assert not failed(divergence(frozen))


def test_step_behind_which_other_gates_do_not_look():
    assert rise(specimen.clean(1)).diverged_at == NEVER
    assert rise(rising(specimen.clean(1))).diverged_at < specimen.STEPS
    assert divergence.limit == DIVERGED


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [0.5, 1.5])
def test_slower_fall_than_the_references_is_slow(seed, rate):
    reference = reference_of([specimen.clean(100 + i) for i in range(5)])
    run = specimen.clean(seed)
    slow = replace(run, loss_S=run.loss_S / specimen.fall() * specimen.fall(rate=rate))
    found = slow_convergence(slow, reference)
    assert failed(found)
    usual = specimen.fall()[99:]
    expected = (specimen.fall(rate=rate)[99:] - usual) / (specimen.NULL - usual)
    assert found.reading.statistic == pytest.approx(expected.mean(), abs=0.06)


def test_other_batch_size_is_compared_at_equal_examples():
    reference = reference_of([specimen.clean(100 + i) for i in range(5)])
    run = specimen.clean(3, steps=100)
    halved = replace(run, loss_S=specimen.fall(100), samples_S=(np.arange(100) + 1) * 2 * specimen.BATCH, batch_size=64)
    assert abs(slow_convergence(halved, reference).reading.statistic) < 0.05


def test_reference_is_the_median_of_the_smoothed_losses():
    runs = [with_loss(np.full(specimen.STEPS, level)) for level in (0.1, 0.2, 0.6)]
    reference = reference_of(runs)
    assert len(reference.samples) == convergence.GRID
    assert set(reference.loss) == {0.2}
    assert reference.samples[-1] == runs[0].samples_S[-1]


def test_without_reference_only_a_run_that_learned_nothing_is_slow():
    assert failed(slow_convergence(with_loss(np.full(specimen.STEPS, 0.98 * specimen.NULL))))
    assert not failed(slow_convergence(with_loss(np.full(specimen.STEPS, 0.8 * specimen.NULL))))


def test_straight_fall_has_not_come_to_rest():
    found = plateau(with_loss(np.linspace(specimen.NULL, 0.1, specimen.STEPS)))
    assert found.reading.statistic == pytest.approx(0.25, abs=0.03)
    assert failed(found)


def test_share_of_an_exponential_approach_is_what_the_formula_says():
    loss = with_loss(specimen.fall(2000, floor=0.0, rate=4.0)[::10])
    expected = (np.exp(-3) - np.exp(-4)) / (1 - np.exp(-4))
    assert plateau(loss).reading.statistic == pytest.approx(expected, abs=0.01)
