"""How often a count comes out so large by chance."""

import numpy as np


def upper_tail(hits: int, rows: int, a: float, b: float) -> float:
    """P(K >= hits) for K hits among `rows` new rows, where the share of hits is known only as Beta(a, b).

    The beta-binomial distribution: for h hits seen in n earlier rows a = h + 1/2 and b = n - h + 1/2 (Jeffreys'
    prior); for new rows outside the range of n earlier ones a = 2 and b = n - 1 (order statistics).
    """
    if hits <= 0:
        return 1.0
    from scipy.special import betaln

    k = np.arange(hits, rows + 1, dtype=np.float64)
    log_choose = -np.log(rows + 1.0) - betaln(rows - k + 1, k + 1)
    return min(1.0, float(np.exp(log_choose + betaln(k + a, rows - k + b) - betaln(a, b)).sum()))
