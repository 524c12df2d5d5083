"""Rows in, arrays out: `python -m model.data` writes the folder that training, evaluation and export read.

train.npz validation.npz test.npz   numeric, categorical, label, id, and time where there is time
profile.json                        histograms per split and column
schema.json                         columns, categories, normalisation; written last, so that it vouches for the rest
"""

import argparse
import json
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ci_tools.config import load
from ci_tools.errors import DataError, run_stage
from model.columns import (
    categorical_histogram,
    encode,
    fit_categorical,
    fit_numeric,
    numeric_edges,
    numeric_histogram,
)
from model.frame import Array, Frame
from model.openml import read_openml
from model.params import Data, Params
from model.rolling import simulated_frame
from model.split import NAMES, Assignment, assign
from model.table import read_table

SCHEMA_VERSION = 1
_AGAIN = "run `python -m model.data`"


class Split(NamedTuple):
    """N rows of one split; F numeric and C categorical columns, in the order of schema.json."""

    numeric: NDArray[np.float32]
    """[N, F] raw units; NaN where the value is missing."""
    categorical: NDArray[np.int64]
    """[N, C] 1 + index into the column's categories; 0 for missing or unseen."""
    label: NDArray[np.float32]
    """[N] 0 or 1."""
    id: NDArray[np.int64]
    """[N] row number in the source, from 0."""
    time: NDArray[np.float64] | None
    """[N] in the schema's time unit; None where there is no time."""


def load_source(data: Data) -> Frame:
    """Rows of the source that `data.source` names.

    Raises:
        DataError: rows or columns break a rule.
        DependencyUnavailable: OpenML does not answer.
    """
    if data.source == "simulated":
        return simulated_frame(data.simulated)
    return read_table(data.table) if data.source == "table" else read_openml(data.openml)


def prepare(data: Data, folder: Path) -> dict[str, Any]:
    """Load, split, fit on the training rows, write; returns the schema.

    Law: equal params and input give equal bytes.

    Raises:
        DataError: rows or columns break a rule, or the folder cannot be written.
    """
    frame = load_source(data)
    parts = assign(frame, data.split)
    schema = _schema(data, frame, parts)
    encoded = {c["name"]: encode(frame.categorical[c["name"]], c["categories"]) for c in schema["categorical"]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schema.json").unlink(missing_ok=True)
        for name, rows in parts.rows.items():
            with _whole(folder / f"{name}.npz") as file:
                np.savez(file, allow_pickle=False, **_arrays(frame, encoded, rows))
        for name, values in {"profile.json": _profile(frame, encoded, parts, schema), "schema.json": schema}.items():
            with _whole(folder / name) as file:
                file.write(json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise DataError(
            f"cannot be written ({error.strerror})", where=folder, fix="free space, or choose another folder"
        ) from None
    return schema


def load_schema(folder: str | Path) -> dict[str, Any]:
    """Read schema.json.

    Raises:
        DataError: it is missing, damaged, or of another version.
    """
    path = Path(folder) / "schema.json"
    try:
        schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError("there is no prepared data", where=path, fix=_AGAIN) from None
    except ValueError as error:
        raise DataError(f"damaged ({error})", where=path, fix=_AGAIN) from None
    version = schema.get("schema_version") if isinstance(schema, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"schema version {version}", where=path, rule=f"this code reads version {SCHEMA_VERSION}", fix=_AGAIN
        )
    return schema


def load_split(folder: str | Path, name: str) -> Split:
    """Read `train`, `validation` or `test`.

    Raises:
        DataError: the folder is missing, incomplete or damaged.
    """
    load_schema(folder)
    path = Path(folder) / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = {field: arrays[field] for field in Split._fields if field != "time"}
            return Split(**columns, time=arrays.get("time"))
    except FileNotFoundError:
        rule = f"splits are {', '.join(NAMES)}"
        raise DataError(f"there is no {name} split", where=path, rule=rule, fix=_AGAIN) from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"damaged ({error})", where=path, fix=_AGAIN) from None


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m model.data", description="Prepare the data of an experiment.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the experiment (params.yaml)")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write (data)")
    options = parser.parse_args(arguments)

    def work() -> None:
        start = time.perf_counter()
        schema = prepare(load(options.params, Params).data, options.out)
        sys.stdout.write(_summary(schema, options.out, time.perf_counter() - start))

    return run_stage(work)


