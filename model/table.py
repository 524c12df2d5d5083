"""CSV and Parquet files with one row per event."""

import csv
import difflib
import itertools
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ci_tools.errors import ConfigError, DataError
from model.frame import Array, Codes, Frame
from model.params import Table

_FEW = 20
"""Whole numbers with at most this many distinct values are read as codes of a category."""


def read_table(params: Table) -> Frame:
    """Read and clean the file that `params.path` names.

    A column is numeric if all its values parse as numbers and they are not codes: a fraction occurs, or more than 20
    distinct values do. Everything else is categorical. `numeric`, `categorical` and `exclude` override this.

    Raises:
        DataError: the file or a column breaks a rule; the message names the line, row or column.
    """
    path = Path(params.path)
    if not params.path:
        raise ConfigError("data.table.path is empty", rule="data.source is `table`", fix="name a CSV or Parquet file")
    if not path.is_file():
        raise DataError("no such file", where=path, fix="correct data.table.path; it counts from the working directory")
    if not os.access(path, os.R_OK):
        raise DataError("cannot be read (permission denied)", where=path, fix="change its mode or owner")
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=path, fix="export it again")
    if path.suffix.lower() == ".csv":
        header, line = _header(path)
        return frame_of(parse_csv(path, header, skip=line), params, path)
    if path.suffix.lower() == ".parquet":
        return frame_of(parse_parquet(path), params, path)
    raise DataError(f"unknown suffix {path.suffix!r}", where=path, rule="tables are .csv or .parquet", fix="convert it")


def parse_csv(path: Path, names: Sequence[str], skip: int, quote: str = '"', escape: str | None = None) -> pa.Table:
    """Rows after the first `skip` lines, every column as text.

    Raises:
        DataError: a ragged row or a byte that is not UTF-8, with its line.
    """
    try:
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=list(names), skip_rows=skip),
            parse_options=pa.csv.ParseOptions(quote_char=quote, escape_char=escape or False, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string())),
        )
    except pa.ArrowInvalid as error:
        # Arrow says what is wrong but not always in which line; the slow reader does.
        try:
            where, what = _ragged(path, len(names), skip, quote, escape)
        except UnicodeDecodeError:
            raise _not_utf8(path) from None
        except csv.Error as slow:
            where, what = str(path), str(slow)
        fix = "correct that line; quote values that hold a comma"
        raise DataError(what or f"not readable as CSV ({error})", where=where, fix=fix) from None


def frame_of(table: pa.Table, params: Table, where: object) -> Frame:
    """Clean columns, infer their roles, and check the label.

    Raises:
        DataError: a column or the label breaks a rule.
    """
    names = list(table.column_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"column {twice[0]!r} occurs more than once", where=where, fix="rename one of them")
    if not table.num_rows:
        raise DataError("there are no rows", where=where, fix="export it again")
    _check_names(params, names, where)
    positive, negative, label = _label(_text(table, params.label, params, where), params, where)
    time = _time(_text(table, params.time, params, where), params.time, where) if params.time else None
    numeric: dict[str, Array] = {}
    categorical: dict[str, Codes] = {}
    for name in names:
        if name in (params.label, params.time, *params.exclude):
            continue
        text = _text(table, name, params, where)
        numbers = None if name in params.categorical else _numbers(text)
        if numbers is None and name in params.numeric:
            row, value = _first(text, lambda v: _parses(float, v))
            raise DataError(
                f"row {row} of column {name!r} holds {value!r}, not a number",
                where=where,
                rule="it is listed in data.table.numeric",
                fix="correct the value, list its spelling in data.table.missing, or drop the override",
            )
        if numbers is None and name not in params.categorical:
            _refuse_stray_text(text, name, where)
        if numbers is None or (name not in params.numeric and _are_codes(numbers)):
            dictionary = text.dictionary_encode()
            codes = dictionary.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
            categorical[name] = Codes(tuple(dictionary.dictionary.to_pylist()), codes)
        else:
            numeric[name] = _finite(numbers, name, where)
    if not numeric and not categorical:
        raise DataError("no column is left to learn from", where=where, fix="shorten data.table.exclude")
    iso = time is not None and time[1]
    return Frame(
        source=str(where),
        numeric=numeric,
        categorical=categorical,
        label=label,
        label_name=params.label,
        positive=positive,
        negative=negative,
        time=None if time is None else time[0],
        time_name=params.time,
        time_unit="seconds since 1970-01-01 UTC" if iso else "the column's own unit",
        gap_unit=86_400.0 if iso else 1.0,
    )


