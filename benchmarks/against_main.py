"""How often the comparison with main errs: false alarms of main against itself, and power against planted drops.

A small network is trained for hundreds of seeds at once, on good data, with a share of its labels flipped, and with
one column blurred. Every comparison draws seeds for both arms and test rows from a large population, and goes through
the gate, its judge and its requests for further seeds. The true drop is the difference of the two pools' means on the
whole population. Intervals of shares take comparisons as independent, though they draw from one pool of seeds.

S = seeds, B = batch, F = features, H = hidden units, N = rows.
"""

import zlib
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.harness import Result, measuring, summary
from ci_tools.gates import Baseline, Outcome, Run
from ci_tools.gates.metrics import METRICS
from ci_tools.gates.policy import AgainstMain, Judge, Metric, Policy
from ci_tools.gates.quality import quality_against_main
from ci_tools.gates.statistics import wilson

F32 = NDArray[np.float32]
METRIC = "average_precision"
FEATURES, HIDDEN, BATCH, STEPS, LR = 10, 24, 64, 600, 0.3
TRAIN_ROWS, POPULATION, TEST_ROWS = 4_000, 20_000, 10_000
DROPS = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Planted, in margins."""
MARGIN = 3.0
"""Of the main campaign, in standard deviations of one seed."""
NARROWER = (1.0, 1.5, 2.0)
"""Margins that show what a margin may be at the least."""
GRIDS = {"flips": np.linspace(0, 0.16, 9), "blur": np.linspace(0, 1.6, 9)}
"""Per plant, sizes over which the one that makes a wanted drop is interpolated."""
REFINEMENTS = 2
"""Sizes tried between two of the grid for each wanted drop."""
MOST_FALSE_ALARMS, LEAST_POWER = 0.05, 0.9
"""Of A/A comparisons that may fail; of drops of twice the margin that must, where both arms have the same seeds: that
is how main is compared with unless its records hold other seeds."""


class Rows(NamedTuple):
    """A draw of the simulated task."""

    x_NF: F32
    label_N: NDArray[np.float64]


class Pool(NamedTuple):
    """One way to train, over many seeds."""

    score_SN: F32
    """On the population."""
    quality: float
    """Mean over seeds."""
    sd: float
    """Of one seed."""


def simulate(rows: int, seed: int) -> Rows:
    """One positive in ten; products and waves, so that there is something to find beyond a line."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows, FEATURES)).astype(np.float32)
    logit = 1.5 * x[:, 0] * x[:, 1] + 1.5 * np.sin(2 * x[:, 2]) + 1.2 * x[:, 3] - np.abs(x[:, 4]) - 2.2
    return Rows(x, (draw.random(rows) < 1 / (1 + np.exp(-2 * logit))).astype(np.float64))


def planted(rows: Rows, seed: int, *, flips: float = 0.0, blur: float = 0.0) -> Rows:
    """The same rows with a share of labels flipped, or with noise of that standard deviation on column 3.

    What a smaller share flips is among what a larger one does.
    """
    draw = np.random.default_rng(seed)
    label_N = np.where(draw.random(len(rows.label_N)) < flips, 1 - rows.label_N, rows.label_N)
    x_NF = rows.x_NF.copy()
    x_NF[:, 3] += (blur * draw.standard_normal(len(x_NF))).astype(np.float32)
    return Rows(x_NF, label_N)


