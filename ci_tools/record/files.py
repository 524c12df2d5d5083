"""A record's tables, the CSV curves that DVC draws, and what a record consists of."""

import csv
import io
import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ci_tools.errors import RecordError
from ci_tools.files import replace, write_atomic
from ci_tools.record import schema
from ci_tools.repro.manifest import MANIFEST, file_digest, list_checkpoints

CURVE_POINTS = 500


def write_table(path: Path, columns: Mapping[str, Any], columns_schema: pa.Schema | None = None) -> None:
    """Write a Parquet file whole or not at all; column name to array [N].

    Raises:
        RecordError: the disk refused the write.
    """
    table = pa.table(dict(columns), schema=columns_schema)
    # Numbers rarely repeat, and looking for repeats would take longer than all the rest.
    repeating = [field.name for field in table.schema if pa.types.is_string(field.type)]
    try:
        replace(path, lambda scratch: pq.write_table(table, scratch, compression="zstd", use_dictionary=repeating))
    except OSError as error:
        why = error.strerror or error  # Arrow's errors have no strerror
        raise RecordError(f"cannot be written ({why})", where=path, fix="free space or fix access") from None


def clear_record(folder: Path) -> None:
    """Delete what a record consists of, and nothing else, so that a fresh run may start in its place.

    Raises:
        RecordError: the folder holds files but no record.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / schema.META).exists():
        ours = {*schema.STREAMS, schema.CHECKPOINTS, f".{schema.META}.new"}
        foreign = sorted({p.name for p in folder.iterdir()} - ours)
        if foreign:
            raise RecordError(
                f"holds {foreign[0]} but no run record", where=folder, fix="choose an empty folder for the record"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*schema.EVIDENCE, schema.CURVES_CSV, schema.EVALS_CSV, schema.META):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / schema.CHECKPOINTS, ignore_errors=True)
        (folder / schema.CHECKPOINTS).mkdir()
    except OSError as error:
        raise RecordError(f"cannot be written ({error.strerror})", where=folder, fix="fix access") from None


def clear_scratch(folder: Path) -> None:
    """Delete what an interrupted write or delete left in a checkpoints folder."""
    for stale in folder.glob(".step-*"):
        shutil.rmtree(stale, ignore_errors=True)


def write_curves(folder: Path, trace: pa.Table, evals: pa.Table) -> None:
    """curves.csv (loss, lr and gradient norm, averaged into at most 500 points) and evals.csv, for DVC plots."""
    columns = {name: trace.column(name).to_numpy() for name in ("step", "loss", "lr", "grad_norm")}
    edges = np.linspace(0, trace.num_rows, min(CURVE_POINTS, trace.num_rows) + 1).astype(int)
    rows = [
        [int(columns["step"][end - 1]), *(f"{np.mean(columns[name][start:end]):.6g}" for name in list(columns)[1:])]
        for start, end in itertools.pairwise(edges)
    ]
    write_atomic(folder / schema.CURVES_CSV, _csv(list(columns), rows))
    table = [[row["step"], row["split"], row["metric"], f"{row['value']:.6g}"] for row in evals.to_pylist()]
    write_atomic(folder / schema.EVALS_CSV, _csv(["step", "split", "metric", "value"], table))


def final_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of `schema.EVIDENCE` and each checkpoint's manifest that is there, by path in the record.

    Call once nothing writes to them any more.
    """
    checkpoints = list_checkpoints(folder / schema.CHECKPOINTS)
    manifests = [f"{schema.CHECKPOINTS}/{checkpoint.name}/{MANIFEST}" for checkpoint in checkpoints]
    names = (*schema.EVIDENCE, *manifests)
    return {name: file_digest(folder / name) for name in names if (folder / name).is_file()}


def _csv(head: list[str], rows: list[list[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([head, *rows])
    return out.getvalue()