def _schema(data: Data, frame: Frame, parts: Assignment) -> dict[str, Any]:
    train, where = parts.rows["train"], frame.source
    numeric = [fit_numeric(k, v[train], where, frame.units.get(k)) for k, v in frame.numeric.items()]
    categorical = [
        fit_categorical(k, v, v.codes[train], data.max_categories, where) for k, v in frame.categorical.items()
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "source": frame.source,
        "label": {"name": frame.label_name, "positive": frame.positive, "negative": frame.negative},
        "time": None if frame.time is None else {"name": frame.time_name, "unit": frame.time_unit},
        "numeric": numeric,
        "categorical": categorical,
        "slices": _slices(data, categorical, where),
        "split": parts.description,
        "rows": len(frame.label),
        "positives": int(frame.label.sum()),
    }


RESERVED = re.compile(r"id|label|score|seed_\d+|logistic_regression|gradient_boosting")
"""Columns of the scores.parquet files, beside which slices stand."""


def _slices(data: Data, categorical: list[dict[str, Any]], where: str) -> list[str]:
    sizes = {column["name"]: len(column["categories"]) for column in categorical}
    unknown = [name for name in data.slices if name not in sizes]
    if unknown:
        raise DataError(
            f"{unknown[0]!r} is not a categorical column",
            where=where,
            rule="data.slices names it",
            fix=f"use some of {', '.join(sizes) or 'none: there is no categorical column'}",
        )
    reserved = [name for name in data.slices if RESERVED.fullmatch(name)]
    if reserved:
        raise DataError(
            f"{reserved[0]!r} cannot be a slice", where=where, rule="scores.parquet has a column of that name",
            fix="rename it in the source",
        )  # fmt: skip
    small = sorted(
        (n for n, size in sizes.items() if size >= 2 and not RESERVED.fullmatch(n)),
        key=lambda name: (sizes[name], name),
    )
    return list(data.slices) or small[:3]


def _arrays(frame: Frame, encoded: dict[str, Array], rows: Array) -> dict[str, Array]:
    numeric = np.empty((len(rows), len(frame.numeric)), np.float32)
    for column, values in enumerate(frame.numeric.values()):
        numeric[:, column] = values[rows]
    categorical = np.empty((len(rows), len(encoded)), np.int64)
    for column, codes in enumerate(encoded.values()):
        categorical[:, column] = codes[rows]
    arrays: dict[str, Array] = {"numeric": numeric, "categorical": categorical}
    arrays |= {"label": frame.label[rows].astype(np.float32), "id": rows.astype(np.int64)}
    return arrays if frame.time is None else arrays | {"time": frame.time[rows]}


def _profile(frame: Frame, encoded: dict[str, Array], parts: Assignment, schema: dict[str, Any]) -> dict[str, Any]:
    """Histograms with the same bins in every split, for drift."""
    numeric = {}
    for name, values in frame.numeric.items():
        edges = numeric_edges(values[parts.rows["train"]])
        counts = {split: numeric_histogram(values[rows], edges) for split, rows in parts.rows.items()}
        numeric[name] = {"edges": edges.tolist(), **counts}
    categorical = {}
    for column in schema["categorical"]:
        name, known = column["name"], column["categories"]
        codes = frame.categorical[name].codes
        counts = {s: categorical_histogram(codes[r], encoded[name][r], len(known)) for s, r in parts.rows.items()}
        categorical[name] = {"categories": known[: len(counts["train"]["counts"])], **counts}
    rates = {split: float(frame.label[rows].mean()) for split, rows in parts.rows.items()}
    return {"schema_version": SCHEMA_VERSION, "label_rate": rates, "numeric": numeric, "categorical": categorical}


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is complete."""
    partial = path.with_name(f"{path.name}.tmp")
    with partial.open("wb") as file:
        yield file
    partial.replace(path)


def _summary(schema: dict[str, Any], folder: Path, seconds: float) -> str:
    split = schema["split"]
    lines = [f"{schema['source']}: {schema['rows']:,} rows, {schema['positives'] / schema['rows']:.2%} positive"]
    lines.append(f"{len(schema['numeric'])} numeric and {len(schema['categorical'])} categorical columns")
    parts = [f"{name} {split['rows'][name]:,} ({split['positives'][name]:,} positive)" for name in NAMES]
    lines.append(f"split by {split['method']}: {', '.join(parts)}; {split['gap_dropped_rows']:,} rows in the gaps")
    return "\n".join([*lines, f"wrote {folder} in {seconds:.1f} s"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
