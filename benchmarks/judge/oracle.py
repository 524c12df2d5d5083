"""How long the event test takes, over what a test would take that knew the canary's rate ratio beforehand.

Wald's oracle needs log(1/α)/KL events on average, KL being the divergence per event of the true coin from the
tolerated one (Annals of Mathematical Statistics 16, 1945; the excess over the boundary is left out, as is usual).
"""

import math

import numpy as np

from ci_tools.release.judge import events, mixture, wealth

RATIOS, SHARES = (1.5, 2.0, 3.0, 5.0, 10.0), (0.01, 0.1, 0.5)
LONGEST = 8.0
"""Times the oracle's delay after which a run counts as never detected."""


def oracle_events(ratio: float, share: float, alpha: float) -> float:
    """Events that Wald's oracle needs on average."""
    p, q = (float(events.on_canary(r, share)) for r in (ratio, 1.0))
    return math.log(1 / alpha) / (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))


def delays(ratio: float, share: float, alpha: float, runs: int, seed: int) -> np.ndarray:
    """Events until the event test rejects, over the oracle's, looking at every event; infinite where it did not."""
    rng, needed = np.random.default_rng([seed, round(1000 * ratio), round(1000 * share)]), math.log(1 / alpha)
    oracle = oracle_events(ratio, share, alpha)
    money = wealth.begin(0.0, runs).harm_KJ
    per_arm = [events.log_factors(c, 1 - c, share, 1.0, events.WORSE, (0.0,)) for c in (0, 1)]
    found = np.full(runs, np.inf)
    for index in range(int(LONGEST * oracle)):
        on_canary = rng.random(runs) < events.on_canary(ratio, share)
        factors = np.where(on_canary[:, None, None], per_arm[1], per_arm[0])
        money = mixture.step(money, factors, wealth.WORSE_PRIOR)
        found[np.isinf(found) & (mixture.log_total(money)[:, 0] >= needed)] = (index + 1) / oracle
    return found
