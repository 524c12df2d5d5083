"""Rows to train, validation and test: in time order where there is time, else by a hash of the row."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

from ci_tools.errors import DataError
from model.frame import Array, Frame
from model.params import Split

NAMES = ("train", "validation", "test")


class Assignment(NamedTuple):
    """Which rows go where."""

    rows: dict[str, Array]
    """Row numbers of each split; in time order where there is time."""
    description: dict[str, Any]
    """The `split` section of schema.json."""


def assign(frame: Frame, params: Split) -> Assignment:
    """Split a frame.

    Raises:
        DataError: a split is empty, or holds only one class.
    """
    rows, description = _by_hash(frame, params) if frame.time is None else _by_time(frame, frame.time, params)
    for name, chosen in rows.items():
        positives = int(frame.label[chosen].sum())
        if not len(chosen):
            raise DataError(
                f"the {name} split is empty ({len(frame.label)} rows in all)",
                where=frame.source,
                rule="train, validation and test each need rows of both classes",
                fix="give more rows, or change data.split (shares, gap_days)",
            )
        if positives in (0, len(chosen)):
            raise DataError(
                f"all {len(chosen)} rows of the {name} split are {'positive' if positives else 'negative'}",
                where=frame.source,
                rule="train, validation and test each need rows of both classes",
                fix="give more rows, or change data.split",
            )
    description["rows"] = {name: len(chosen) for name, chosen in rows.items()}
    description["positives"] = {name: int(frame.label[chosen].sum()) for name, chosen in rows.items()}
    description["gap_dropped_rows"] = len(frame.label) - sum(description["rows"].values())
    return Assignment(rows, description)


def _by_time(frame: Frame, time: Array, params: Split) -> tuple[dict[str, Array], dict[str, Any]]:
    """Test and validation keep their shares; the gaps before them shorten what precedes.

    Law: max(time of a split) + gap < min(time of the next one), or <= where the gap is 0 and never equal.
    """
    order = np.argsort(time, kind="stable")
    gap = params.gap_days * frame.gap_unit
    ordered, wanted = time[order], np.array([params.validation, params.test]) * len(time)
    # Walk back from the end; rows of one moment always go to the same side.
    test_start = ordered[len(time) - max(1, round(wanted[1]))]
    validation_end = int(np.searchsorted(ordered, test_start - gap, side="left"))
    validation_start = ordered[max(0, validation_end - max(1, round(wanted[0])))]
    train_end = int(np.searchsorted(ordered, validation_start - gap, side="left"))
    first_validation = int(np.searchsorted(ordered, validation_start, side="left"))
    rows = {
        "train": order[:train_end],
        "validation": order[first_validation:validation_end],
        "test": order[int(np.searchsorted(ordered, test_start, side="left")) :],
    }
    boundaries = {"validation_start": float(validation_start), "test_start": float(test_start)}
    return rows, {"method": "time", "boundaries": boundaries, "gap": gap, "unit": frame.time_unit}


def _by_hash(frame: Frame, params: Split) -> tuple[dict[str, Array], dict[str, Any]]:
    """Equal rows go to the same side, wherever they stand in the file and whatever other rows there are."""
    place = row_hash(frame, params.hash_salt) / 2.0**64
    in_test, in_validation = place < params.test, place < params.test + params.validation
    rows = {
        "train": np.flatnonzero(~in_validation),
        "validation": np.flatnonzero(in_validation & ~in_test),
        "test": np.flatnonzero(in_test),
    }
    return rows, {"method": "hash", "salt": params.hash_salt, "boundaries": None, "gap": 0.0, "unit": None}


def row_hash(frame: Frame, salt: str) -> Array:
    """uint64 [N] of each row's features; the order of columns and rows does not matter, nor does the label.

    Values pass through the finalizer of SplitMix64 (Steele et al., 2014), one stream per column name.
    """
    total = np.zeros(len(frame.label), np.uint64)
    for name, values in frame.numeric.items():
        # Adding zero makes -0.0 equal to 0.0; every NaN gets the same bits.
        bits = np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0)).view(np.uint32)
        total += _mix(bits.astype(np.uint64) ^ _text_hash(f"{salt}\0{name}"))
    for name, column in frame.categorical.items():
        spelled = [_text_hash(f"{salt}\0{name}\0{value}") for value in column.values]
        # Code -1 takes the last entry, which stands for missing.
        total += np.array([*spelled, _text_hash(f"{salt}\0{name}")], np.uint64)[column.codes]
    return _mix(total)


def _text_hash(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


def _mix(x: Array) -> Array:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed
