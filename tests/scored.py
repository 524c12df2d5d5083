"""Labels and scores to measure metrics on."""

import numpy as np

KINDS = ("distinct", "ties", "constant", "saturated")


def sample(kind, n=400, seed=0):
    """Labels and float32 scores [n]; one in five labels is 1, and scores know a little of them."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.2).astype(np.float32)
    label[:2] = 0, 1
    score = np.clip(0.25 * label + rng.random(n) * 0.7, 0, 1)
    if kind == "ties":
        score = np.round(score, 1)
    if kind == "constant":
        score = np.full(n, 0.2)
    if kind == "saturated":
        score = np.where(rng.random(n) < 0.3, np.round(score), score)
    return label, score.astype(np.float32)
