"""Whether the arithmetic can be trusted.

S = optimizer steps, L = layers, H = shadow steps.
"""

import numpy as np

from ci_tools.gates import series
from ci_tools.gates.reasons import Reason
from ci_tools.gates.rise import first_nonfinite, rise
from ci_tools.gates.training import F64, I64, Training
from ci_tools.gates.verdict import Reading, gate, unmeasured
from ci_tools.record.schema import UNIT_ROUNDOFF

SPURIOUS = 1.5
"""Relative error of a gradient that is more wrong than none would be."""
SCALER_SKIPS = 0.02
"""Share of steps that loss scaling in half precision may skip because its scale was too large."""


@gate(
    limit=100.0,
    unit="times the unavoidable rounding error",
    remedy=(
        "compute the loss in a stable form (log_softmax, logsumexp, logits), subtract means before squaring, and keep "
        "reductions in float32; `switchback diagnose` tells whether float64 cures it"
    ),
    calibrated=True,
)
def numerical_instability(training: Training) -> Reading:
    """Gradients that rounding has spoiled.

    At each shadow step, per layer: error / (sensitivity + u), the relative error of the gradient against float64 over
    what moving each weight by one rounding error does to it (Higham 2002, ch. 1: forward error over condition), u
    being the unit roundoff; times the loss over the null loss where that is less than 1, because rounding does no harm
    to the last gradients of a fit that leaves no loss. Statistic: the median over layers at the worst shadow step.

    A gradient that is not finite is wrong by at least its own size and reads 1/u, unless the loss scaling of half
    precision skips such steps now and then. What comes behind a divergence (`rise.diverged_at`) is its consequence and
    left out, except an error larger than the gradient itself at the first of all shadow steps: saturation loses
    gradients, which is an error of 1, but makes up none, and no earlier step vouches for the arithmetic.
    """
    roundoff = UNIT_ROUNDOFF.get(training.precision, 2.0**-24)
    row, until = first_nonfinite(training), rise(training).diverged_at
    shadow_L, shadow_step = _worst_shadow(training, roundoff, until)
    broken = 0 if row is None or training.step_S[row] > until else _broken_steps(training)
    ratio = float("nan") if shadow_L is None else float(np.median(shadow_L))
    evidence = {"nonfinite steps": broken, "worst shadow step": shadow_step, "error over unavoidable": ratio}
    if broken and row is not None:
        bad = np.flatnonzero(~np.isfinite(training.grad_absmax_SL[row]))
        layer = training.layers[bad[-1]] if len(bad) else "the loss"
        return Reading(
            statistic=float(np.fmax(ratio, 1 / roundoff)),
            diagnosis=(
                f"{broken} steps, the first being step {training.step_S[row]}, have a NaN or infinite loss or gradient "
                f"({len(bad)} layers, the last {layer}) though the loss had not risen before."
            ),
            evidence=evidence | {"first nonfinite step": int(training.step_S[row]), "layer": layer},
        )
    if shadow_L is None:
        why = Reason.DIVERGED_BEFORE if len(training.shadow_step_H) else Reason.NO_SHADOW
        return unmeasured(why, steps=len(training.step_S))
    worst = int(np.argmax(shadow_L))
    return Reading(
        statistic=ratio,
        diagnosis=(
            f"At step {shadow_step} the gradient's rounding error is {ratio:.3g} times the unavoidable one in the "
            f"median layer, {shadow_L[worst]:.3g} times in {training.layers[worst]}."
        ),
        evidence=evidence | {"layer": training.layers[worst]},
    )


def _worst_shadow(training: Training, roundoff: float, until: int) -> tuple[F64 | None, int]:
    """Per layer, error over what is unavoidable, at the shadow step where its median is largest."""
    error_HL, sensitivity_HL, step_H = training.shadow_error_HL, training.shadow_sensitivity_HL, training.shadow_step_H
    if not error_HL.size:
        return None, 0
    error_HL = np.where(np.isfinite(error_HL), error_HL, 1.0)
    spurious_H = np.median(error_HL, axis=1) > SPURIOUS
    spurious_H[1:] = False
    usable_H = np.isfinite(sensitivity_HL).all(axis=1) & ((step_H <= until) | spurious_H)
    if not usable_H.any():
        return None, 0
    ratio_HL = (error_HL / (np.nan_to_num(sensitivity_HL) + roundoff))[usable_H]
    ratio_HL = ratio_HL * _weight(training, step_H[usable_H])[:, None]
    at = int(np.argmax(np.median(ratio_HL, axis=1)))
    return ratio_HL[at], int(step_H[usable_H][at])


def _weight(training: Training, step_H: I64) -> F64:
    """Smoothed loss at each shadow step over the null loss, at most 1: how much there is still to go wrong, [H]."""
    smooth_S, null = (
        series.rolling_median(training.loss_S, series.window(len(training.loss_S))),
        series.null_loss(training),
    )
    if not len(smooth_S) or not null > 0:
        return np.ones(len(step_H))
    loss_H = smooth_S[np.clip(np.searchsorted(training.step_S, step_H - 1), 0, len(smooth_S) - 1)]
    return np.clip(np.nan_to_num(loss_H / null, nan=1.0), 0.0, 1.0)


def _broken_steps(training: Training) -> int:
    """Steps whose loss or gradient is not finite, less those that loss scaling in half precision is entitled to."""
    bad_loss_S = ~np.isfinite(training.loss_S)
    bad_S = bad_loss_S | (training.nonfinite_S > 0)
    if training.precision != "fp16":
        return int(bad_S.sum())
    skipped = int((bad_S & ~bad_loss_S).sum())
    allowed = max(10, int(SCALER_SKIPS * len(bad_S)))  # the scale starts high and comes down within a few steps
    return int(bad_loss_S.sum()) + max(skipped - allowed, 0)