def _header(path: Path) -> tuple[list[str], int]:
    """Column names and the number of lines they take."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next((row for row in reader if row), [])]
            line = reader.line_num
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except csv.Error as error:
        raise DataError(f"the first line is not a header ({error})", where=path, fix="add a header line") from None
    bad = next((name for name in header if not name or _parses(float, name)), None)
    if bad is not None or not header:
        raise DataError(
            f"the first line is not a header: {bad or ''!r} is no column name",
            where=f"{path}:{line}",
            rule="the first line names the columns",
            fix="add a header line",
        )
    return header, line


def _ragged(path: Path, width: int, skip: int, quote: str, escape: str | None) -> tuple[str, str]:
    """Place and description of the first row that has not `width` fields; the description is empty if all have."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(itertools.islice(file, skip, None), quotechar=quote, escapechar=escape)
        for row in reader:
            if row and len(row) != width:
                return f"{path}:{skip + reader.line_num}", f"{len(row)} fields where the header has {width}"
    return str(path), ""


def _not_utf8(path: Path) -> DataError:
    with path.open("rb") as file:
        line = next((n for n, content in enumerate(file, 1) if not _parses(bytes.decode, content)), 1)
    return DataError("not UTF-8", where=f"{path}:{line}", fix="save the file with UTF-8 encoding")


def parse_parquet(path: Path) -> pa.Table:
    """All columns, of whatever type.

    Raises:
        DataError: the file is something else.
    """
    try:
        return pa.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"not a Parquet file ({str(error).splitlines()[0]})", where=path, fix="export it again"
        ) from None


def _check_names(params: Table, names: list[str], where: object) -> None:
    wanted = {"label": (params.label,), "time": (params.time,) if params.time else ()}
    wanted |= {role: getattr(params, role) for role in ("numeric", "categorical", "exclude")}
    for role, columns in wanted.items():
        for name in columns:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                fix = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}"
                raise DataError(
                    f"there is no column {name!r}", where=where, rule=f"data.table.{role} names it", fix=fix
                )
    both = set(params.numeric) & set(params.categorical)
    if both:
        raise ConfigError(f"column {min(both)!r} is listed in data.table.numeric and categorical", fix="choose one")


def _text(table: pa.Table, name: str, params: Table, where: object) -> Any:
    """The column as trimmed text, null where it is missing."""
    try:
        text = pc.utf8_trim_whitespace(table[name].cast(pa.large_string())).combine_chunks()
    except pa.ArrowException:
        kind = table[name].type
        raise DataError(
            f"column {name!r} has type {kind}", where=where, rule="a cell is one value", fix="exclude it"
        ) from None
    missing = pc.is_in(text, value_set=pa.array(params.missing, pa.large_string()))
    text = pc.if_else(missing, pa.scalar(None, pa.large_string()), text)
    if text.null_count == len(text):
        raise DataError(f"column {name!r} has no value in any row", where=where, fix="add it to data.table.exclude")
    return text


