"""Rows of any source, column by column, before they are split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Codes(NamedTuple):
    """A categorical column."""

    values: tuple[str, ...]
    """Spelling of each code."""
    codes: NDArray[np.int32]
    """[N] index into `values`; -1 where the value is missing."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """N rows of one source, in the source's order."""

    source: str
    """Where the rows come from, for people."""
    numeric: Mapping[str, NDArray[np.float32]]
    """[N] each, raw units; NaN where the value is missing, never infinite."""
    categorical: Mapping[str, Codes]
    """[N] each."""
    label: NDArray[np.bool_]
    """[N]; true is the positive class."""
    label_name: str = "label"
    positive: str = "1"
    """Spelling of the positive class in the source."""
    negative: str = "0"
    time: NDArray[np.float64] | None = None
    """[N] moment of each row, in `time_unit`; None where the source has no time."""
    time_name: str = "time"
    time_unit: str = "seconds"
    gap_unit: float = 86_400.0
    """What one `gap_days` is worth in `time_unit`: 86 400 for seconds, 1 for a column in its own unit."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of a numeric column, where it is known."""
