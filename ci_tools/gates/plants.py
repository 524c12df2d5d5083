"""The faults of `switchback gate --self-test`: one for every rule by which a mode's gate can fire.

Each is planted alone into the healthy specimen, and such that only its own rule sees it.
S = steps, L = layers, P = probes, E = evaluations, V = validation examples, N = training examples, H = shadow steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ci_tools.gates import planted_files as files
from ci_tools.gates import specimen
from ci_tools.gates.specimen import Case
from ci_tools.gates.training import I64, Series, Training

Plant = Callable[[Case], Case]

_NOISE = np.random.default_rng(7).normal(size=(specimen.STEPS, len(specimen.SHAPES)))
_WEIGHTS, _BIASES = slice(0, None, 2), slice(1, None, 2)
"""Layers of the specimen."""
_BROKEN_AT = 150


def _with(case: Case, **changes: Any) -> Case:
    return replace(case, training=replace(case.training, **changes))


def _gradients(t: Training, factor_S: Any) -> dict[str, Any]:
    """All that tells the gradients' size, times a factor per step."""
    return {
        "grad_norm_S": t.grad_norm_S * factor_S,
        "grad_rms_SL": t.grad_rms_SL * factor_S[:, None],
        "grad_absmax_SL": t.grad_absmax_SL * factor_S[:, None],
    }


def _broken(t: Training, row: I64) -> dict[str, Any]:
    """Gradients that are not finite in some steps."""
    bad_S = np.isin(np.arange(len(t.step_S)), row)
    return _gradients(t, np.where(bad_S, np.nan, 1.0)) | {"nonfinite_S": bad_S * len(t.layers)}


def _stalled(case: Case, level: float = 1.0) -> Case:
    """The loss stays at a multiple of the null loss."""
    t = case.training
    return _with(
        case,
        loss_S=level * t.null_loss * np.exp(0.02 * _NOISE[:, 0]),
        example_loss_EV=np.full_like(t.example_loss_EV, t.null_loss),
        margin_N=np.abs(t.margin_N) / 100,
    )


# -- divergence -------------------------------------------------------------------------------------------------------


