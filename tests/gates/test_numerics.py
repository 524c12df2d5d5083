"""Numerical instability on runs made from formulas."""

from dataclasses import replace

import numpy as np
import pytest

from ci_tools.gates import specimen
from ci_tools.gates.numerics import numerical_instability

STEPS = np.arange(specimen.STEPS)


def failed(measurement):
    return measurement.reading.statistic > measurement.limit


def with_error(run, factor, late=False):
    rows = run.shadow_step_H > 100 if late else np.ones(len(run.shadow_step_H), dtype=bool)
    return replace(run, shadow_error_HL=np.where(rows[:, None], factor * run.shadow_error_HL, run.shadow_error_HL))


def with_nonfinite(run, steps, loss=False):
    chosen = np.isin(STEPS, steps)
    absmax = np.where(chosen[:, None] & (np.arange(10) < 7), np.inf, run.grad_absmax_SL)
    return replace(
        run,
        nonfinite_S=7 * chosen.astype(np.int64),
        grad_absmax_SL=absmax,
        loss_S=np.where(chosen & loss, np.nan, run.loss_S),
    )


@pytest.mark.parametrize("seed", range(10))
def test_clean_runs_pass(seed):
    assert not failed(numerical_instability(specimen.clean(seed)))


@pytest.mark.parametrize("seed", range(10))
def test_rounding_far_beyond_the_unavoidable_is_named(seed):
    assert failed(numerical_instability(with_error(specimen.clean(seed), 2**13)))  # float16 in place of float32


def test_statistic_is_error_over_what_is_unavoidable_in_the_median_layer():
    run = replace(specimen.clean(1), loss_S=np.full(specimen.STEPS, specimen.NULL))
    ratio = run.shadow_error_HL / (run.shadow_sensitivity_HL + 2.0**-24)
    found = numerical_instability(run).reading
    assert found.statistic == pytest.approx(np.median(ratio, axis=1).max(), rel=1e-12)
    assert found.evidence["worst shadow step"] == run.shadow_step_H[np.median(ratio, axis=1).argmax()]


def test_declared_half_precision_is_measured_by_its_own_roundoff():
    run = specimen.clean(1)
    half = replace(
        run, shadow_error_HL=run.shadow_error_HL * 2**13, shadow_sensitivity_HL=run.shadow_sensitivity_HL * 2**13
    )
    assert not failed(numerical_instability(replace(half, precision="fp16")))


def test_rounding_of_a_fit_that_leaves_no_loss_is_harmless():
    run = with_error(specimen.clean(1), 1e3, late=True)
    assert failed(numerical_instability(run))
    assert not failed(numerical_instability(replace(run, loss_S=run.loss_S * np.where(STEPS > 80, 1e-4, 1))))


def test_gradient_that_breaks_without_warning_is_named_with_step_and_layer():
    found = numerical_instability(with_nonfinite(specimen.clean(1), [77]))
    assert failed(found)
    assert found.reading.evidence["first nonfinite step"] == 77
    assert found.reading.evidence["layer"] in found.reading.diagnosis
    assert specimen.LAYERS[6] in found.reading.diagnosis


def test_loss_that_blew_up_before_is_not_unstable_arithmetic():
    run = with_nonfinite(specimen.clean(1), range(100, 200), loss=True)
    loss = run.loss_S.copy()
    loss[97:100] = [3.0, 80.0, 1e7]
    assert failed(numerical_instability(run))
    assert not failed(numerical_instability(replace(run, loss_S=loss)))


def with_divergence(run, at, shadow_from, error):
    """The loss rises for good at a step, and the shadow steps behind another show an error."""
    late = run.shadow_step_H > shadow_from
    diverged = replace(run, loss_S=np.where(at > STEPS, specimen.fall(), 30.0))
    return replace(diverged, shadow_error_HL=np.where(late[:, None], error, run.shadow_error_HL))


@pytest.mark.parametrize(
    ("at", "shadow_from", "error", "fails"),
    [(10, 0, 20.0, True), (10, 0, 1.0, False), (90, 100, 20.0, False), (90, 70, 20.0, True)],
    ids=["made up at the first shadow step", "lost", "made up later", "made up before"],
)
def test_behind_a_divergence_only_what_the_first_shadow_step_makes_up_counts(at, shadow_from, error, fails):
    assert failed(numerical_instability(with_divergence(specimen.clean(1), at, shadow_from, error))) is fails


@pytest.mark.parametrize(("precision", "fails"), [("fp16", False), ("float32", True)])
def test_steps_that_loss_scaling_skips_are_harmless(precision, fails):
    run = replace(with_nonfinite(specimen.clean(1), [0, 1, 2, 150]), precision=precision)
    assert failed(numerical_instability(run)) is fails


def test_scale_that_never_settles_is_not():
    assert failed(numerical_instability(replace(with_nonfinite(specimen.clean(1), range(0, 200, 5)), precision="fp16")))


def test_without_shadow_steps_nothing_is_proven():
    run = specimen.clean(1)
    empty = np.zeros((0, 10))
    bare = replace(run, shadow_step_H=np.zeros(0, dtype=np.int64), shadow_error_HL=empty, shadow_sensitivity_HL=empty)
    assert np.isnan(numerical_instability(bare).reading.statistic)
    assert failed(numerical_instability(with_nonfinite(bare, [50])))
