"""The scores of a run's seeds on its test rows, and two runs brought to the same rows.

K = seeds, N = test rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ci_tools.errors import DataError
from ci_tools.gates.run import Run

F64 = NDArray[np.float64]
MISSING = "(missing)"
"""Slice value of rows that have none."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Every seed's score of every test row."""

    where: str
    seeds: tuple[int, ...]
    id_N: NDArray[Any]
    label_N: F64
    score_KN: F64
    slices: Mapping[str, NDArray[Any]]
    """Column to each row's value."""

    def rows(self, chosen: NDArray[Any]) -> "Scores":
        """Only some rows, by mask or index."""
        return replace(
            self,
            id_N=self.id_N[chosen],
            label_N=self.label_N[chosen],
            score_KN=self.score_KN[:, chosen],
            slices={name: value_N[chosen] for name, value_N in self.slices.items()},
        )

    @property
    def rarer(self) -> int:
        """Rows of the rarer class."""
        positives = int(np.sum(self.label_N > 0))
        return min(positives, len(self.label_N) - positives)

    def same_as(self, other: "Scores") -> bool:
        """Whether the same seeds gave the same scores."""
        return self.seeds == other.seeds and np.array_equal(self.score_KN, other.score_KN)


def read_scores(run: Run) -> Scores:
    """The scores in a run's records.

    Raises:
        RecordError: a record is missing, damaged or without scores.
        DataError: its seeds scored different rows, or a column breaks a rule.
    """
    tables = [record.scores for record in run.records]
    for seed, table in zip(run.seeds, tables, strict=True):
        for name in ("id", "label"):
            if not _column(table, name, run.root).equals(tables[0][name]):
                raise DataError(
                    f"seeds {run.seeds[0]} and {seed} were scored on different test rows ({name} differs)",
                    where=run.root,
                    fix="run `switchback reproduce`",
                )
    return _scores(tables[0], run.seeds, [_column(table, "score", run.root) for table in tables], run.root)


def read_evaluated(run: Run) -> tuple[Scores, dict[str, Scores]]:
    """The release's scores in evaluation/scores.parquet, and those of each simpler model.

    Raises:
        DataError: the file is missing or damaged, or a column breaks a rule.
    """
    table, where, seeds = run.scores, run.root / "evaluation/scores.parquet", run.seeds[:1]
    simpler = [
        field.name
        for field in table.schema
        if pa.types.is_floating(field.type) and field.name != "label" and not field.name.startswith("seed_")
    ]
    release, *others = (
        _scores(table, seeds, [_column(table, name, where)], where) for name in (f"seed_{seeds[0]}", *simpler)
    )
    return release, dict(zip(simpler, others, strict=True))


def _scores(table: pa.Table, seeds: tuple[int, ...], columns: list[pa.ChunkedArray], where: Path) -> Scores:
    score_KN = np.stack([column.to_numpy().astype(np.float64) for column in columns])
    label_N = _column(table, "label", where).to_numpy().astype(np.float64)
    for seed, score_N in zip(seeds, score_KN, strict=True):
        if bad := int(np.sum(~np.isfinite(score_N))):
            raise DataError(f"{bad} scores of seed {seed} are not finite", where=where, fix="train again")
    if not np.isin(label_N, (0, 1)).all():
        raise DataError("labels are not 0 and 1", where=where, rule="scores are judged as those of a binary classifier")
    return Scores(
        where=str(where),
        seeds=seeds,
        id_N=_column(table, "id", where).to_numpy(),
        label_N=label_N,
        score_KN=score_KN,
        slices={
            field.name: np.array(table[field.name].fill_null(MISSING).to_pylist())
            for field in table.schema
            if pa.types.is_string(field.type) and field.name != "id"
        },
    )


def _column(table: pa.Table, name: str, where: Path) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DataError(f"the scores have no column {name}", where=where, fix="run `switchback reproduce`")
    return table[name]


def on_common_rows(here: Scores, main: Scores) -> tuple[Scores, Scores]:
    """Both runs on the test rows that both scored, in the same order.

    Raises:
        DataError: no common row, an id twice, or a row with different labels.
    """
    if not np.array_equal(here.id_N, main.id_N):
        for one in (here, main):
            if len(np.unique(one.id_N)) < len(one.id_N):
                raise DataError("an id stands for several test rows", where=one.where, rule="ids join the two runs")
        _, in_here, in_main = np.intersect1d(here.id_N, main.id_N, assume_unique=True, return_indices=True)
        if not len(in_here):
            raise DataError("shares no test row with main", where=here.where, rule="the same rows must be compared")
        here, main = here.rows(in_here), main.rows(in_main)
    different = int(np.sum(here.label_N != main.label_N))
    if different:
        raise DataError(
            f"{different} of {len(here.id_N)} test rows have another label than in main",
            where=here.where,
            rule="quality is compared on equal labels",
            fix="merge the change of labels on its own first",
        )
    return here, main
