"""Data leakage: what training saw of the test split.

N = rows of a split, F = numeric columns, C = categorical columns, Q = rows that were looked up.
Five signs are looked for, each in units of what is tolerated of it; the gate's statistic is the largest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.gates import neighbours, telling
from ci_tools.gates.counts import upper_tail
from ci_tools.gates.reasons import Reason
from ci_tools.gates.splits import Rows, Splits, splits_of
from ci_tools.gates.verdict import Reading, gate, unmeasured

__all__ = ["Rows", "Splits", "data_leakage", "splits_of"]

Mask = NDArray[np.bool_]

TOLERATED = 0.01
"""Share of the test rows that may have leaked: a metric can hardly move by more than that."""
CHANCE = 1e-4
"""Probability below which chance is excluded as the cause of a number of copies."""
LIKELY = 0.01
"""Probability from which on chance is the plain explanation; in between nothing is decided."""
FEWEST_ROWS = 50
"""In each split, for any conclusion."""
LOOKED_UP = 1_000
"""Rows of each split whose neighbours are looked up, at most."""
TOO_TELLING = 0.99
"""Skill of a single column that is tolerated."""
AHEAD = 5.0
"""How many times nearer to 1 than the next best column it must be to count."""


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One way in which test rows may have leaked."""

    name: str
    ratio: float
    """Extent over what is tolerated."""
    sentence: str
    remedy: str
    sure: bool = True
    """Whether chance is excluded."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    suspects_N: Mask | None = None
    """The test rows concerned."""


@gate(limit=1.0, unit="times what is tolerated", remedy="split again so that nothing is on both sides")
def data_leakage(splits: Splits) -> Reading:
    """The largest of five signs that the test split is not unseen, each over what is tolerated of it.

    - Exact copies: share of test rows equal to a train row, beyond the share of train rows equal to another train
      row; 0.01 is tolerated. Natural duplicates, of coarse features for instance, are as frequent within as across.
    - Near copies: share of test rows far nearer to one train row than to the train rows around it, beyond the share of
      train rows of which that holds (`neighbours.isolation`); 0.01.
    - Entities: share of test rows whose entity is in train; 0.01.
    - Time: the smaller of the share of train rows not before the first test row and the share of test rows not after
      the last train row; 0.01.
    - A telling column: the skill of one column alone, 0.99, and five times nearer to 1 than that of the best column
      which is not a copy of it (`telling.best`).
    """
    if min(len(splits.train.label_N), len(splits.test.label_N)) < FEWEST_ROWS:
        rows = f"{len(splits.train.label_N)} train and {len(splits.test.label_N)} test rows"
        return unmeasured(Reason.FEW_ROWS, f"{rows} are too few to tell; {FEWEST_ROWS} of each are needed")
    signs = sorted(_signs(splits), key=lambda sign: (sign.sure and sign.ratio > 1, sign.ratio))
    worst = signs[-1]
    none = "no sign of leakage is beyond what is tolerated; the strongest: "
    return Reading(
        statistic=worst.ratio,
        interval=(worst.ratio if worst.sure else 0.0, worst.ratio),
        diagnosis=(none if worst.ratio <= 1 else "") + worst.sentence,
        evidence={sign.name: {"times_tolerated": sign.ratio, **sign.numbers} for sign in signs} | _worth(splits, signs),
        remedy=worst.remedy,
    )


def _signs(splits: Splits) -> Iterator[Sign]:
    train, test = splits.train.hashes(), splits.test.hashes()
    exact = _exact_copies(train, test)
    yield exact
    yield from _near_copies(splits, train, test, exact)
    if splits.train.entity_N is not None and splits.test.entity_N is not None:
        yield _entities(splits.train.entity_N, splits.test.entity_N)
    if splits.train.time_N is not None and splits.test.time_N is not None:
        yield _time(splits.train.time_N, splits.test.time_N)
    yield from _telling_column(splits)


def _exact_copies(train: NDArray[np.uint64], test: NDArray[np.uint64]) -> Sign:
    values, counts = np.unique(train, return_counts=True)
    natural = int(counts[counts > 1].sum())
    seen_N = values[np.searchsorted(values, test).clip(max=len(values) - 1)] == test
    ratio, sure = _excess(int(seen_N.sum()), len(test), natural, len(train))
    return Sign(
        name="exact_copies",
        ratio=ratio,
        sentence=f"{seen_N.sum():,} of {len(test):,} test rows equal a train row in every feature; "
        f"{natural / len(train) * len(test):,.0f} would by chance, as {natural:,} of {len(train):,} train rows "
        "equal another one",
        remedy="remove the copies, or keep equal rows on one side by splitting on a hash of the features",
        sure=sure,
        numbers={"test_rows": int(seen_N.sum()), "of": len(test), "train_rows_with_twin": natural},
        suspects_N=seen_N,
    )


def _near_copies(splits: Splits, train: NDArray[np.uint64], test: NDArray[np.uint64], exact: Sign) -> Iterator[Sign]:
    """Among train rows that differ and test rows that are no exact copies; both come in the order of their hash."""
    _, distinct = np.unique(train, return_index=True)
    looked_up = np.argsort(test, kind="stable")
    looked_up = looked_up[~exact.suspects_N[looked_up]][:LOOKED_UP] if exact.suspects_N is not None else looked_up
    if len(distinct) < FEWEST_ROWS or len(looked_up) < FEWEST_ROWS:
        return
    rows, queries = neighbours.embed(
        (splits.train.numeric_NF[distinct], splits.test.numeric_NF[looked_up]),
        (splits.train.codes[distinct], splits.test.codes[looked_up]),
    )
    own = np.arange(min(LOOKED_UP, len(rows)))
    usual, found = neighbours.isolation(rows[own], rows, own), neighbours.isolation(queries, rows)
    # Nearer than any train row is the surer sign, nearer than one in a hundred catches the rougher copies.
    for near in np.quantile(usual, [0.0, TOLERATED], method="lower").tolist():
        among_train, among_test = int((usual <= near).sum()), found <= near
        ratio, sure = _excess(int(among_test.sum()), len(queries), among_train, len(own))
        suspects_N = np.zeros(len(test), np.bool_)
        suspects_N[looked_up[among_test]] = True
        yield Sign(
            name="near_copies",
            ratio=ratio,
            sentence=f"{among_test.sum():,} of {len(queries):,} test rows have a train row at less than {near:.2f} of "
            f"the distance to the others around; of {len(own):,} train rows {among_train:,} have",
            remedy="find what the near copies share (a source, a moment, an augmentation) and keep it on one side",
            sure=sure,
            numbers={"test_rows": int(among_test.sum()), "of": len(queries), "distance_ratio": near},
            suspects_N=suspects_N,
        )


def _entities(train: NDArray[Any], test: NDArray[Any]) -> Sign:
    seen_N = np.isin(test, train)
    return Sign(
        name="entities",
        ratio=float(seen_N.mean()) / TOLERATED,
        sentence=f"{seen_N.sum():,} of {len(test):,} test rows belong to an entity that has train rows",
        remedy="assign whole entities to one side, by a hash of their id",
        numbers={"test_rows": int(seen_N.sum()), "of": len(test)},
        suspects_N=seen_N,
    )


def _time(train: NDArray[Any], test: NDArray[Any]) -> Sign:
    late, early_N = float((train >= test.min()).mean()), test <= train.max()
    # One straggler on a side makes the other side's share large, so the smaller one counts.
    extent = min(late, float(early_N.mean()))
    return Sign(
        name="time",
        ratio=extent / TOLERATED,
        sentence=f"{late:.2%} of the train rows do not come before the first test row, and {early_N.mean():.2%} of the "
        "test rows not after the last train row",
        remedy="split at one moment, with a gap as long as labels take to become known",
        numbers={"train_share": late, "test_share": float(early_N.mean())},
        suspects_N=early_N if extent > TOLERATED else None,
    )


def _telling_column(splits: Splits) -> Iterator[Sign]:
    rows = splits.train
    found = telling.best(rows.numeric_NF, rows.codes, rows.label_N)
    if found is None:
        return
    left = max(1 - found.skill, 1e-4)
    name = splits.name(found.column)
    yield Sign(
        name="telling_column",
        ratio=min((1 - TOO_TELLING) / left, (1 - found.second) / (AHEAD * left)),
        sentence=f"{name} alone tells the label with {found.measure} {found.skill:.4f}, the next best column with "
        f"{found.second:.3f}",
        remedy=f"find out whether {name} is known at the moment of the decision; if not, exclude it",
        numbers={"skill": found.skill, "next_best": found.second},
    )


def _excess(hits: int, rows: int, usual_hits: int, usual_rows: int) -> tuple[float, bool]:
    """Share of rows that hit beyond what is usual, over what is tolerated; and whether chance is excluded.

    What chance explains counts as tolerated.
    """
    usual = usual_hits / usual_rows
    ratio = max(hits / rows - usual, 0.0) / (1 - usual) / TOLERATED if usual < 1 else 0.0
    by_chance = upper_tail(hits, rows, usual_hits + 0.5, usual_rows - usual_hits + 0.5)
    return ratio if by_chance < LIKELY else min(ratio, 1.0), by_chance < CHANCE


def _worth(splits: Splits, signs: list[Sign]) -> dict[str, Any]:
    """What the rows that leaked add to the model's skill on the test split, where its scores are known."""
    masks = [sign.suspects_N for sign in signs if sign.suspects_N is not None and sign.ratio > 1]
    if splits.score_N is None or not masks:
        return {}
    suspects_N = np.logical_or.reduce(masks)
    score_N, label_N, rest_N = splits.score_N, splits.test.label_N, ~suspects_N
    if rest_N.sum() < FEWEST_ROWS:
        return {}
    with_all, without = telling.skill(score_N, label_N), telling.skill(score_N[rest_N], label_N[rest_N])
    return {"suspects": {"test_rows": int(suspects_N.sum()), "skill": with_all, "skill_without": without}}