def _label(text: Any, params: Table, where: object) -> tuple[str, str, Array]:
    """Positive spelling, negative spelling, bool [N]."""
    name = params.label
    if text.null_count:
        raise DataError(
            f"label {name!r} is missing in {text.null_count} of {len(text)} rows",
            where=where,
            rule="every row needs a label",
            fix="drop those rows",
        )
    counts = sorted((row["counts"], row["values"]) for row in pc.value_counts(text).to_pylist())
    if len(counts) != 2:
        shown = ", ".join(repr(value) for _, value in counts[:5])
        raise DataError(
            f"label {name!r} has {len(counts)} distinct value{'s' * (len(counts) > 1)} ({shown})",
            where=where,
            rule="it must hold exactly two",
            fix="choose another data.table.label, or map its values to two",
        )
    values = [value for _, value in counts]
    # The rarer value is positive; of two equally frequent ones the later in the alphabet ("1" over "0").
    positive = params.positive or (max(values) if counts[0][0] == counts[1][0] else values[0])
    if positive not in values:
        raise DataError(
            f"label {name!r} never holds {positive!r}",
            where=where,
            rule="data.table.positive names it",
            fix=f"use {values[0]!r} or {values[1]!r}",
        )
    negative = values[1 - values.index(positive)]
    return positive, negative, pc.equal(text, positive).to_numpy(zero_copy_only=False)


def _time(text: Any, name: str, where: object) -> tuple[Array, bool]:
    """float64 [N] and whether the column holds ISO dates."""
    numbers = _numbers(text)
    if numbers is not None:
        bad = np.flatnonzero(~np.isfinite(numbers))
        row, value = (int(bad[0]) + 1, text[int(bad[0])].as_py()) if len(bad) else (0, None)
    else:
        row, value = _first(text, lambda v: _parses(_seconds, v))
    if row:
        raise DataError(
            f"row {row} of time column {name!r} " + (f"holds {value!r}" if value else "is empty"),
            where=where,
            rule="times are all numbers, or all ISO dates such as 2024-05-31T12:00:00",
            fix="correct or drop that row",
        )
    if numbers is not None:
        return numbers, False
    distinct = text.dictionary_encode()
    return np.array([_seconds(v) for v in distinct.dictionary.to_pylist()])[distinct.indices.to_numpy()], True


def _seconds(iso: str) -> float:
    moment = datetime.fromisoformat(iso)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _numbers(text: Any) -> Array | None:
    """float64 [N], NaN where missing; None if a value does not parse."""
    try:
        return text.cast(pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    except pa.ArrowInvalid:
        return None


def _refuse_stray_text(text: Any, name: str, where: object) -> None:
    """A column of numbers with a few words in it must not turn into categories unnoticed."""
    values = [value for value in text.unique().to_pylist() if value is not None]
    words = [value for value in values if not _parses(float, value)]
    if len(values) - len(words) > _FEW and len(words) <= 0.05 * len(values):
        row, value = _first(text.fill_null("0"), lambda v: _parses(float, v))
        raise DataError(
            f"row {row} of column {name!r} holds {value!r} among numbers",
            where=where,
            rule="a column is all numbers or all categories",
            fix="correct it, list its spelling in data.table.missing, or the column in data.table.categorical",
        )


def _are_codes(numbers: Array) -> bool:
    known = np.unique(numbers[~np.isnan(numbers)])
    return len(known) <= _FEW and bool((known == np.floor(known)).all())


def _finite(numbers: Array, name: str, where: object) -> Array:
    """float32 [N]."""
    with np.errstate(over="ignore"):
        values = numbers.astype(np.float32)
    row = int(np.isinf(values).argmax())
    if np.isinf(values[row]):
        raise DataError(
            f"row {row + 1} of column {name!r} holds {numbers[row]:g}",
            where=where,
            rule="numbers are finite float32",
            fix="correct the value, or list its spelling in data.table.missing",
        )
    return values


def _first(text: Any, valid: Callable[[str], bool]) -> tuple[int, str | None]:
    """Row (from 1) and value of the first missing or invalid cell; row 0 if there is none."""
    good = {value for value in text.unique().to_pylist() if value is not None and valid(value)}
    return next(((row, v) for row, v in enumerate(text.to_pylist(), 1) if v not in good), (0, None))


def _parses(parse: Callable[[Any], object], value: Any) -> bool:
    try:
        parse(value)
    except (ValueError, OverflowError):
        return False
    return True
