"""What is fitted on the training rows: normalisation, vocabularies, and histograms for drift."""

from typing import Any

import numpy as np

from ci_tools.errors import DataError
from model.frame import Array, Codes

_BINS = 20
_TOP = 50
_SKEWED = 2.0


def fit_numeric(name: str, train: Array, where: str, unit: str | None = None) -> dict[str, Any]:
    """The schema's entry of a numeric column: `mean` and `scale` of its training rows, 1 for the scale of a constant.

    They apply after the transform: `log`, that is sign(x)·log1p(|x|), where the column's skewness exceeds 2 in
    magnitude and the logarithm brings it closer to 0; else `identity`.

    Args:
        name: the column.
        train: float32 [N], NaN where missing.
        where: the source, for the error.
        unit: unit of the values, if known.

    Raises:
        DataError: every value is missing.
    """
    x = _known(name, train[~np.isnan(train)], where).astype(np.float64)
    logarithm = np.sign(x) * np.log1p(np.abs(x))
    skewness = _skewness(x)
    log = abs(skewness) > _SKEWED and abs(_skewness(logarithm)) < abs(skewness)
    shown = logarithm if log else x
    scale = float(shown.std())
    # A spread below float32's resolution is rounding, not information.
    constant = scale <= 1e-6 * max(1.0, float(np.abs(shown).max()))
    return {
        "name": name,
        "transform": "log" if log else "identity",
        "mean": float(shown.mean()),
        "scale": 1.0 if constant else scale,
        "missing_share": 1 - len(x) / len(train),
        **({"unit": unit} if unit else {}),
    }


def fit_categorical(name: str, column: Codes, train: Array, limit: int, where: str) -> dict[str, Any]:
    """The schema's entry of a categorical column: at most `limit` categories of its training rows.

    The most frequent comes first; of equally frequent ones the first in the alphabet.

    Args:
        name: the column.
        column: its spellings.
        train: int32 [N] codes of the training rows, -1 where missing.
        limit: categories to keep.
        where: the source, for the error.

    Raises:
        DataError: every value is missing.
    """
    known = _known(name, train[train >= 0], where)
    counts = np.bincount(known, minlength=len(column.values))
    ranked = sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-int(counts[code]), column.values[code]))
    categories = [column.values[code] for code in ranked[:limit]]
    return {"name": name, "categories": categories, "missing_share": 1 - len(known) / len(train)}


def encode(column: Codes, categories: list[str]) -> Array:
    """int64 [N]: 1 + index into `categories`; 0 where the value is missing or not among them."""
    place = {category: index for index, category in enumerate(categories, 1)}
    # Code -1 takes the last entry, which stands for missing.
    return np.array([*(place.get(value, 0) for value in column.values), 0], np.int64)[column.codes]


def numeric_edges(train: Array) -> Array:
    """float32 inner bin edges: quantiles of the training rows, at most 19, ascending without repetition."""
    return np.unique(np.quantile(train[~np.isnan(train)], np.arange(1, _BINS) / _BINS, method="inverted_cdf"))


def numeric_histogram(values: Array, edges: Array) -> dict[str, Any]:
    """Rows per bin: `counts[i]` of edges[i-1] < x <= edges[i], open-ended at both sides; and missing ones.

    Law: sum(counts) + missing == len(values).
    """
    known = values[~np.isnan(values)]
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return {"counts": counts.tolist(), "missing": len(values) - len(known)}


def categorical_histogram(codes: Array, encoded: Array, categories: int) -> dict[str, Any]:
    """Rows per category for the first 50, then `other` (rarer or unseen), then `missing`.

    Law: sum(counts) + other + missing == len(codes).
    """
    top = min(_TOP, categories)
    counts = np.bincount(np.where(encoded <= top, encoded, 0), minlength=top + 1)[1:].tolist()
    missing = int((codes < 0).sum())
    return {"counts": counts, "other": len(codes) - sum(counts) - missing, "missing": missing}


def _known(name: str, known: Array, where: str) -> Array:
    if not len(known):
        raise DataError(
            f"column {name!r} has no value in any training row",
            where=where,
            rule="a column needs values to be normalised",
            fix="add it to data.table.exclude",
        )
    return known


def _skewness(x: Array) -> float:
    """E[(x - mean)³] / sd³ of float64 [N]; 0 for a constant."""
    deviation = x - x.mean()
    variance = float(np.mean(deviation * deviation))
    return float(np.mean(deviation**3)) / variance**1.5 if variance > 0 else 0.0
