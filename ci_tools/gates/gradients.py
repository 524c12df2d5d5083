"""Whether gradients reach every layer, and carry more signal than noise.

S = optimizer steps, L = layers in registration order, which is taken for depth, M = of them weight matrices (or
biases), G = groups of layers, P = probes, W = windows.
"""

import numpy as np
from numpy.typing import NDArray

from ci_tools.gates import series
from ci_tools.gates.reasons import Reason
from ci_tools.gates.rise import NEVER, rise
from ci_tools.gates.training import F64, Training
from ci_tools.gates.verdict import Reading, gate, unmeasured

DECADES = 2.0
"""Fall of the gradient from the output to the input that is too much."""
STALLED = 0.5
"""Share of the null loss that a stalled run leaves unexplained."""
WINDOWS = 10
LOWEST_COSINE = 1e-3
"""Cosines below it are taken for it, so that the noise scale stays finite."""
QUIET = 0.1
"""Share of the largest median gradient so far below which a median is no scale for spikes any more."""


@gate(
    limit=1.0,
    unit="times the limits of all conditions",
    remedy="add skip connections or normalisation, or change initialisation and activation, to keep their size",
    floor=1.0,
    calibrated=True,
)
def vanishing_gradients(training: Training) -> Reading:
    """Gradients die out towards the input while the loss stalls.

    In each tenth of the run: the decades from the largest gradient norm in the last third of the weight matrices to the
    median in the first half, over 2; and the share of the null loss not yet explained, over 0.5. The statistic is the
    least of both over three tenths on end, the worst such three. Biases are looked at in the same way, and the larger
    counts: their gradient is the backpropagated signal itself, free of the size of the activations.

    Tenths behind a divergence are left out. A slope along depth was tried and left: a few saturated layers behind many
    sound ones make a step, not a slope. So was the RMS gradient: an output of one unit has far fewer weights than the
    layers before it, and the same signal makes each of them larger by the root of that.
    """
    learning = [i for i in range(len(training.shapes)) if _learns(training.grad_rms_SL[:, i])]
    groups = [[i for i in learning if (len(training.shapes[i]) > 1) is matrix] for matrix in (True, False)]
    if len(groups[0]) < 3:
        told = f"only {len(groups[0])} weight matrices have a gradient; depth shows from 3 on"
        return unmeasured(Reason.FEW_MATRICES, told)
    unexplained_W = 1 - _explained(training)
    norm_SL = series.log10(training.grad_rms_SL * np.sqrt([np.prod(shape) for shape in training.shapes]))
    fall_GW = np.array([_fall(norm_SL[:, group]) for group in groups if len(group) >= 3])
    score_W = np.minimum(fall_GW.max(axis=0) / DECADES, unexplained_W / STALLED)
    edges = training.step_S[np.linspace(0, len(training.step_S) - 1, WINDOWS + 1).astype(int)]
    score_W = np.where(edges[1:] <= rise(training).diverged_at, score_W, np.nan)
    lasting_W = np.minimum(np.minimum(score_W[2:], score_W[1:-1]), score_W[:-2])
    if not np.isfinite(lasting_W).any():
        return unmeasured(Reason.NO_GRADIENTS)
    at = int(np.nanargmax(lasting_W))
    fall, unexplained = float(fall_GW.max(axis=0)[at : at + 3].min()), float(unexplained_W[at : at + 3].min())
    return Reading(
        statistic=max(float(lasting_W[at]), 0.0),
        diagnosis=(
            f"From step {edges[at]} to {edges[at + 3]} gradients shrank by {max(fall, 0):.1f} decades from the last to "
            f"the first of {len(groups[0])} weight matrices ({training.layers[groups[0][0]]}) while "
            f"{100 * min(unexplained, 1):.0f} % of the null loss were still unexplained."
        ),
        evidence={
            "fall, decades": fall,
            "unexplained share": unexplained,
            "from step": int(edges[at]),
            "to step": int(edges[at + 3]),
            "layer": training.layers[groups[0][0]],
            "log10 gradient norm": {training.layers[i]: series.median(norm_SL[:, i]) for i in groups[0]},
        },
    )


def _learns(rms_S: F64) -> bool:
    """Whether a layer takes part: a frozen one has no gradient at all."""
    return bool((rms_S > 0).mean() > 0.5) if len(rms_S) else False


def _explained(training: Training) -> F64:
    """Share of the null loss that is explained in each tenth of the run, [W]."""
    null = series.null_loss(training)
    return np.array([(null - series.median(part)) / abs(null) if null else np.nan for part in _parts(training.loss_S)])


