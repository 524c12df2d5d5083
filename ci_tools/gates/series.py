"""Robust numerics over the series of one run: medians that one bad step cannot move, and how far the loss has come.

S = optimizer steps. Values that are not finite are left out everywhere; where none is left, the answer is NaN.
"""

import numpy as np

from ci_tools.gates.training import F64, Training

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_CHUNK = 4096


def window(steps: int) -> int:
    """Steps over which a series is smoothed: a twentieth of the run, at least 5 and at most 100."""
    return min(max(steps // 20, 5), 100)


def median(values: F64) -> float:
    """Median of the finite values."""
    kept = values[np.isfinite(values)]
    return float(np.median(kept)) if len(kept) else float("nan")


def spread(values: F64) -> float:
    """Standard deviation by the median absolute deviation, of the finite values."""
    return MAD_TO_SIGMA * median(np.abs(values[np.isfinite(values)] - median(values)))


def log10(values: F64) -> F64:
    """Decimal logarithm; NaN where a value is not positive and finite."""
    good = np.isfinite(values) & (values > 0)
    return np.where(good, np.log10(np.where(good, values, 1.0)), np.nan)


def rolling_median(x_S: F64, width: int) -> F64:
    """Median of the finite values among the last `width` up to and with each step, [S]."""
    if not len(x_S):
        return np.zeros(0)
    clean_S = np.where(np.isfinite(x_S), x_S, np.nan)
    padded = np.concatenate([np.full(width - 1, np.nan), clean_S])
    windows_SW = np.lib.stride_tricks.sliding_window_view(padded, width)
    return np.concatenate([_row_medians(windows_SW[i : i + _CHUNK]) for i in range(0, len(x_S), _CHUNK)])


def _row_medians(rows_SW: F64) -> F64:
    ordered_SW = np.sort(rows_SW, axis=1)  # NaN comes last
    count_S = np.isfinite(ordered_SW).sum(axis=1)
    low_S, high_S = np.maximum(count_S - 1, 0) // 2, count_S // 2
    at = np.arange(len(rows_SW))
    middle_S: F64 = (ordered_SW[at, low_S] + ordered_SW[at, np.minimum(high_S, rows_SW.shape[1] - 1)]) / 2
    return middle_S


def step_noise(x_S: F64, width: int) -> F64:
    """Standard deviation of one step about the trend, from differences of neighbours in the last `width` steps, [S].

    Earlier steps, which have fewer behind them, get the value of the first `width`.
    """
    clean_S = np.where(np.isfinite(x_S), x_S, np.nan)
    noise_S: F64 = MAD_TO_SIGMA / np.sqrt(2) * rolling_median(np.abs(np.diff(clean_S, prepend=np.nan)), width)
    if len(noise_S):
        noise_S[:width] = noise_S[min(width, len(noise_S)) - 1]
    return noise_S


def null_loss(training: Training) -> float:
    """Loss of the best constant answer; where the loop did not tell, the median of the first steps."""
    if np.isfinite(training.null_loss):
        return training.null_loss
    return median(training.loss_S[: window(len(training.loss_S))])


def last_loss(training: Training) -> float:
    """Median training loss over the last window."""
    return median(training.loss_S[-window(len(training.loss_S)) :])


def explained(training: Training) -> float:
    """Share of the null loss that the last window's loss explains; 0 learned nothing, 1 leaves no loss."""
    null = null_loss(training)
    return (null - last_loss(training)) / abs(null) if null else float("nan")
