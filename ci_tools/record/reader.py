"""Read a run record. Needs neither torch nor the code that wrote it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ci_tools.errors import RecordError
from ci_tools.record import schema
from ci_tools.record.files import final_digests
from ci_tools.record.log import UNDECODABLE, read_log
from ci_tools.record.schema import RunMeta, parse_meta
from ci_tools.repro import manifest


@dataclass(frozen=True)
class Record:
    """One run record on disk; each part is read when it is first asked for.

    Raises (from every part):
        RecordError: the file is missing, not what its name says, or not what the finished run left.
    """

    path: Path
    meta: RunMeta
    checked: bool = True
    """Whether parts are refused that differ from their SHA-256 in run.json."""

    @cached_property
    def trace(self) -> pa.Table:
        """One row per optimizer step, abandoned attempts included; columns as in `schema.trace_schema`."""
        table = self._log(schema.TRACE, schema.trace_schema(len(self.meta.layers)))
        if self.meta.status == "finished" and table.num_rows < self.meta.steps:
            raise RecordError(
                f"{schema.TRACE} holds {table.num_rows} whole rows of {self.meta.steps}",
                where=self.path,
                rule="the trace of a finished run is complete",
                fix="restore it with `dvc checkout`, or train again",
            )
        return table

    @cached_property
    def probes(self) -> pa.Table:
        """One row per gradient probe."""
        return self._log(schema.PROBES, schema.probe_schema(len(self.meta.layers)))

    @cached_property
    def evals(self) -> pa.Table:
        """One row per evaluated metric."""
        return self._log(schema.EVALS, schema.EVAL_SCHEMA)

    @cached_property
    def losses(self) -> pa.Table:
        """One row per evaluation that kept losses per example; none where the loop kept none."""
        return self._optional(schema.LOSSES, schema.LOSS_SCHEMA)

    @cached_property
    def shadows(self) -> pa.Table:
        """One row per shadow step; none where the loop took none."""
        return self._optional(schema.SHADOWS, schema.shadow_schema(len(self.meta.layers)))

    @cached_property
    def margins(self) -> pa.Table:
        """Per training example: sample int64, margin float32 (its mean over the run), count int32; or no row."""
        path = self.path / schema.MARGINS
        if schema.MARGINS not in self.meta.files and not path.exists():
            return schema.MARGIN_SCHEMA.empty_table()
        return _refuse_other_columns(self._parquet(schema.MARGINS), schema.MARGIN_SCHEMA, self.path, schema.MARGINS)

    @cached_property
    def scores(self) -> pa.Table:
        """Per test example: id int64, label float32, score float32 in [0, 1], then a string column per slice."""
        return self._parquet(schema.SCORES)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What the run was finished with."""
        try:
            self._check(schema.METRICS)
            values: dict[str, Any] = json.loads((self.path / schema.METRICS).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise TypeError
        except (OSError, ValueError, TypeError):
            raise RecordError(f"no readable {schema.METRICS}", where=self.path, fix="train again") from None
        return values

    def changed_files(self) -> list[str]:
        """Files that are gone, or differ from what the finished run left, by their SHA-256 in run.json."""
        now = final_digests(self.path)
        return [name for name, digest in self.meta.files.items() if now.get(name) != digest]

    def verify(self) -> None:
        """Check every file that run.json vouches for.

        Raises:
            RecordError: names the first that is gone or differs.
        """
        for name in self.changed_files():
            self._refuse(name)

    @property
    def checkpoints(self) -> list[Path]:
        """Checkpoint folders, oldest first."""
        return manifest.list_checkpoints(self.path / schema.CHECKPOINTS)

    @property
    def weights(self) -> Path:
        """The released weights: those of the best checkpoint, or of the last where no metric chose.

        Raises:
            RecordError: no such checkpoint.
        """
        step = self.meta.best_step if self.meta.best_metric else self.meta.steps
        path = self.path / schema.CHECKPOINTS / manifest.checkpoint_name(step) / "model.safetensors"
        if not path.is_file():
            raise RecordError(f"no checkpoint of step {step}", where=self.path, rule="the run must have finished")
        return path

    def final_trace(self) -> pa.Table:
        """The trace without rows that a return to a checkpoint abandoned; steps rise by one from row to row."""
        steps = np.append(self.trace.column("step").to_numpy(), np.iinfo(np.int64).max)
        lowest_behind = np.minimum.accumulate(steps[::-1])[::-1][1:]
        return self.trace.filter(pa.array(steps[:-1] < lowest_behind))

    def rows_before(self, step: int) -> int:
        """Rows of the trace when `step` steps were completed last: what the checkpoint of that step counts on."""
        steps = self.trace.column("step").to_numpy()
        found = np.flatnonzero(steps == step - 1)  # a return behind the checkpoint would have deleted it
        return int(found[-1]) + 1 if found.size else 0

    def _parquet(self, name: str) -> pa.Table:
        try:
            self._check(name)
            table = pq.read_table(self.path / name)
            table.column_names  # noqa: B018 - Arrow decodes names when asked, and damaged ones may be no UTF-8
            return table
        except FileNotFoundError:
            raise RecordError(f"no {name}", where=self.path, rule="the run must have finished") from None
        except UNDECODABLE as error:
            why = " ".join(str(error).split())  # Thrift's messages end in a line break
            raise RecordError(f"{name} is damaged ({why})", where=self.path, fix="train again") from None

    def _optional(self, name: str, expected: pa.Schema) -> pa.Table:
        if name not in self.meta.files and not (self.path / name).exists():
            return expected.empty_table()
        return self._log(name, expected)

    def _log(self, name: str, expected: pa.Schema) -> pa.Table:
        path = self.path / name
        if path.is_file():
            self._check(name)
        table = _refuse_other_columns(read_log(path), expected, self.path, name)
        if any(_has_nulls(chunk) for column in table.columns for chunk in column.chunks):
            raise RecordError(f"{name} holds nulls", where=self.path, rule="values are never null", fix="train again")
        return table

    def _check(self, name: str) -> None:
        """Raises OSError where the file is missing."""
        expected = self.meta.files.get(name)
        if self.checked and expected and manifest.file_digest(self.path / name) != expected:
            self._refuse(name)

    def _refuse(self, name: str) -> None:
        raise RecordError(
            f"{name} does not match the digest in {schema.META}" if (self.path / name).exists() else f"no {name}",
            where=self.path,
            rule="the files of a finished run do not change",
            fix="restore it with `dvc checkout`, or train again",
        )


def _refuse_other_columns(table: pa.Table, expected: pa.Schema, where: Path, name: str) -> pa.Table:
    if table.schema != expected:
        raise RecordError(f"{name} has other columns than its schema version", where=where, fix="train again")
    return table


def _has_nulls(array: pa.Array) -> bool:
    nested = pa.types.is_fixed_size_list(array.type)
    return array.null_count > 0 or (nested and _has_nulls(array.values))


def open_record(path: str | Path, *, checked: bool = True) -> Record:
    """Open a record folder; `checked` as in `Record`.

    Raises:
        RecordError: no record there, or one of another schema version.
    """
    path = Path(path)
    try:
        text = (path / schema.META).read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise RecordError("no run record here", where=path, fix="name a folder that holds run.json") from None
    return Record(path, parse_meta(text, path), checked)
