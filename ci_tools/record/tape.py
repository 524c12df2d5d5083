"""The writing half of a record while training runs: rows in, blocks out, divergence noticed.

Figures come from the device a block late at most; everything decided here is decided at fixed step counts, so that a
repeated run decides the same.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from ci_tools.errors import RecordError
from ci_tools.files import write_atomic
from ci_tools.record import files, ranks, schema
from ci_tools.record.log import ArrowLog, cut_log, read_log
from ci_tools.record.margins import Margins, visits
from ci_tools.record.monitor import CLIP, LOSS, NORMS, GradientMonitor
from ci_tools.record.probes import Probe
from ci_tools.record.shadow import Shadow
from ci_tools.repro.order import SeededBatches

F32 = npt.NDArray[np.float32]


class Limits(NamedTuple):
    """What counts as divergence; see `Recorder`."""

    patience: int
    loss_limit: float
    limit_after: int


class Onset(NamedTuple):
    """Where divergence began."""

    step: int
    reason: str


class HostRow(NamedTuple):
    """The part of a trace row that the host knows at once."""

    step: int
    epoch: int
    samples_seen: int
    batch_digest: int
    attempt: int
    lr: float
    step_ms: float
    data_ms: float


class Tape:
    """Trace, probes and evaluations of one run. Ranks other than 0 measure but do not write."""

    def __init__(
        self,
        path: Path,
        parameters: list[torch.nn.Parameter],
        *,
        writes: bool,
        limits: Limits,
    ) -> None:
        self.path, self._parameters, self._writes, self._limits = path, parameters, writes, limits
        self._monitor = GradientMonitor(parameters)
        self._root_size = np.sqrt([p.numel() for p in parameters])
        self._base_rows = dict.fromkeys(schema.STREAMS, 0)
        self._margins: Margins | None = None
        self._margins_given = False
        self._pending: list[HostRow] = []
        self._probe: Probe | None = None
        self._previous: torch.Tensor | None = None
        self._attempt = self._streak = 0
        self._current: tuple[int, int, int, int] | None = None
        self._fetch_start = time.perf_counter()
        self._step_start: float | None = None
        self._data_ms = 0.0
        self._recorded = False
        self.seconds = 0.0
        """Time spent in steps, over all resumes."""
        self.status = ""
        """Latest figures, for the progress line."""
        self.onset: Onset | None = None

    def open(self, probe_every: int) -> None:
        """Open the logs, behind whatever `cut` left."""
        self._probe_every = probe_every
        self._logs: dict[str, ArrowLog] = {}
        if self._writes:
            layers = len(self._parameters)
            for name, columns in (
                (schema.TRACE, schema.trace_schema(layers)),
                (schema.PROBES, schema.probe_schema(layers)),
                (schema.EVALS, schema.EVAL_SCHEMA),
                (schema.LOSSES, schema.LOSS_SCHEMA),
                (schema.SHADOWS, schema.shadow_schema(layers)),
            ):
                self._logs[name] = ArrowLog(self.path / name, columns)
                self._logs[name].rows = self._base_rows[name]

    # -- one step -----------------------------------------------------------------------------------------------

    def fetching(self) -> None:
        """The loop asks for the next batch now."""
        self._fetch_start = time.perf_counter()

    def follow(self, sampler: SeededBatches) -> None:
        """The batches to come are those of this sampler."""
        self._sampler = sampler

    def next_batch(self, epoch: int, step: int, cursor: int) -> None:
        """A step begins with batch `cursor` of an epoch."""
        now = time.perf_counter()
        self._data_ms = (now - self._fetch_start) * 1e3
        self._current = (step, epoch, (step + 1) * self._sampler.batch_size, self._sampler.digest(epoch, cursor))
        self._cursor = cursor
        self._recorded = self._margins_given = False
        if (step + 1) % self._probe_every == 0:
            self._probe = Probe(self._parameters, self._previous)

    @property
    def probing(self) -> bool:
        """Whether the current step is probed."""
        return self._probe is not None

    def half(self, share: float, scale: float) -> None:
        """The gradients now hold the first `share` of the batch, times the loss scale."""
        if self._probe is not None:
            self._probe.first_half([g / scale for g in self._monitor.gradients()], share)

    def record(self, loss: torch.Tensor, lr: float, clip_norm: float, *, clips: bool) -> None:
        """Measure the step; see `Recorder.record`."""
        if self._current is None:
            raise RecordError("run.record(loss) was called outside run.steps(…)", where=self.path)
        step, epoch, samples, digest = self._current
        if self._probe is not None:
            self._previous = self._probe.gradients(self._monitor.gradients(), self._sampler.batch_size)
        self._monitor.observe(loss, clip_norm, clips=clips)
        now = time.perf_counter()
        # From one record to the next; the first has only its own batch to count from.
        step_ms = (now - (self._step_start or self._fetch_start)) * 1e3
        self._step_start, self._recorded = now, True
        self.seconds += step_ms / 1e3
        self._pending.append(HostRow(step, epoch, samples, digest, self._attempt, lr, step_ms, self._data_ms))
        if self._monitor.commit():
            self._collect(wait=False)

    def margins(self, margin_B: torch.Tensor) -> None:
        """Keep the margins of the step's examples; see `Recorder.margins`."""
        if self._current is None:
            raise RecordError("run.margins was called outside run.steps(…)", where=self.path)
        step, epoch = self._current[:2]
        ids_B = self._sampler.ids(epoch, self._cursor)
        if margin_B.shape != ids_B.shape:
            shape = tuple(margin_B.shape)
            raise RecordError(f"run.margins got shape {shape}", where=self.path, rule=f"the batch has {len(ids_B)}")
        if self._margins is None:
            if step > 0:
                raise RecordError("run.margins was not called from the first step on", where=self.path)
            self._margins = Margins(torch.zeros(self._sampler.samples, device=margin_B.device), carries=True)
        self._margins.add(ids_B, margin_B)
        self._margins_given = True

    def end_step(self) -> None:
        """The optimizer has stepped."""
        if self._margins is not None and not self._margins_given:
            raise RecordError("run.margins was not called in this step", where=self.path, fix="call it in every step")
        if not self._recorded:
            raise RecordError(
                "run.record(loss) was not called in this step", where=self.path, fix="call it after backward"
            )
        if self._probe is not None:
            row = self._probe.updates()
            self._probe = None
            if self._writes and self._current is not None:
                self._append(schema.PROBES, row | {"step": self._current[0]})

    def evaluated(self, step: int, split: str, metrics: Mapping[str, float], losses: Any) -> None:
        """Write metrics, and losses per example if there are any, measured after `step` steps."""
        if self._writes and losses is not None:
            loss_V = np.asarray(losses, dtype=np.float32)
            kept = np.unique(np.linspace(0, len(loss_V) - 1, min(schema.EXAMPLES_KEPT, len(loss_V))).astype(np.int64))
            self._append(schema.LOSSES, {"step": step, "split": split, "loss": loss_V[kept]})
        if self._writes and metrics:
            n = len(metrics)
            columns = {
                "step": [step] * n,
                "attempt": [self._attempt] * n,
                "split": [split] * n,
                "metric": list(metrics),
                "value": [float(v) for v in metrics.values()],
            }
            log = self._logs[schema.EVALS]
            log.append({f.name: pa.array(columns[f.name], type=f.type) for f in log.schema})

    def shadowed(self, step: int, shadow: Shadow) -> None:
        """Write a shadow step measured after `step` steps."""
        if self._writes:
            self._append(schema.SHADOWS, {"step": step, **shadow._asdict()})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        log, row = self._logs[name], row | {"attempt": self._attempt}
        log.append({f.name: pa.array([row[f.name]], type=f.type) for f in log.schema})

    # -- blocks -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write every row that was recorded."""
        self._collect(wait=True)

    def sync(self) -> None:
        """Push the logs to the disk."""
        for log in self._logs.values():
            log.sync()

    def _collect(self, *, wait: bool) -> None:
        ranks.average_(self._monitor.losses())
        rows = self._monitor.collect(wait=wait)
        if not len(rows):
            return
        host, self._pending = self._pending[: len(rows)], self._pending[len(rows) :]
        columns = self._columns(host, rows)
        self._look_for_divergence(host, columns)
        # Losses come from the device in blocks: by now the loop is some steps further.
        self.status = f"loss {columns['loss'][-1]:.3g} (last read, at step {host[-1].step + 1})"
        if self._writes:
            log = self._logs[schema.TRACE]
            log.append({f.name: _array(columns[f.name], f.type) for f in log.schema})

    def _columns(self, host: list[HostRow], rows: F32) -> dict[str, Any]:
        layers = len(self._parameters)
        norms, largest = rows[:, NORMS : NORMS + layers], rows[:, NORMS + layers :]
        columns: dict[str, Any] = dict(zip(HostRow._fields, zip(*host, strict=True), strict=True))
        with np.errstate(over="ignore", invalid="ignore"):
            columns["grad_norm"] = np.sqrt(np.square(norms, dtype=np.float64).sum(axis=1)).astype(np.float32)
        columns["loss"], columns["clip_coefficient"] = rows[:, LOSS], rows[:, CLIP]
        columns["nonfinite"] = (~np.isfinite(largest)).sum(axis=1).astype(np.int32)
        columns["grad_rms"] = (norms / self._root_size).astype(np.float32)
        columns["grad_absmax"] = largest
        return columns

    def _look_for_divergence(self, host: list[HostRow], columns: dict[str, Any]) -> None:
        for row, loss, nonfinite in zip(host, columns["loss"].tolist(), columns["nonfinite"].tolist(), strict=True):
            reason = ""
            if not math.isfinite(loss):
                reason = f"loss is {loss}"
            elif nonfinite:
                reason = f"gradients of {nonfinite} layers are not finite"
            elif loss > self._limits.loss_limit and row.step >= self._limits.limit_after:
                reason = f"loss {loss:.4g} above the limit {self._limits.loss_limit:.4g}"
            self._streak = self._streak + 1 if reason else 0
            if self._streak >= self._limits.patience and self.onset is None:
                self.onset = Onset(row.step - self._streak + 1, f"{reason} for {self._limits.patience} steps")

    @property
    def rows(self) -> int:
        """Rows of the trace that are written."""
        return self._logs[schema.TRACE].rows

    # -- crash and return ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to write the same rows; call after `flush`."""
        return {
            "rows": {name: log.rows for name, log in self._logs.items()},
            "attempt": self._attempt,
            "streak": self._streak,
            "previous": self._previous,
            "seconds": self.seconds,
            "margins": None if self._margins is None else self._margins.sum_N,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind a checkpoint; rows already written stay."""
        self._monitor.drop()
        self._pending.clear()
        self._probe, self._current, self.onset = None, None, None
        self._attempt, self._streak = state["attempt"], state["streak"]
        previous = state["previous"]
        self._previous = None if previous is None else previous.to(self._parameters[0].device)
        self.seconds = max(self.seconds, state["seconds"])
        sums = state["margins"]
        self._margins = None if sums is None else Margins(sums.to(self._parameters[0].device), carries=self._writes)
        self._step_start = None

    def begin_attempt(self, number: int) -> None:
        """Mark the rows that follow as another try at steps that were recorded before."""
        self._attempt = number

    def cut(self, state: dict[str, Any]) -> None:
        """Shorten the logs to what a checkpoint counts on.

        Raises:
            RecordError: a log is shorter than that.
        """
        for name, rows in state["rows"].items():
            if read_log(self.path / name).num_rows < rows:
                raise RecordError(f"{name} is shorter than its checkpoint says", where=self.path)
        for name, rows in state["rows"].items():
            cut_log(self.path / name, rows)
        self._base_rows = dict(state["rows"])

    def gather_margins(self) -> None:
        """Bring the sums of all ranks to the first; every rank must call, before `state_dict` and `finish`."""
        if self._margins is not None:
            self._margins.gather()

    def finish(self, steps: int, metrics: Mapping[str, float], scores: Mapping[str, Any] | None) -> None:
        """Write what only a finished run has."""
        if scores is not None:
            files.write_table(self.path / schema.SCORES, scores)
        if self._margins is not None:
            margin_N = self._margins.sum_N.cpu().numpy()
            count_N = visits(self._sampler, steps)
            columns = {"sample": np.arange(len(count_N)), "margin": margin_N / np.maximum(count_N, 1), "count": count_N}
            files.write_table(self.path / schema.MARGINS, columns, schema.MARGIN_SCHEMA)
        write_atomic(self.path / schema.METRICS, json.dumps(dict(metrics), indent=1) + "\n")
        files.write_curves(self.path, read_log(self.path / schema.TRACE), read_log(self.path / schema.EVALS))

    def close(self, *, finished: bool) -> None:
        """Close the logs."""
        for log in getattr(self, "_logs", {}).values():
            log.close(finished=finished)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), type=kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return pa.array(values, type=kind)
