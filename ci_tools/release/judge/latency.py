"""Latency quantiles as counts of slow requests, which the tests for events then compare.

A request is *slow* if it takes longer than the reference pools' quantile x. x is read from the histogram of all earlier
requests of baseline and stable, and fixed before the bin in which it is used. The null "the canary's latency is at most
(1 + δ) times the baseline's" says P(X_c > (1 + δ)x) ≤ P(X_b > x): given a slow request, counted against x for the
baseline and (1 + δ)x for the canary, its arm is again the coin of events.py, and the difference of the counts lies
below a symmetric law as robust.py needs it. For promotion the margin takes the place of δ.

The design first meant to use a two-sample test of the quantiles themselves (Howard and Ramdas, arXiv 1906.09712,
section 6): the minimum over x of a mixture martingale for #{X_c ≤ (1+δ)x} times one for #{X_b < x}. It takes every
request to be an independent draw of one law that never changes. Here a load that slows both arms drops out, as does
any change of weights; bursts have the robust companion; and with δ a whole number of bins there is no loss at edges.

Bin i holds latencies in (2^(i/64), 2^((i+1)/64)] milliseconds: right-closed, as Prometheus counts them, so that ties at
an edge fall on the side that the comparison `≤ edge` means.
"""

import math
from collections.abc import Mapping

BINS_PER_DOUBLING = 64
"""Bins are 1.1 % wide."""
REMEMBERED = 20_000
"""Requests in the reference, beyond which it is halved: it follows the hour of the day."""
SLOW_NEEDED = 10
"""Requests beyond the quantile that the reference must hold before it is used."""


def bin_of(milliseconds: float) -> int:
    """The bin of one latency; law: edge(bin_of(x) − 1) < x ≤ edge(bin_of(x))."""
    index = math.ceil(BINS_PER_DOUBLING * math.log2(milliseconds)) - 1
    return index + 1 if edge(index) < milliseconds else index


def edge(index: int) -> float:
    """Upper edge of a bin, in milliseconds."""
    return float(2 ** ((index + 1) / BINS_PER_DOUBLING))


def bins_up(ratio: float) -> int:
    """Fewest bins that are at least `ratio` wide together."""
    return math.ceil(BINS_PER_DOUBLING * math.log2(ratio) - 1e-9)


def bins_down(ratio: float) -> int:
    """Most bins that are at most `ratio` wide together."""
    return math.floor(BINS_PER_DOUBLING * math.log2(ratio) + 1e-9)


def threshold(reference: Mapping[int, int], quantile: float) -> int | None:
    """The bin whose upper edge is x; None while the reference is too small to tell.

    It is the lowest bin with at least `quantile` of the requests in it and below.
    """
    total = sum(reference.values())
    if total * (1 - quantile) < SLOW_NEEDED:
        return None
    below = 0
    for index in sorted(reference):
        below += reference[index]
        if below >= quantile * total:
            return index
    return max(reference)


def slower(histogram: Mapping[int, int], index: int) -> int:
    """Requests beyond the upper edge of a bin."""
    return sum(count for other, count in histogram.items() if other > index)


def remember(reference: Mapping[int, int], *histograms: Mapping[int, int]) -> dict[int, int]:
    """The reference with further requests; old ones are forgotten by halving."""
    merged = dict(reference)
    for histogram in histograms:
        for index, count in histogram.items():
            merged[index] = merged.get(index, 0) + count
    while sum(merged.values()) > REMEMBERED:
        merged = {index: count // 2 for index, count in merged.items() if count > 1}
    return merged
