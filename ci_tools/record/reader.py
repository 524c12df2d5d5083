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
from ci_tools.record.log import read_log
from ci_tools.record.schema import RunMeta, parse_meta
from ci_tools.repro import manifest


@dataclass(frozen=True)
class Record:
    """One run record on disk; each part is read when it is first asked for.

    Raises (from every part):
        RecordError: the file is missing or not what its name says.
    """

    path: Path
    meta: RunMeta

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
    def scores(self) -> pa.Table:
        """Per test example: id int64, label float32, score float32 in [0, 1], then a string column per slice."""
        path = self.path / schema.SCORES
        try:
            return pq.read_table(path)
        except FileNotFoundError:
            raise RecordError(f"no {schema.SCORES}", where=self.path, rule="the run must have finished") from None
        except (OSError, pa.ArrowInvalid) as error:
            raise RecordError(f"{schema.SCORES} is damaged ({error})", where=self.path, fix="train again") from None

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What the run was finished with."""
        try:
            values: dict[str, Any] = json.loads((self.path / schema.METRICS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise RecordError(f"no readable {schema.METRICS}", where=self.path, fix="train again") from None
        return values

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

    def _log(self, name: str, expected: pa.Schema) -> pa.Table:
        table = read_log(self.path / name)
        if table.schema != expected:
            raise RecordError(f"{name} has other columns than its schema version", where=self.path, fix="train again")
        return table


def open_record(path: str | Path) -> Record:
    """Open a record folder.

    Raises:
        RecordError: no record there, or one of another schema version.
    """
    path = Path(path)
    try:
        text = (path / schema.META).read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise RecordError("no run record here", where=path, fix="name a folder that holds run.json") from None
    return Record(path, parse_meta(text, path))