def train(rows: Rows, seeds: range, steps: int = STEPS) -> list[F32]:
    """SGD with momentum on one hidden layer, all seeds side by side; weights and biases of both layers.

    A seed decides initial weights and data order, as in the reference model.
    """
    draws = [np.random.default_rng(seed) for seed in seeds]
    shapes = ((FEATURES, HIDDEN), (1, HIDDEN), (HIDDEN, 1), (1, 1))
    scales = (FEATURES**-0.5, 0.0, HIDDEN**-0.5, 0.0)
    weights = [
        np.stack([scale * draw.standard_normal(shape) for draw in draws]).astype(np.float32)
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    momentum = [np.zeros_like(weight) for weight in weights]
    order_SN = np.stack([draw.integers(0, len(rows.x_NF), steps * BATCH) for draw in draws])
    label_N = rows.label_N.astype(np.float32)
    for step in range(steps):
        batch_SB = order_SN[:, step * BATCH : (step + 1) * BATCH]
        x_SBF, label_SB1 = rows.x_NF[batch_SB], label_N[batch_SB][..., None]
        hidden_SBH = np.tanh(x_SBF @ weights[0] + weights[1])
        error_SB1 = (_sigmoid(hidden_SBH @ weights[2] + weights[3]) - label_SB1) / BATCH
        back_SBH = error_SB1 @ weights[2].transpose(0, 2, 1) * (1 - hidden_SBH**2)
        gradients = [
            x_SBF.transpose(0, 2, 1) @ back_SBH,
            back_SBH.sum(axis=1, keepdims=True),
            hidden_SBH.transpose(0, 2, 1) @ error_SB1,
            error_SB1.sum(axis=1, keepdims=True),
        ]
        for weight, velocity, gradient in zip(weights, momentum, gradients, strict=True):
            velocity *= 0.9
            velocity -= LR * (1 - step / steps) * gradient
            weight += velocity
    return weights


def pool(seeds: int, population: Rows, *, reordered: bool = False, **plant: float) -> Pool:
    """Train with a plant, or on the same rows in another order, and score the population."""
    rows = planted(simulate(TRAIN_ROWS, seed=1), seed=3, **plant)
    if reordered:
        order = np.random.default_rng(6).permutation(TRAIN_ROWS)
        rows = Rows(rows.x_NF[order], rows.label_N[order])
    w1, b1, w2, b2 = train(rows, range(seeds))
    seen = planted(population, seed=4, blur=plant.get("blur", 0.0)).x_NF
    score_SN = np.stack([_sigmoid(np.tanh(seen @ w1[s] + b1[s]) @ w2[s] + b2[s])[:, 0] for s in range(seeds)])
    quality_S = [METRICS[METRIC](population.label_N, score.astype(np.float64)).value for score in score_SN]
    return Pool(score_SN, float(np.mean(quality_S)), float(np.std(quality_S, ddof=1)))


def dropped(plant: str, drops: Sequence[float], clean: Pool, population: Rows) -> list[Pool]:
    """Pools whose true drops come near the wanted ones, found on fewer seeds by interpolation where needed finer."""
    seeds = len(clean.score_SN)
    few = max(seeds // 4, 40)
    quality = {float(size): pool(few, population, **{plant: float(size)}).quality for size in GRIDS[plant]}

    def size_for(drop: float) -> float:
        sizes = sorted(quality)
        reached = np.maximum.accumulate([quality[0.0] - quality[size] for size in sizes])
        return float(np.interp(drop, reached, sizes))

    for drop in drops:
        for _ in range(REFINEMENTS):
            size = size_for(drop)
            quality[size] = pool(few, population, **{plant: size}).quality
    return [pool(seeds, population, **{plant: size_for(drop)}) for drop in drops]


def _sigmoid(x: F32) -> F32:
    return 1 / (1 + np.exp(-x))


class Case(NamedTuple):
    """Comparisons of one kind."""

    name: str
    here: Pool
    margin: float
    """In standard deviations of one seed."""
    same_seeds: bool
    target: str = ""
    """What must hold: few failed, or most."""


class Ending(NamedTuple):
    """How one comparison ended."""

    outcome: Outcome
    seeds: int
    """Per arm, at the last look."""


def main(options: Namespace) -> Result:
    """Run every case; the figures in the table are seeds per arm, the shares of each outcome stand below it."""
    count, seeds = (30, 60) if options.quick else (400, 400)
    settings = {"metric": METRIC, "comparisons": options.count or count, "seeds in each pool": seeds}
    settings |= {"training rows": TRAIN_ROWS, "test rows": TEST_ROWS, "population": POPULATION}
    settings |= AgainstMain().model_dump()
    with measuring("against_main", options.command, settings, "seeds per arm") as result:
        population = simulate(POPULATION, seed=2)
        clean = pool(seeds, population)
        result.facts = {"quality of main": clean.quality, "standard deviation of one seed": clean.sd, "failed": []}
        for case in cases(clean, population):
            measure(result, case, clean, options.count or count, population)
    return result


def cases(clean: Pool, population: Rows) -> list[Case]:
    """Main against itself, then against planted drops, then both at narrower margins."""
    seeds, wide = len(clean.score_SN), MARGIN * clean.sd
    reordered = pool(seeds, population, reordered=True)
    flipped = dropped("flips", [drop * wide for drop in DROPS], clean, population)
    narrow = dropped("flips", [2 * margin * clean.sd for margin in NARROWER], clean, population)
    (blurred,) = dropped("blur", [2 * wide], clean, population)
    found = [
        Case("main again, other seeds", clean, MARGIN, False, "few"),
        Case("main with reordered rows, same seeds", reordered, MARGIN, True, "few"),
    ]
    for drop, arm in zip(DROPS, flipped, strict=True):
        found.append(Case(f"drop of {drop:g} margins, same seeds", arm, MARGIN, True, "most" if drop == 2 else ""))
    twice = flipped[DROPS.index(2.0)]
    found += [
        Case("drop of 2 margins, other seeds", twice, MARGIN, False),
        Case("drop of 2 margins by a blurred column, same seeds", blurred, MARGIN, True, "most"),
    ]
    for margin, arm in zip(NARROWER, narrow, strict=True):
        found.append(Case(f"margin of {margin:g} sd: main again, other seeds", clean, margin, False, "few"))
        found.append(Case(f"margin of {margin:g} sd: drop of 2 margins, same seeds", arm, margin, True))
    return found


def measure(result: Result, case: Case, clean: Pool, count: int, population: Rows) -> None:
    """Run one case and note its figures."""
    margin = case.margin * clean.sd
    draw = np.random.default_rng(zlib.crc32(case.name.encode()))
    endings = [compare(case, clean, margin, draw, population) for _ in range(count)]
    result.arms[case.name] = summary([ending.seeds for ending in endings])
    shares = {outcome: sum(ending.outcome is outcome for ending in endings) for outcome in Outcome}
    low, high = wilson(shares[Outcome.FAILED], count)
    result.facts[case.name] = {
        "true drop in margins": (clean.quality - case.here.quality) / margin,
        **{f"{outcome} share": n / count for outcome, n in shares.items() if outcome is not Outcome.ERROR},
        "95 % interval of failed": [low, high],
        "mean seeds": float(np.mean([ending.seeds for ending in endings])),
    }
    failed = shares[Outcome.FAILED] / count
    if shares[Outcome.ERROR]:
        result.facts["failed"].append(f"{case.name}: {shares[Outcome.ERROR]} errors")
    if (case.target == "few" and failed > MOST_FALSE_ALARMS) or (case.target == "most" and failed < LEAST_POWER):
        result.facts["failed"].append(f"{case.name}: {failed:.1%} failed")


def compare(case: Case, main: Pool, margin: float, draw: np.random.Generator, population: Rows) -> Ending:
    """One comparison by the gate, with as many seeds as it asks for, on test rows drawn for it."""
    policy = Policy(metrics={METRIC: Metric(margin=margin)}, against_main=AgainstMain())
    seeds, most = policy.against_main.seeds, policy.against_main.max_seeds
    rows_N = draw.integers(0, len(population.label_N), TEST_ROWS)
    drawn = draw.permutation(len(main.score_SN))
    ours, theirs = drawn[:most], drawn[:most] if case.same_seeds else drawn[most : 2 * most]
    while True:
        here, there = (
            _run(arm, chosen[:seeds], rows_N, population) for arm, chosen in ((case.here, ours), (main, theirs))
        )
        verdict = Judge(policy, None, "", 0).verdict(quality_against_main(here, Baseline(there), METRIC, policy))
        if "seeds wanted" not in verdict.evidence:
            return Ending(verdict.outcome, seeds)
        seeds = verdict.evidence["seeds wanted"]


def _run(pool: Pool, seeds: NDArray[Any], rows_N: NDArray[Any], population: Rows) -> Run:
    """A run whose records hold a pool's scores."""
    run = Run(Path("arm"), tuple(map(int, seeds)))
    columns = {"id": np.arange(len(rows_N)), "label": population.label_N[rows_N]}
    run.__dict__["records"] = tuple(
        SimpleNamespace(scores=pa.table(columns | {"score": pool.score_SN[seed][rows_N]})) for seed in seeds
    )
    return run
