"""The data of two runs, column by column: what data/schema.json, profile.json and the arrays say, made comparable.

B = bins of a histogram, N = rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.errors import DataError
from ci_tools.gates.run import Baseline, Run

I64 = NDArray[np.int64]

SPLITS = ("train", "validation", "test")
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """One column of one split."""

    numeric: bool
    bins: tuple[float, ...] | tuple[str, ...]
    """Inner edges of a numeric column, each the upper end of its bin; the most frequent categories of another."""
    counts_B: I64
    """Rows with a value; the last bin of a categorical column holds all its other categories."""
    missing: int

    @property
    def known(self) -> int:
        """Rows with a value."""
        return int(self.counts_B.sum())

    @property
    def missing_share(self) -> float:
        """Of all rows; 0 where there is none."""
        return self.missing / max(self.known + self.missing, 1)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two sets of rows to compare."""

    old: Run
    old_split: str
    new: Run
    new_split: str

    @property
    def against(self) -> str:
        """The old side, for people."""
        return f"the {self.old_split} rows" + (" of the base revision" if self.old is not self.new else "")

    def columns(self) -> Iterator[tuple[str, Histogram, Histogram]]:
        """Name, old and new histogram of every column that both sides have with the same type, in the old one's bins.

        Raises:
            DataError: a profile or, where bins differ and rows must be counted again, an array is missing or damaged.
        """
        old, new = histograms(self.old, self.old_split), histograms(self.new, self.new_split)
        common = [name for name in old if name in new and old[name].numeric == new[name].numeric]
        other_bins = any(old[name].bins != new[name].bins for name in common)
        arrays = self.new.split(self.new_split) if other_bins else {}
        for name in common:
            same = old[name].bins == new[name].bins
            yield name, old[name], new[name] if same else _rebinned(self.new, arrays, name, old[name], new[name])

    def values(self) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
        """Name and the known values of both sides, for every numeric column that both have.

        Raises:
            DataError: a schema or an array is missing or damaged.
        """
        (old_place, old), (new_place, new) = (
            (_places(run), run.split(split)) for run, split in ((self.old, self.old_split), (self.new, self.new_split))
        )
        for name in (name for name in old_place if name in new_place):
            x, y = _column(self.old, old, old_place[name]), _column(self.new, new, new_place[name])
            yield name, x[~np.isnan(x)], y[~np.isnan(y)]


def pairs(run: Run, baseline: Baseline) -> list[Pair]:
    """Each split with that of the base revision; without one, test with train."""
    if baseline.run is None:
        return [Pair(old=run, old_split="train", new=run, new_split="test")]
    return [Pair(old=baseline.run, old_split=split, new=run, new_split=split) for split in SPLITS]


def histograms(run: Run, split: str) -> dict[str, Histogram]:
    """Every column of one split, from data/profile.json.

    Raises:
        DataError: the file is missing or is not a profile.
    """
    profile = run.profile
    try:
        return {
            name: _histogram(column, column[split], kind == "numeric")
            for kind in ("numeric", "categorical")
            for name, column in profile[kind].items()
        }
    except _MALFORMED as error:
        raise _malformed(run, "profile.json", error) from None


def described(run: Run) -> dict[str, dict[str, str]]:
    """What schema.json says apart from what was fitted: column to property to value; the label and time are columns.

    Raises:
        DataError: the file is missing or is not a schema.
    """
    schema = run.schema
    try:
        label, time = schema["label"], schema.get("time")
        return (
            {"the label": {"name": label["name"], "classes": f"{label['positive']} and {label['negative']}"}}
            | ({"the time": {"name": time["name"], "unit": str(time["unit"])}} if time else {})
            | {c["name"]: {"type": "numeric", "unit": str(c.get("unit", "none"))} for c in schema["numeric"]}
            | {c["name"]: {"type": "categorical"} for c in schema["categorical"]}
        )
    except _MALFORMED as error:
        raise _malformed(run, "schema.json", error) from None


def categories(run: Run) -> dict[str, list[str]]:
    """The vocabulary of each categorical column; code k + 1 stands for entry k.

    Raises:
        DataError: schema.json is missing or is not a schema.
    """
    schema = run.schema
    try:
        return {column["name"]: list(column["categories"]) for column in schema["categorical"]}
    except _MALFORMED as error:
        raise _malformed(run, "schema.json", error) from None


def _histogram(column: Mapping[str, Any], split: Mapping[str, Any], numeric: bool) -> Histogram:
    bins = tuple(column["edges"] if numeric else column["categories"])
    counts_B = np.array(split["counts"] if numeric else [*split["counts"], split["other"]], np.int64)
    missing = int(split["missing"])
    if len(counts_B) != len(bins) + 1 or counts_B.min() < 0 or missing < 0:
        raise ValueError("counts do not fit the bins")
    return Histogram(numeric=numeric, bins=bins, counts_B=counts_B, missing=missing)


def _places(run: Run) -> dict[str, int]:
    schema = run.schema
    try:
        return {column["name"]: place for place, column in enumerate(schema["numeric"])}
    except _MALFORMED as error:
        raise _malformed(run, "schema.json", error) from None


def _column(run: Run, arrays: Mapping[str, NDArray[Any]], place: int) -> NDArray[Any]:
    try:
        column: NDArray[Any] = arrays["numeric"][:, place]
    except _MALFORMED as error:
        raise _malformed(run, "", error) from None
    return column


def _rebinned(run: Run, arrays: Mapping[str, NDArray[Any]], name: str, old: Histogram, new: Histogram) -> Histogram:
    """The new rows of a column, counted again in the old bins."""
    if old.numeric:
        values = _column(run, arrays, _places(run)[name])
        places = np.searchsorted(np.array(old.bins), values[~np.isnan(values)], side="left")
        counts_B = np.bincount(places, minlength=len(old.bins) + 1)
    else:
        vocabularies = categories(run)
        code = {category: k for k, category in enumerate(vocabularies[name], 1)}
        try:
            codes = arrays["categorical"][:, list(vocabularies).index(name)]
        except _MALFORMED as error:
            raise _malformed(run, "", error) from None
        counts = [int((codes == code.get(str(category), -1)).sum()) for category in old.bins]
        counts_B = np.array([*counts, new.known - sum(counts)])
    return Histogram(numeric=old.numeric, bins=old.bins, counts_B=counts_B, missing=new.missing)


def _malformed(run: Run, name: str, error: Exception) -> DataError:
    what = f"is not what the data stage writes ({type(error).__name__}: {error})"
    return DataError(what, where=run.root / "data" / name, fix="run `switchback reproduce`")
