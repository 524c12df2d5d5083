"""Whether the arithmetic can be trusted.

S = optimizer steps, L = layers, H = shadow steps.
"""

import numpy as np

from ci_tools.gates import series
from ci_tools.gates.rise import first_nonfinite, rise
from ci_tools.gates.training import F64, I64, Training
from ci_tools.gates.verdict import Reading, gate, unmeasured

UNIT_ROUNDOFF = {"float32": 2.0**-24, "bf16": 2.0**-9, "fp16": 2.0**-11}
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
    being the unit roundoff; both count less as the layer's gradient shrinks from what it was at first, because
    rounding errors of a gradient that has all but vanished do no harm. Statistic: the median over layers at the worst
    shadow step. A gradient that is not finite
    is wrong by at least its own size and reads 1/u, unless the loss scaling of half precision skips such steps now and
    then. What comes after a divergence (`rise.diverged_at`) is its consequence and left out.
    """
    roundoff = UNIT_ROUNDOFF.get(training.precision, 2.0**-24)
    row, until = first_nonfinite(training), rise(training).diverged_at
    shadow_L, shadow_step = _worst_shadow(training, roundoff, until)
    broken = 0 if row is None or training.step_S[row] > until else _broken_steps(training)
    if shadow_L is None and not broken:
        why = (
            "the loss diverged before any shadow step"
            if len(training.shadow_step_H)
            else "the run took no shadow steps"
        )
        return unmeasured(f"{why}; every gradient up to there is finite", steps=len(training.step_S))
    ratio = 0.0 if shadow_L is None else float(np.median(shadow_L))
    evidence = {"nonfinite steps": broken, "worst shadow step": shadow_step, "error over unavoidable": ratio}
    if broken and row is not None:
        bad = np.flatnonzero(~np.isfinite(training.grad_absmax_SL[row]))
        layer = training.layers[bad[-1]] if len(bad) else "the loss"
        return Reading(
            statistic=max(ratio, 1 / roundoff),
            diagnosis=(
                f"{broken} steps, the first being step {training.step_S[row]}, have a NaN or infinite loss or gradient "
                f"({len(bad)} layers, last {layer}) though the loss had not risen before."
            ),
            evidence=evidence | {"first nonfinite step": int(training.step_S[row])},
        )
    assert shadow_L is not None
    worst = int(np.argmax(shadow_L))
    return Reading(
        statistic=ratio,
        diagnosis=(
            f"At step {shadow_step} the gradient's rounding error is {ratio:.3g} times the unavoidable one in the median "
            f"layer, {shadow_L[worst]:.3g} times in {training.layers[worst]}."
        ),
        evidence=evidence,
    )


def _worst_shadow(training: Training, roundoff: float, until: int) -> tuple[F64 | None, int]:
    """Per layer, error over what is unavoidable, at the shadow step where its median is largest."""
    kept = training.shadow_step_H <= until
    error_HL, sensitivity_HL = training.shadow_error_HL[kept], training.shadow_sensitivity_HL[kept]
    usable = np.isfinite(sensitivity_HL).all(axis=1)
    if not usable.any() or not error_HL.shape[1]:
        return None, 0
    step_H = training.shadow_step_H[kept][usable]
    error_HL = np.where(np.isfinite(error_HL), error_HL, 1.0)[usable] * _weight(training, step_H)
    ratio_HL = error_HL / (sensitivity_HL[usable] + roundoff)
    at = int(np.argmax(np.median(ratio_HL, axis=1)))
    return ratio_HL[at], int(step_H[at])


def _weight(training: Training, step_H: I64) -> F64:
    """How large each layer's gradient still was over its first, at most 1, [H, L]."""
    rms_SL, width = training.grad_rms_SL, series.window(len(training.grad_rms_SL))
    first_L = np.array([series.median(column) for column in rms_SL[:width].T])
    weight_HL = np.ones((len(step_H), rms_SL.shape[1]))
    for h, step in enumerate(step_H):
        row = int(np.searchsorted(training.step_S, step - 1))
        now_L = np.array([series.median(column) for column in rms_SL[max(row - width, 0) : row + 1].T])
        good_L = np.isfinite(now_L) & (first_L > 0)
        weight_HL[h, good_L] = np.minimum(now_L[good_L] / first_L[good_L], 1.0)
    return weight_HL


def _broken_steps(training: Training) -> int:
    """Steps whose loss or gradient is not finite, less those that loss scaling in half precision is entitled to."""
    bad_loss_S = ~np.isfinite(training.loss_S)
    bad_S = bad_loss_S | (training.nonfinite_S > 0)
    if training.precision != "fp16":
        return int(bad_S.sum())
    skipped = int((bad_S & ~bad_loss_S).sum())
    allowed = max(10, int(SCALER_SKIPS * len(bad_S)))  # the scale starts high and comes down within a few steps
    return int(bad_loss_S.sum()) + max(skipped - allowed, 0)
