"""Whether the training loss fell, stayed down, fell fast enough and came to rest.

S = optimizer steps, G = points of a grid of examples seen.
"""

from collections.abc import Sequence

import numpy as np

from ci_tools.gates import series
from ci_tools.gates.calibration import Reference
from ci_tools.gates.reasons import Reason
from ci_tools.gates.rise import DIVERGED, rise
from ci_tools.gates.training import F64, I64, Training
from ci_tools.gates.verdict import Reading, gate, unmeasured

GRID = 20
"""Points at which runs are compared."""


@gate(
    limit=DIVERGED,
    unit="share of the loss's gain that was lost again",
    remedy="halve the learning rate, lengthen the warm-up, or clip the gradient norm",
    floor=DIVERGED,
    calibrated=True,
)
def divergence(training: Training) -> Reading:
    """The loss rose to where nothing had been learned, or the run had to return to a checkpoint.

    Statistic: the height of `rise` or, where larger, the share of layers that fell silent times the unexplained share
    of the null loss (a step too long can throw a network to where no gradient is left); plus 1 for each return
    to a checkpoint. A spike of one or two steps does not count, and a warm restart loses less than all that was gained.

    A robust z of log loss and log gradient norm against a past window was tried and left: a smooth curve makes the
    harmless rise after a restart as significant as a divergence; what tells them apart is how much is lost.
    """
    found, returns = rise(training), len(training.recoveries)
    if np.isnan(found.height) and not returns:
        return unmeasured(Reason.NO_LOSSES)
    silent, null = _silent_share(training), series.null_loss(training)
    height = float(np.nan_to_num(found.height))
    fell_silent = silent * min(1 - series.explained(training), 1.0) if silent else 0.0
    if found.blew_up:
        sentence = f"The loss or its gradient blew up before step {found.step}, from where on it is not finite."
    elif returns:
        sentence = f"The run diverged at step {training.recoveries[0]}; {returns} times it returned to a checkpoint."
    elif fell_silent > height:
        sentence = (
            f"{100 * silent:.0f} % of the layers had a gradient at first and none at the end: the weights were thrown."
        )
    else:
        sentence = (
            f"The loss rose highest at step {found.step}, by {100 * height:.0f} % of what it had gained on the null "
            f"loss {null:.4g} by step {found.best_step}."
        )
    return Reading(
        statistic=max(height, fell_silent) + returns,
        diagnosis=sentence,
        evidence={
            "step": found.step,
            "best step": found.best_step,
            "onset": found.onset,
            "null loss": null,
            "last smoothed loss": series.last_loss(training),
            "share of layers that fell silent": silent,
            "returns to a checkpoint": returns,
        },
    )


def _silent_share(training: Training) -> float:
    """Share of the layers whose gradient was there at the first step and is exactly 0 throughout the last window."""
    rms_SL = training.grad_rms_SL
    if not rms_SL.size or not rms_SL[0].any():
        return 0.0
    last_L = (rms_SL[-series.window(len(rms_SL)) :] == 0).all(axis=0)
    return float(last_L[rms_SL[0] > 0].mean())


@gate(
    limit=0.25,
    unit="share of the gain on the null loss that is missing",
    remedy="raise the learning rate, or look at what changed in the model, the optimizer or the data",
    floor=0.1,
    calibrated=True,
)
def slow_convergence(training: Training, reference: Reference | None = None) -> Reading:
    """The loss falls later than in the clean runs, at equal numbers of examples seen.

    With N the null loss, R the reference runs' loss and m this run's, smoothed alike: the mean of (m − R) / (N − R)
    over the second half of the examples that both have seen. Without a reference, the share of the null loss that is
    left, which only says whether anything was learned; its limit is 0.9.
    """
    null, last = series.null_loss(training), series.last_loss(training)
    if not np.isfinite(null) or not np.isfinite(last):
        return unmeasured(Reason.NO_LOSSES)
    if reference is None:
        left = 1 - series.explained(training)
        return Reading(
            statistic=left,
            limit=0.9,
            diagnosis=f"After {training.samples_S[-1]} examples the loss is {last:.4g} of a null loss of {null:.4g}.",
            evidence={"null loss": null, "last loss": last},
        )
    samples_G, loss_G = np.array(reference.samples), np.array(reference.loss)
    common = samples_G <= training.samples_S[-1]
    common &= samples_G >= (samples_G[common].max() if common.any() else 0) / 2
    if not common.any() or (null <= loss_G[common]).any():
        return unmeasured(Reason.NO_REFERENCE)
    here_G = loss_at(training, samples_G[common])
    missing_G = (here_G - loss_G[common]) / (null - loss_G[common])
    if not np.isfinite(missing_G).any():
        return unmeasured(Reason.NO_LOSSES)
    statistic = float(missing_G[np.isfinite(missing_G)].mean())
    return Reading(
        statistic=statistic,
        diagnosis=(
            f"After {samples_G[common][-1]} examples the loss is {here_G[-1]:.4g}, that of the clean runs "
            f"{loss_G[common][-1]:.4g}: over the second half {100 * statistic:.0f} % of their gain on the null loss "
            f"{null:.4g} are missing."
        ),
        evidence={
            "null loss": null,
            "samples": samples_G[common].tolist(),
            "loss": here_G.tolist(),
            "reference loss": loss_G[common].tolist(),
        },
    )


def reference_of(trainings: Sequence[Training]) -> Reference:
    """The median smoothed loss of clean runs, on a grid over the examples that all of them saw."""
    until = min(int(training.samples_S[-1]) for training in trainings)
    samples_G = np.unique(np.linspace(0, until, GRID + 1)[1:].astype(np.int64))
    loss_G = np.median([loss_at(training, samples_G) for training in trainings], axis=0)
    return Reference(samples=tuple(map(int, samples_G)), loss=tuple(map(float, loss_G)))


def loss_at(training: Training, samples_G: I64) -> F64:
    """Median training loss over the window that ends at each number of examples seen, [G]."""
    smooth_S = series.rolling_median(training.loss_S, series.window(len(training.loss_S)))
    row = np.searchsorted(training.samples_S, samples_G, side="right") - 1
    return np.where(row >= 0, smooth_S[np.maximum(row, 0)], np.nan)


@gate(
    limit=0.2,
    unit="share of all progress",
    remedy="train longer, or let the learning rate fall by the end",
    calibrated=True,
)
def plateau(training: Training) -> Reading:
    """Training ended before the loss reached its plateau: share of all progress made in the last quarter.

    A straight line makes a quarter there, an exponential approach with four time constants in the run 3 %.
    """
    loss_S = training.loss_S
    width = series.window(len(loss_S))
    if len(loss_S) < 4 * width:
        return unmeasured(Reason.FEW_STEPS, f"{len(loss_S)} steps are too few; {4 * width} tell something")
    start, end = series.null_loss(training), series.last_loss(training)
    at = len(loss_S) * 3 // 4
    before = series.median(loss_S[at - width : at])
    progress = start - end
    if not np.isfinite(progress) or not np.isfinite(before) or progress <= 0:
        return unmeasured(Reason.NO_PROGRESS)
    share = (before - end) / progress
    return Reading(
        statistic=share,
        diagnosis=(
            f"Of all that the loss gained, {100 * share:.3g} % came in the last quarter of training (from "
            f"{before:.3g} at step {training.step_S[at]} to {end:.3g} at the end); it is next to nothing for a loss "
            "that has levelled off."
        ),
        evidence={"null loss": start, "loss at three quarters": before, "last loss": end},
    )
