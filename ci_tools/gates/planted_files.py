"""Faults of the self-test that lie in the data or in a record: what leaked, and what was damaged.

N = rows of a split, F = numeric columns, C = categorical columns.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.gates import specimen
from ci_tools.gates.specimen import Case
from ci_tools.record import schema

# -- splits -----------------------------------------------------------------------------------------------------------


def _trained_on(case: Case, rows: int, noise: float = 0.0) -> Case:
    """Train also holds the first test rows, their numbers shaken by `noise`, as rows of its own."""
    test = case.splits.test
    shaken_NF = test.numeric_NF[:rows] + noise * np.random.default_rng(1).normal(size=test.numeric_NF[:rows].shape)
    return _appended(case, shaken_NF, test.codes[:rows], test.label_N[:rows])


def _roughly_trained_on(case: Case) -> Case:
    """Copies rougher than a pair that is found within train, where nothing is wrong with it."""
    train = case.splits.train
    pair = _appended(case, train.numeric_NF[:1] + 1e-3, train.codes[:1], train.label_N[:1])
    return _trained_on(pair, rows=60, noise=0.3)


def _appended(case: Case, numeric_NF: NDArray[Any], categorical_NC: NDArray[Any], label_N: NDArray[Any]) -> Case:
    """With more train rows, of which nobody knows the entity or moment."""
    train = case.splits.train
    return _train(
        case,
        numeric_NF=np.concatenate([train.numeric_NF, numeric_NF]),
        categorical_NC=np.concatenate([train.codes, categorical_NC]),
        label_N=np.concatenate([train.label_N, label_N]),
        time_N=None,
        entity_N=None,
    )


def _train(case: Case, **changes: Any) -> Case:
    return replace(case, splits=replace(case.splits, train=replace(case.splits.train, **changes)))


def _test(case: Case, **changes: Any) -> Case:
    return replace(case, splits=replace(case.splits, test=replace(case.splits.test, **changes)))


def _same_entities(case: Case) -> Case:
    """A fifth of the test rows belong to somebody who has train rows."""
    entity_N = np.array(case.splits.test.entity_N)
    entity_N[::5] = np.array(case.splits.train.entity_N)[: len(entity_N[::5])]
    return _test(case, entity_N=entity_N)


def _overlapping(case: Case) -> Case:
    """The test rows begin a hundred moments before the train rows end."""
    return _test(case, time_N=np.array(case.splits.test.time_N) - 100)


def _telling_number(case: Case) -> Case:
    """A numeric column is the label under another name."""
    train = case.splits.train
    numeric_NF = train.numeric_NF.copy()
    numeric_NF[:, 3] = 4 * train.label_N + 0.1 * numeric_NF[:, 3]
    return _train(case, numeric_NF=numeric_NF)


def _telling_category(case: Case) -> Case:
    """A categorical column is the label under another name."""
    train = case.splits.train
    codes = train.codes.copy()
    codes[:, 1] = train.label_N.astype(np.int64)
    return _train(case, categorical_NC=codes)


SPLITS: Mapping[str, Callable[[Case], Case]] = {
    "exact copies": lambda case: _trained_on(case, rows=60),
    "few near copies": lambda case: _trained_on(case, rows=8, noise=1e-3),
    "rough copies": _roughly_trained_on,
    "entities on both sides": _same_entities,
    "overlap in time": _overlapping,
    "a telling number": _telling_number,
    "a telling category": _telling_category,
}
"""What a test split may share with training, by name."""

# -- records ----------------------------------------------------------------------------------------------------------


def _flip_bit(record: Path) -> None:
    """One bit of one weight of the last checkpoint."""
    weights = specimen.checkpoint_of(record) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def _lose_state(record: Path) -> None:
    (specimen.checkpoint_of(record) / "state.json").unlink()


def _exchange(record: Path) -> None:
    """Other weights with a manifest that vouches for them."""
    specimen.write_weights(specimen.checkpoint_of(record), seed=1)
    specimen.sign(specimen.checkpoint_of(record))


def _lose_file(record: Path) -> None:
    (record / schema.METRICS).unlink()


def _lose_earlier(record: Path) -> None:
    shutil.rmtree(specimen.checkpoint_of(record, specimen.CHECKPOINT_EVERY))


def _lose_last(record: Path) -> None:
    """Before run.json was written, so that it lists no digest of it."""
    shutil.rmtree(specimen.checkpoint_of(record))
    specimen.seal(record)


def _lose_best(record: Path) -> None:
    """The one that the last checkpoint names as the best so far."""
    specimen.sign(specimen.checkpoint_of(record), best_step=specimen.STEPS // 4)
    specimen.seal(record)


def _miscount(record: Path) -> None:
    """The checkpoint counts a step of the trace that does not belong to it."""
    specimen.sign(specimen.checkpoint_of(record), rows=specimen.STEPS - 1)
    specimen.seal(record)


def _write_nan(record: Path) -> None:
    """The weights were not finite when they were written."""
    specimen.write_weights(specimen.checkpoint_of(record), seed=0, scale=float("nan"))
    specimen.sign(specimen.checkpoint_of(record))
    specimen.seal(record)


def _tear_trace(record: Path) -> None:
    """The end of the trace was lost before run.json was written."""
    trace = record / schema.TRACE
    trace.write_bytes(trace.read_bytes()[: trace.stat().st_size // 2])
    specimen.seal(record)


def _in_copy(spoil: Callable[[Path], None]) -> Callable[[Case], Case]:
    def plant(case: Case) -> Case:
        folder = case.record.with_name(spoil.__name__)
        shutil.copytree(case.record, folder)
        spoil(folder)
        return replace(case, record=folder)

    return plant


RECORDS: Mapping[str, Callable[[Case], Case]] = {
    "a flipped bit": _in_copy(_flip_bit),
    "a file of a checkpoint is gone": _in_copy(_lose_state),
    "a changed manifest": _in_copy(_exchange),
    "a file of the record is gone": _in_copy(_lose_file),
    "an earlier checkpoint is gone": _in_copy(_lose_earlier),
    "the last checkpoint is gone": _in_copy(_lose_last),
    "the best checkpoint is gone": _in_copy(_lose_best),
    "a checkpoint of another step": _in_copy(_miscount),
    "weights that are not finite": _in_copy(_write_nan),
    "a torn trace": _in_copy(_tear_trace),
}
"""How a record may be damaged, by name."""
