"""What a chart of a few hundred pixels can show of a long run, without hiding anything.

S = optimizer steps, B = buckets of equally many steps, L = layers.

Laws: the lowest and the highest finite value of a series survive thinning, and so does every value that is not finite,
as a mark of its bucket. With one step per bucket nothing changes.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NOTHING, ZERO, LOWEST, HIGHEST, NONFINITE = 0, 1, 2, 254, 255
"""Codes of a heat map's cells: no step there, all zero, the ends of the logarithmic scale, NaN or infinity."""
_SPAN = 1.0
"""Fewest decades of a scale: a constant is no extreme."""


@dataclass(frozen=True)
class Buckets:
    """Equal ranges of `width` steps that cover `count` times as many, from step 0 on."""

    width: int
    count: int

    @property
    def first_b(self) -> I64:
        """First step of each bucket."""
        return np.arange(self.count, dtype=np.int64) * self.width

    def starts(self, step_S: I64) -> tuple[I64, I64]:
        """The buckets that steps in ascending order fall into, and where in `step_S` each of them begins."""
        bucket_S = step_S // self.width
        start = np.flatnonzero(np.diff(bucket_S, prepend=-1))
        return bucket_S[start], start


def buckets(steps: int, at_most: int) -> Buckets:
    """The narrowest buckets of which `at_most` cover `steps` steps."""
    width = max(-(-steps // max(at_most, 1)), 1)
    return Buckets(width, -(-steps // width))


@dataclass(frozen=True)
class Envelope:
    """A thinned series; NaN where a bucket has no finite value."""

    low_B: F64
    mean_B: F64
    high_B: F64
    nonfinite_B: NDArray[np.bool_]
    """Buckets with a NaN or an infinity."""


def envelope(step_S: I64, value_S: NDArray[Any], into: Buckets) -> Envelope:
    """Lowest, mean and highest finite value of each bucket; `step_S` ascends."""
    finite_S = np.isfinite(value_S)
    step, value = step_S[finite_S], value_S[finite_S].astype(np.float64)
    low_B, mean_B, high_B = (np.full(into.count, np.nan) for _ in range(3))
    if len(step):
        at, start = into.starts(step)
        low_B[at], high_B[at] = np.minimum.reduceat(value, start), np.maximum.reduceat(value, start)
        mean_B[at] = np.add.reduceat(value, start) / np.diff(start, append=len(value))
    nonfinite_B = np.zeros(into.count, dtype=np.bool_)
    nonfinite_B[step_S[~finite_S] // into.width] = True
    return Envelope(low_B, mean_B, high_B, nonfinite_B)


def smooth(value_S: NDArray[Any], width: int) -> F64:
    """Mean of the finite values among the `width` steps around each, [S]; NaN where a step itself has none.

    The first steps, where a loss falls fast, have only as many steps before and behind them as there are before.
    """
    finite_S = np.isfinite(value_S)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite_S, value_S, 0.0), dtype=np.float64)])
    count = np.concatenate([[0], np.cumsum(finite_S)])
    at = np.arange(len(value_S))
    low = np.maximum(at - width // 2, 0)
    high = np.minimum(np.minimum(at + (width + 1) // 2, 2 * at + 1), len(value_S))
    n_S = np.maximum(count[high] - count[low], 1)
    return np.where(finite_S, (total[high] - total[low]) / n_S, np.nan)


def largest(step_S: I64, value_SL: NDArray[Any], into: Buckets) -> F64:
    """Largest value of each bucket and layer, [B, L]: infinity where one is not finite, NaN where no step falls."""
    found_BL = np.full((into.count, value_SL.shape[1]), np.nan)
    if len(step_S):
        at, start = into.starts(step_S)
        found_BL[at] = np.maximum.reduceat(np.where(np.isfinite(value_SL), value_SL, np.inf), start, axis=0)
    return found_BL


@dataclass(frozen=True)
class Scale:
    """Ends of a logarithmic colour scale, in decades."""

    low: float
    high: float


def scale(*values: F64) -> Scale:
    """From the 1st percentile of the positive values, so that a few tiny ones take no colours, up to the largest."""
    flat = np.concatenate([np.zeros(0), *(value.ravel() for value in values)])
    flat = np.log10(flat[np.isfinite(flat) & (flat > 0)])
    if not len(flat):
        return Scale(-1.0, 0.0)
    high = float(flat.max())
    return Scale(min(float(np.percentile(flat, 1)), high - _SPAN), high)


def coded(value: F64, on: Scale) -> NDArray[np.uint8]:
    """One byte per value: `LOWEST` to `HIGHEST` along the scale, or one of the other codes; values below it are lowest.

    Law: where a < b are positive and finite, coded(a) <= coded(b).
    """
    good = np.isfinite(value) & (value > 0)
    share = (np.log10(np.where(good, value, 1.0)) - on.low) / (on.high - on.low)
    code = np.where(good, np.rint(LOWEST + np.clip(share, 0, 1) * (HIGHEST - LOWEST)), ZERO)
    code = np.where(np.isnan(value), NOTHING, np.where(np.isinf(value), NONFINITE, code))
    return code.astype(np.uint8)


def text(code: NDArray[np.uint8]) -> str:
    """Bytes as base64, in row-major order."""
    return base64.b64encode(np.ascontiguousarray(code).tobytes()).decode("ascii")


def rounded(values: NDArray[Any], digits: int = 4) -> list[float | None]:
    """Numbers for JSON with so many significant digits; null where one is not finite."""
    return [float(f"{value:.{digits}g}") if value - value == 0 else None for value in values.tolist()]