def _rising(case: Case, since: int = specimen.STEPS // 2) -> Case:
    """From a step on, loss and gradients double every ten steps."""
    t = case.training
    growth_S = 2.0 ** (np.maximum(t.step_S - since, 0) / 10)
    return _with(case, loss_S=t.loss_S * growth_S, **_gradients(t, growth_S))


def _exploding(case: Case, loss: float, gradient: float) -> Case:
    """In the step before the last finite one, loss and gradient are so many times as large; NaN follows."""
    t = case.training
    factor_S = np.where(t.step_S < _BROKEN_AT, 1.0, np.nan)
    rise_S = np.where(t.step_S == _BROKEN_AT - 1, 1.0, 0.0)
    return _with(
        case,
        status="failed",
        loss_S=t.loss_S * factor_S * (1 + (loss - 1) * rise_S),
        nonfinite_S=(t.step_S >= _BROKEN_AT) * len(t.layers),
        **_gradients(t, factor_S * (1 + (gradient - 1) * rise_S)),
    )


def _silenced(case: Case) -> Case:
    """A first step threw the weights to where no layer gets a gradient."""
    return _with(_stalled(case, 1.05), **_gradients(case.training, (case.training.step_S < 5).astype(np.float64)))


# -- signal that does not arrive, or is wrong -------------------------------------------------------------------------


def _vanishing(case: Case, kind: slice) -> Case:
    """Each layer passes on a hundredth of its gradient, seen in the weights or in the biases, and the loss stalls."""
    t = case.training
    fading_L = np.ones(len(t.layers))
    fading_L[kind] = 0.01 ** np.arange(len(fading_L[kind]))[::-1]
    rms_SL = t.grad_rms_SL * fading_L
    return _with(
        _stalled(case), grad_rms_SL=rms_SL, grad_absmax_SL=4 * rms_SL, update_ratio_PL=t.update_ratio_PL * fading_L
    )


def _noisy(case: Case) -> Case:
    """The gradients of two halves of a batch have nothing in common."""
    t = case.training
    return _with(
        case,
        half_cosine_PL=0.01 * _NOISE[: len(t.probe_step_P)],
        gradient_square_P=t.gradient_square_P * 1e-3,
        noise_scale_P=t.noise_scale_P * 1e3,
    )


def _mislabelled(case: Case) -> Case:
    """A fifth of the training examples carry the other label, of which the validation examples are free."""
    flipped_N = np.arange(len(case.training.margin_N)) % 5 == 0
    margin_N = np.where(flipped_N, -1, 1) * case.training.margin_N
    noisy = _with(case, margin_N=margin_N, loss_S=0.4 * case.training.null_loss + 0.6 * case.training.loss_S)
    return replace(noisy, label_N=None)


def _mislabelled_everywhere(case: Case) -> Case:
    """A fifth of the training and of the validation examples carry the other label."""
    loss_EV = case.training.example_loss_EV.copy()
    loss_EV[:, ::5] = 2.0
    return replace(_with(_mislabelled(case), example_loss_EV=loss_EV), label_N=case.label_N)


def _mismeasured(case: Case) -> Case:
    """A fifth of the training targets of a regression are six times as far off."""
    t, rng = case.training, np.random.default_rng(0)
    error_N = 0.2 * np.abs(rng.normal(size=len(t.margin_N)))
    error_N[::5] *= 6
    error_V = 0.2 * np.abs(rng.normal(size=t.example_loss_EV.shape[1]))
    loss_S = np.square(error_N).mean() * t.loss_S / t.loss_S[-1]
    loss_EV = np.square(error_V) * np.linspace(1.2, 1, len(t.example_step_E))[:, None]
    return replace(_with(case, margin_N=-error_N, loss_S=loss_S, example_loss_EV=loss_EV), label_N=None)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def _rounded(case: Case) -> Case:
    """Cancellation has eaten most digits of every gradient."""
    return _with(case, shadow_error_HL=case.training.shadow_error_HL * 1e5)


def _made_up(case: Case) -> Case:
    """The first gradient that was looked at is more wrong than none would be; the loss had risen before."""
    error_HL = case.training.shadow_error_HL.copy()
    error_HL[0] = 2.0
    return _with(_rising(case, since=10), shadow_error_HL=error_HL)


def _nan_gradient(case: Case) -> Case:
    """A gradient is NaN in one step, out of a sound loss."""
    return _with(case, **_broken(case.training, np.array([_BROKEN_AT])))


def _nan_loss(case: Case) -> Case:
    """The loss becomes NaN from one step to the next and stays so."""
    t = case.training
    return _with(case, loss_S=np.where(t.step_S < _BROKEN_AT, t.loss_S, np.nan))


def _overflowing(case: Case) -> Case:
    """Loss scaling skips every fifth step of a run in half precision."""
    return _with(case, precision="fp16", **_broken(case.training, np.arange(4, specimen.STEPS, 5)))


# -- fit and pace -----------------------------------------------------------------------------------------------------


def _overfitted(case: Case, per_example: bool) -> Case:
    """After the second evaluation the validation loss rises while the training loss goes on falling."""
    t = case.training
    rise_E = 0.05 * np.maximum(np.arange(len(t.example_step_E)) - 1, 0)
    overfitted = _with(case, loss_S=t.loss_S * 0.97 ** (t.step_S / 10))
    if per_example:
        return _with(overfitted, example_loss_EV=t.example_loss_EV + rise_E[:, None])
    mean = Series(step_E=t.example_step_E, value_E=t.example_loss_EV.mean(axis=1) + rise_E)
    return _with(
        overfitted,
        evals={("validation", "loss"): mean},
        example_step_E=np.zeros(0, np.int64),
        example_loss_EV=np.zeros((0, 0)),
    )


def _slow(case: Case) -> Case:
    """The loss needs thirty times as many steps."""
    t = case.training
    loss_S = specimen.fall(30 * len(t.step_S))[: len(t.step_S)] * np.exp(0.06 * _NOISE[:, 0])
    return _with(case, loss_S=loss_S, example_loss_EV=np.full_like(t.example_loss_EV, loss_S[-1]))


def _learning_nothing(case: Case) -> Case:
    """Nothing is learned, and no clean run is there to tell how much could be."""
    return replace(_stalled(case), reference=None)


def _slowed(case: Case) -> Case:
    """The last third takes three times as long per step."""
    t = case.training
    return _with(case, step_ms_S=np.where(t.step_S < len(t.step_S) * 2 // 3, 1, 3) * t.step_ms_S)


def _waiting(case: Case) -> Case:
    """Every seventh step waits for one slow worker."""
    t = case.training
    return _with(case, step_ms_S=np.where(t.step_S % 7 == 3, 3, 1) * t.step_ms_S)


PLANTS: Mapping[str, Mapping[str, Plant]] = {
    "divergence": {
        "the loss rises": _rising,
        "the gradient explodes": lambda case: _exploding(case, loss=1, gradient=1e3),
        "the loss explodes": lambda case: _exploding(case, loss=30, gradient=1),
        "every layer falls silent": _silenced,
        "a return to a checkpoint": lambda case: _with(case, recoveries=(_BROKEN_AT,)),
    },
    "vanishing_gradients": {
        "in the weights": lambda case: _vanishing(case, _WEIGHTS),
        "in the biases": lambda case: _vanishing(case, _BIASES),
    },
    "overfitting": {
        "in losses per example": lambda case: _overfitted(case, per_example=True),
        "in the mean loss": lambda case: _overfitted(case, per_example=False),
    },
    "slow_convergence": {"slower than clean runs": _slow, "nothing learned": _learning_nothing},
    "gradient_noise": {"halves of a batch disagree": _noisy},
    "stragglers": {"slow for long": _slowed, "every seventh step": _waiting},
    "checkpoint_corruption": files.RECORDS,
    "data_leakage": files.SPLITS,
    "numerical_instability": {
        "cancellation": _rounded,
        "made-up gradients": _made_up,
        "a NaN gradient": _nan_gradient,
        "a NaN loss": _nan_loss,
        "half precision overflows": _overflowing,
    },
    "label_noise": {
        "against validation": _mislabelled,
        "apart from their class": _mislabelled_everywhere,
        "targets of a regression": _mismeasured,
    },
}
"""Faults by mode, each with a name."""