def _fall(norm_SM: F64) -> F64:
    """Decades lost from the last third of the layers to the first half, in each tenth of the run, [W]."""
    norm_WM = np.array([[series.median(column) for column in part.T] for part in _parts(norm_SM)])
    depth = norm_SM.shape[1]
    top_WM, bottom_WM = norm_WM[:, -max(depth // 3, 1) :], norm_WM[:, : (depth + 1) // 2]
    return np.array([top.max() - np.median(bottom) for top, bottom in zip(top_WM, bottom_WM, strict=True)])


def _parts(x_S: F64) -> list[F64]:
    return np.array_split(x_S, WINDOWS)


@gate(
    limit=4.0,
    unit="noise scale over batch size",
    remedy="use a larger batch or accumulate gradients; look for targets or inputs that are shuffled or augmented away",
    floor=1.2,
    calibrated=True,
)
def gradient_noise(training: Training) -> Reading:
    """A step's gradient is almost all sampling noise while most is still to be learned.

    The gradients of the two halves of a batch of B samples have cosine c = |G|² / (|G|² + 2 tr(Σ)/B), so the noise
    scale over the batch size is B_simple / B = (1/c − 1)/2 (McCandlish et al. 2018, eq. 2.9). c is averaged over the
    weight matrices, so that no large layer dominates, and over the probes before the ascent of a divergence and until
    90 % of all progress is made, because noise outgrows the signal in every run that converges. The statistic is the
    ratio at the upper end of the 90 % t interval of that mean; few probes make it small, so an alarm needs evidence.
    It is 0 where the progress was made before the third probe. Epochs of fewer than 4 batches tell nothing: their
    halves are no independent samples, and near an optimum they pull in opposite directions.
    """
    if training.steps_per_epoch < 4:
        told = f"an epoch has {training.steps_per_epoch} batches; from 4 on halves are nearly independent"
        return unmeasured(Reason.FEW_BATCHES, told)
    matrices, early_P = training.matrices(), _early_probes(training)
    cosine_PM = training.half_cosine_PL[early_P][:, matrices]
    row_P = np.clip(np.searchsorted(training.step_S, training.probe_step_P[early_P]), 0, len(training.step_S) - 1)
    # Of a layer that gets no gradient, frozen for instance, the halves say nothing.
    there_PM = np.isfinite(cosine_PM) & (training.grad_rms_SL[row_P][:, matrices] > 0)
    cosine_P = np.array([row[there].mean() for row, there in zip(cosine_PM, there_PM, strict=True) if there.any()])
    if len(cosine_P) < 3:
        if (
            np.isfinite(training.half_cosine_PL[:, matrices]).any(axis=1).sum() < 3
            or rise(training).diverged_at < NEVER
        ):
            told = f"only {len(cosine_P)} early probes split their batch; 3 are needed"
            return unmeasured(Reason.FEW_PROBES, told, probes=len(cosine_P))
        sentence = f"90 % of all progress was made within {len(cosine_P)} probes: noise did not drown the signal."
        return Reading(statistic=0.0, diagnosis=sentence, evidence={"probes": len(cosine_P)})
    mean, error = float(cosine_P.mean()), _t_error(cosine_P)
    low, high = _noise_ratio(mean + error), _noise_ratio(mean - error)
    return Reading(
        statistic=low,
        interval=(low, high),
        diagnosis=(
            f"The gradients of two half batches have a mean cosine of {mean:.2f} ± {error:.2f} over {len(cosine_P)} "
            f"early probes: the noise scale is at least {low:.2g} times the batch of {training.batch_size}."
        ),
        evidence={
            "cosine of half batches": mean,
            "half width of its interval": error,
            "noise scale over batch size": _noise_ratio(mean),
            "probes": len(cosine_P),
            "last probe": int(training.probe_step_P[early_P][-1]),
        },
    )


def _early_probes(training: Training) -> NDArray[np.bool_]:
    """Probes until 90 % of all progress on the null loss is made, and none of a divergence's ascent, [P]."""
    step_P = training.probe_step_P
    if not len(training.loss_S) or not len(step_P):
        return np.zeros(len(step_P), dtype=bool)
    smooth_S = series.rolling_median(training.loss_S, series.window(len(training.loss_S)))
    loss_P = smooth_S[np.clip(np.searchsorted(training.step_S, step_P), 0, len(smooth_S) - 1)]
    null, finite_S = series.null_loss(training), smooth_S[np.isfinite(smooth_S)]
    progress = max(null - float(finite_S.min()) if len(finite_S) else 0.0, abs(null) / 4)
    early_P: NDArray[np.bool_] = np.nan_to_num(null - loss_P) < 0.9 * progress
    found = rise(training)
    return early_P & (step_P < (found.best_step if found.diverged_at < NEVER else NEVER))


def _t_error(x: F64) -> float:
    """Half width of the 90 % t interval of a mean."""
    from scipy.special import stdtrit

    return float(stdtrit(len(x) - 1, 0.95) * x.std(ddof=1) / np.sqrt(len(x)))


def _noise_ratio(cosine: float) -> float:
    return (1 / min(max(cosine, LOWEST_COSINE), 1.0) - 1) / 2


@gate(
    limit=50.0,
    unit="times the usual gradient norm",
    remedy="clip the gradient norm; look at the batches of these steps",
    calibrated=True,
)
def gradient_spikes(training: Training) -> Reading:
    """Steps with a far larger gradient than those before. The statistic is the third largest ratio: two do no harm.

    The gradient of a task that is nearly solved vanishes but for the batches that hold a hard example. Such a batch is
    no spike: where the median has fallen below `QUIET` of the largest one so far, ratios are taken to that instead.
    """
    norm_S, width = series.log10(training.grad_norm_S), series.window(len(training.grad_norm_S))
    past_S = series.rolling_median(norm_S, width)[:-1]
    past_S[:width] = np.nan
    usual_S = np.maximum(past_S, np.fmax.accumulate(past_S) + np.log10(QUIET))
    over_S = norm_S[1:] - usual_S
    row = np.flatnonzero(np.isfinite(over_S))
    if len(row) < 3:
        return unmeasured(Reason.NO_GRADIENTS)
    worst = row[np.argsort(over_S[row])[::-1][:3]]
    ratio = float(10 ** over_S[worst[-1]])
    at = int(worst[0]) + 1
    layer = _loudest_layer(training, at, width)
    return Reading(
        statistic=ratio,
        diagnosis=(
            f"The gradient at step {training.step_S[at]} is {10 ** over_S[worst[0]]:.3g} times the usual one and grew "
            f"most in {layer}; the third such ratio is {ratio:.3g}. Usual is the median of the {width} steps before, "
            f"or {100 * QUIET:.0f} % of the largest such median so far, if that is more."
        ),
        evidence={
            "steps": training.step_S[worst + 1].tolist(),
            "ratios": (10 ** over_S[worst]).tolist(),
            "usual gradient norms": (10 ** usual_S[worst]).tolist(),
            "layer": layer,
        },
    )


def _loudest_layer(training: Training, row: int, width: int) -> str:
    """The layer whose gradient grew most over its own past."""
    rms_SL = series.log10(training.grad_rms_SL)
    past_L = np.array([series.median(column) for column in rms_SL[max(row - width, 0) : row].T])
    grown_L = rms_SL[row] - past_L
    return training.layers[int(np.nanargmax(grown_L))] if np.isfinite(grown_L).any() else "no single layer"


@gate(
    limit=0.8,
    unit="share of a layer's units",
    remedy="lower the learning rate or the weight decay, use a leaky activation, or initialise biases at zero",
    calibrated=True,
)
def dead_units(training: Training) -> Reading:
    """Units that no example activates: the gradient of their bias is exactly zero.

    Per tensor with one axis, the median over the second half of the probes; the statistic is the largest. Matrices are
    left out because rows of an embedding that a batch does not look up have no gradient either.
    """
    vectors = [i for i, shape in enumerate(training.shapes) if len(shape) == 1]
    late_PL = training.dead_share_PL[len(training.dead_share_PL) // 2 :]
    share = {i: series.median(late_PL[:, i]) for i in vectors if training.grad_rms_SL[:1, i].any()}
    share = {i: value for i, value in share.items() if np.isfinite(value)}
    if not share:
        return unmeasured(Reason.NO_BIAS)
    worst = max(share, key=lambda i: share[i])
    return Reading(
        statistic=share[worst],
        diagnosis=f"{100 * share[worst]:.0f} % of the units of {training.layers[worst]} had no gradient late on.",
        evidence={"layer": training.layers[worst], "units": training.shapes[worst][0], "probes": len(late_PL)},
    )


@gate(
    limit=2.5,
    unit="decades from one part in a thousand",
    remedy="adapt the learning rate, per layer if only some are off",
    floor=2.0,  # clean runs of one task are much alike, and a factor of three between tasks means nothing
    calibrated=True,
)
def update_ratio(training: Training) -> Reading:
    """How far a layer's relative change per step is from the healthy 10⁻³.

    Per weight matrix, |log10 of the median over probes of |Δw|/|w| + 3|; the statistic is the largest. Steps without a
    change are left out: frozen layers, skipped steps.
    """
    matrices = training.matrices()
    ratio = {i: series.median(series.log10(training.update_ratio_PL[:, i])) for i in matrices}
    off = {i: abs(value + 3) for i, value in ratio.items() if np.isfinite(value)}
    if not off:
        return unmeasured(Reason.NO_MATRIX)
    worst = max(off, key=lambda i: off[i])
    return Reading(
        statistic=off[worst],
        diagnosis=f"{training.layers[worst]} changes by {10 ** ratio[worst]:.1e} of itself per step, in the median.",
        evidence={"layer": training.layers[worst], "median update over weight": 10 ** ratio[worst]},
    )
