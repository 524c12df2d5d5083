"""What a model was trained on and what it was tested on.

N = rows of a split, F = numeric columns, C = categorical columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.errors import DataError
from ci_tools.gates.run import Run
from ci_tools.repro.order import mix


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One split.

    Raises:
        DataError: the arrays do not have the same number of rows, or a label is not a number.
    """

    numeric_NF: NDArray[Any]
    """NaN where missing."""
    label_N: NDArray[Any]
    """Class, or target of a regression."""
    categorical_NC: NDArray[Any] | None = None
    """Codes; None where there is no categorical column."""
    time_N: NDArray[Any] | None = None
    """Moment, where every test row must come after every train row."""
    entity_N: NDArray[Any] | None = None
    """What must not be on both sides: a person, a document, or just the row's number in the source."""

    def __post_init__(self) -> None:
        if self.numeric_NF.ndim != 2 or self.codes.ndim != 2:
            raise DataError("features must be a table [rows, columns]", where="Rows", fix="flatten each row")
        for name, column in vars(self).items():
            if column is not None and len(column) != len(self.label_N):
                what = f"{name} has {len(column)} rows, label_N {len(self.label_N)}"
                raise DataError(what, where="Rows", rule="every array has one entry per row")
        if not np.isfinite(self.label_N).all():
            raise DataError("a label is not a finite number", where="Rows", fix="leave out rows without a label")

    @property
    def codes(self) -> NDArray[Any]:
        """The categorical columns, of which there may be none."""
        return np.zeros((len(self.label_N), 0), np.int64) if self.categorical_NC is None else self.categorical_NC

    def hashes(self) -> NDArray[np.uint64]:
        """One number per row, equal where all features are equal in single precision."""
        with np.errstate(over="ignore"):
            values = self.numeric_NF.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0
        values[np.isnan(values)] = np.nan
        total = np.zeros(len(values), np.uint64)
        for place, column in enumerate([*values.view(np.uint32).T, *self.codes.astype(np.int64).view(np.uint64).T]):
            total += mix(mix(column.astype(np.uint64)) ^ np.uint64(place))
        return mix(total)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a model was trained on and what it was tested on.

    Raises:
        DataError: the two sides do not have the same columns.
    """

    train: Rows
    test: Rows
    score_N: NDArray[Any] | None = None
    """The model's score of each test row; shows what the suspect rows are worth."""
    names: tuple[str, ...] = ()
    """Of the numeric columns, then of the categorical ones."""

    def __post_init__(self) -> None:
        for train, test in ((self.train.numeric_NF, self.test.numeric_NF), (self.train.codes, self.test.codes)):
            if train.shape[1] != test.shape[1]:
                what = f"train has {train.shape[1]} columns of a kind, test {test.shape[1]}"
                raise DataError(what, where="Splits", rule="both sides have the same columns")

    def name(self, column: int) -> str:
        """Of a column, numeric ones first."""
        return self.names[column] if column < len(self.names) else f"column {column}"


def splits_of(run: Run) -> Splits:
    """The train and test rows of a pipeline, with the release's scores where it was evaluated.

    Raises:
        DataError: a file is missing or damaged.
    """
    train, test = (run.split(name) for name in ("train", "test"))
    try:
        names = tuple(column["name"] for kind in ("numeric", "categorical") for column in run.schema[kind])
    except (KeyError, TypeError) as error:
        raise DataError(
            f"is not a schema ({error})", where=run.root / "data/schema.json", fix="run `switchback reproduce`"
        ) from None
    scores = _scores(run, test["id"]) if "id" in test else None
    return Splits(train=_rows(run, train), test=_rows(run, test), score_N=scores, names=names)


def _rows(run: Run, arrays: Mapping[str, NDArray[Any]]) -> Rows:
    try:
        return Rows(
            numeric_NF=arrays["numeric"],
            label_N=arrays["label"],
            categorical_NC=arrays["categorical"],
            time_N=arrays.get("time"),
            entity_N=arrays.get("entity", arrays.get("id")),
        )
    except KeyError as error:
        raise DataError(f"has no {error}", where=run.root / "data", fix="run `switchback reproduce`") from None


def _scores(run: Run, ids: NDArray[Any]) -> NDArray[Any] | None:
    """Those of the first seed, where these rows were scored."""
    if not (run.root / "evaluation/scores.parquet").exists():
        return None
    table, name = run.scores, f"seed_{run.seeds[0]}"
    if name not in table.column_names:
        return None
    score: NDArray[Any] = table[name].to_numpy()
    return score if np.array_equal(table["id"].to_numpy(), ids) else None
