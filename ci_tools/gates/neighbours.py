"""Near copies: rows far nearer to one row than to the rows around it.

Q = rows that are looked up, N = rows they are looked up among, D = dimensions, P = parts.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

PARTS = 8
FEW = 8
"""Dimensions up to which rows may lie too close together for single precision."""
WIDEST = 64
"""Dimensions beyond which rows are projected at random: distances change little (Johnson and Lindenstrauss 1984)."""
_MISSING = -3.0
_BLOCK = 4096
_FITTED_ROWS = 20_000


def embed(numeric: tuple[NDArray[np.generic], ...], codes: tuple[NDArray[np.generic], ...]) -> list[F64]:
    """Rows as points: one [N, D] array per split, with the same map for all and fitted on the first.

    Numeric columns become asinh((x − median) / interquartile range), so that no tail outweighs the rest; two
    categories lie about 1 apart, and a missing value about 3 from the median.

    Args:
        numeric: per split [N, F]; NaN where missing.
        codes: per split [N, C].
    """
    rng = np.random.default_rng(0)
    columns: list[list[F64]] = [[] for _ in numeric]
    stride = -(-len(numeric[0]) // _FITTED_ROWS)
    for place in range(numeric[0].shape[1]):
        fitted = numeric[0][::stride, place].astype(np.float64)
        center, scale = _center_and_scale(fitted[np.isfinite(fitted)])
        for out, split in zip(columns, numeric, strict=True):
            x = split[:, place].astype(np.float64)
            out.append(np.where(np.isfinite(x), np.arcsinh((x - center) / scale), _MISSING))
    for place in range(codes[0].shape[1]):
        values = np.unique(np.concatenate([split[:, place] for split in codes]))
        places = rng.standard_normal((len(values), 3)) / np.sqrt(6)
        for out, split in zip(columns, codes, strict=True):
            out.extend(places[np.searchsorted(values, split[:, place])].T)
    points = [np.stack(out, axis=1) if out else np.zeros((0, 0)) for out in columns]
    width = points[0].shape[1]
    if width <= WIDEST:
        return points
    projection = rng.standard_normal((width, WIDEST)) / np.sqrt(WIDEST)
    return [split @ projection for split in points]


def isolation(query_QD: F64, rows_ND: F64, own_Q: NDArray[np.int64] | None = None) -> F64:
    """[Q] distance to the nearest row over the median of the distances to the nearest row in each of 8 parts; 0 to 1.

    Part k are the rows k·N/8 to (k + 1)·N/8, so give the rows in random order. Where the density hardly varies within
    such distances the value does not depend on it; of a copy it is near 0, also where up to three are among the rows.

    Args:
        query_QD: points.
        rows_ND: points among which they are looked up.
        own_Q: the row that each query is itself and must not find.
    """
    nearest_QP = np.sqrt(nearest_squares(query_QD, rows_ND, own_Q))
    typical = np.median(nearest_QP, axis=1)
    share: F64 = np.divide(nearest_QP.min(axis=1), typical, out=np.ones(len(typical)), where=typical > 0)
    return share


def nearest_squares(query_QD: F64, rows_ND: F64, own_Q: NDArray[np.int64] | None = None) -> F64:
    """[Q, P] squared distance to the nearest row in each part; `own_Q` as for `isolation`."""
    found_QP, least_QP = np.zeros((len(query_QD), PARTS), np.int64), np.full((len(query_QD), PARTS), np.inf)
    # Single precision finds neighbours twice as fast; their distance is then taken in double.
    kind: type[np.floating[Any]] = np.float32 if query_QD.shape[1] > FEW else np.float64
    # One product gives |r|² − 2 q·r, which orders the rows as |q − r|² does.
    query = np.column_stack([-2 * query_QD, np.ones(len(query_QD))]).astype(kind)
    for part, start, stop in _blocks(len(rows_ND)):
        block = rows_ND[start:stop]
        product = query @ np.column_stack([block, (block**2).sum(axis=1)]).astype(kind).T
        if own_Q is not None:
            inside = np.flatnonzero((own_Q >= start) & (own_Q < stop))
            product[inside, own_Q[inside] - start] = np.inf
        place = product.argmin(axis=1)
        least = product[np.arange(len(query)), place]
        better = least < least_QP[:, part]
        found_QP[better, part], least_QP[better, part] = start + place[better], least[better]
    squares = [((query_QD - rows_ND[found]) ** 2).sum(axis=1) for found in found_QP.T]
    return np.stack(squares, axis=1)


def _blocks(rows: int) -> Iterator[tuple[int, int, int]]:
    bounds = np.linspace(0, rows, PARTS + 1).astype(int).tolist()
    for part, (first, last) in enumerate(pairwise(bounds)):
        for start in range(first, last, _BLOCK):
            yield part, start, min(start + _BLOCK, last)


def _center_and_scale(x: F64) -> tuple[float, float]:
    """Median and interquartile range; the standard deviation where half of the values are equal, 1 where all are."""
    if not len(x):
        return 0.0, 1.0
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    return float(middle), float(high - low) or float(x.std()) or 1.0
