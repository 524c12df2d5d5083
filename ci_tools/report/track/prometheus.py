"""A run record as metrics in Prometheus' text format, by Prometheus' own client library.

The file is one for the textfile collector of node_exporter, which reads every `*.prom` in its folder. Every series has
the run's id as its label `run`; what else identifies the run stands once, in `switchback_run_info`.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ci_tools.errors import ConfigError
from ci_tools.gates import files
from ci_tools.gates.verdict import Outcome, worst
from ci_tools.record.schema import RunMeta
from ci_tools.report.track.clock import seconds
from ci_tools.report.track.follow import Rows, follow
from ci_tools.report.track.names import plain

if TYPE_CHECKING:
    from prometheus_client import Metric

EVERY = 5.0
"""Least seconds between two writes of the file."""
STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
"""Upper edges of the buckets of step durations; one more holds the rest."""
_STATUSES = get_args(RunMeta.model_fields["status"].annotation)
_NEWEST = {
    "loss": ("switchback_run_loss", "Loss of the newest step."),
    "lr": ("switchback_run_learning_rate", "Learning rate of the newest step."),
    "grad_norm": ("switchback_run_gradient_norm", "L2 norm of the newest step's gradient, before clipping."),
}
"""Column of the trace to a metric's name and its help."""


def export(record: Path, out: Path, live: bool, *, wait: float = 0.0, stop: Callable[[], bool] = lambda: False) -> Path:
    """Write the metrics of a record to the file OUT, which is returned; with `live`, anew until its run ends.

    Each write replaces the whole file by a rename: a reader sees the old or the new one. `wait` and `stop` are those of
    `follow`.

    Raises:
        ConfigError: OUT does not end in `.prom`.
        RecordError: no readable record.
        DataError: there are verdicts beside the run, and they cannot be read.
        ModuleNotFoundError: the package prometheus_client is not installed.
        OSError: the disk refused.
    """
    from prometheus_client import CollectorRegistry, write_to_textfile

    if out.suffix != ".prom":
        raise ConfigError("must end in .prom", where=out, rule="node_exporter reads no other file", fix="rename it")
    looks = follow(record, live=live, wait=wait, stop=stop)
    first = next(looks)
    run: Any = _Run(first.meta)
    registry, written = CollectorRegistry(), -math.inf
    registry.register(run)
    out.parent.mkdir(parents=True, exist_ok=True)
    for rows in chain([first], looks):
        run.add(rows)
        if rows.ended:
            run.verdicts = _verdicts(record, rows.meta)
        if rows.ended or time.monotonic() - written >= EVERY:
            write_to_textfile(str(out), registry)
            written = time.monotonic()
    return out


class _Run:
    """What is known of a run so far; a collector, in prometheus_client's sense."""

    def __init__(self, meta: RunMeta) -> None:
        self._meta = meta
        self._taken = self._nonfinite = 0
        self._newest: dict[str, Any] = {}
        self._evaluated: dict[tuple[str, str], float] = {}
        self._durations: Counter[int] = Counter()
        self._seconds = 0.0
        self.verdicts: dict[tuple[str, str], tuple[Outcome, bool]] = {}
        """Gate and subject to its outcome and whether that stops a merge."""

    def add(self, rows: Rows) -> None:
        """Take note of new rows."""
        self._meta = rows.meta
        for row in rows.evals.to_pylist():
            self._evaluated[plain(row["split"]), plain(row["metric"])] = row["value"]
        if not rows.trace.num_rows:
            return
        self._taken += rows.trace.num_rows
        self._newest = rows.trace.select(["step", *_NEWEST]).slice(rows.trace.num_rows - 1).to_pylist()[0]
        self._nonfinite += int(rows.trace.column("nonfinite").to_numpy().sum())
        step_seconds = rows.trace.column("step_ms").to_numpy().astype(np.float64) / 1e3
        self._durations.update(np.searchsorted(STEP_SECONDS, step_seconds).tolist())
        self._seconds += float(step_seconds.sum())

    def collect(self) -> "Iterator[Metric]":
        """The metrics, as prometheus_client asks for them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield from self._identity()
        for name, (text, value) in self._gauges().items():
            gauge = GaugeMetricFamily(name, text, labels=["run"])
            gauge.add_metric([self._id], value)
            yield gauge
        for name, (text, value) in self._counters().items():
            counter = CounterMetricFamily(name, text, labels=["run"])
            counter.add_metric([self._id], value)
            yield counter
        yield from self._measured()
        yield from self._judged()

    @property
    def _id(self) -> str:
        return plain(self._meta.id)

    def _identity(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        meta = self._meta
        about = {"commit": meta.git_commit, "dirty": str(meta.git_dirty).lower(), "params_digest": meta.params_digest}
        about |= {"run": meta.id, "seed": str(meta.seed), "precision": meta.precision}
        named = {key: plain(value) for key, value in about.items()}
        yield InfoMetricFamily("switchback_run", "What the run is; always 1.", value=named)
        status = GaugeMetricFamily("switchback_run_status", "1 for the run's status.", labels=["run", "status"])
        for name in _STATUSES:
            status.add_metric([self._id, name], name == meta.status)
        yield status

    def _gauges(self) -> dict[str, tuple[str, float]]:
        """Name to help and value; what is not known yet is left out."""
        meta, newest = self._meta, self._newest
        found = {
            "switchback_run_start_timestamp_seconds": ("When the run began.", seconds(meta.started)),
            "switchback_run_planned_steps": ("Optimizer steps that the run is to take.", meta.total_steps),
        }
        if meta.ended:
            found["switchback_run_end_timestamp_seconds"] = ("When the run last ended.", seconds(meta.ended))
        if newest:
            found["switchback_run_completed_steps"] = ("Optimizer steps completed.", newest["step"] + 1)
            found |= {name: (text, newest[column]) for column, (name, text) in _NEWEST.items()}
        return found

    def _counters(self) -> dict[str, tuple[str, float]]:
        """Name, to which `_total` is added, to help and value."""
        meta = self._meta
        found: dict[str, tuple[str, float]] = {
            "switchback_run_steps": ("Optimizer steps taken, those of abandoned attempts included.", self._taken),
            "switchback_run_nonfinite_gradients": ("Layers with a NaN or infinite gradient, by step.", self._nonfinite),
            "switchback_run_resumes": ("Continuations after a stop.", len(meta.resumes)),
            "switchback_run_recoveries": ("Returns to a checkpoint after divergence.", len(meta.recoveries)),
        }
        if meta.energy_joules is not None:
            found["switchback_run_energy_joules"] = ("Energy of the GPUs that held the model.", meta.energy_joules)
        return found

    def _measured(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

        edges = [*map(str, STEP_SECONDS), "+Inf"]
        counts = accumulate(self._durations[place] for place in range(len(edges)))
        name = "switchback_run_step_duration_seconds"
        durations = HistogramMetricFamily(name, "Duration of the steps taken.", labels=["run"])
        durations.add_metric([self._id], list(zip(edges, counts, strict=True)), self._seconds)
        yield durations
        labels, text = ["run", "split", "metric"], "Newest value of a metric, in its own unit."
        evaluation = GaugeMetricFamily("switchback_run_evaluation", text, labels=labels)
        for (split, metric), value in self._evaluated.items():
            evaluation.add_metric([self._id, split, metric], value)
        yield evaluation

    def _judged(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        labels = ["run", "gate", "subject"]
        outcome = GaugeMetricFamily("switchback_gate_outcome", "1 for the outcome.", labels=[*labels, "outcome"])
        blocks = GaugeMetricFamily("switchback_gate_blocks", "1 where the outcome stops a merge.", labels=labels)
        for (gate, subject), (found, stops) in self.verdicts.items():
            for one in Outcome:
                outcome.add_metric([self._id, gate, subject, one.value], one is found)
            blocks.add_metric([self._id, gate, subject], stops)
        yield from (outcome, blocks)


def _verdicts(record: Path, meta: RunMeta) -> dict[tuple[str, str], tuple[Outcome, bool]]:
    """What gates/verdicts.json beside the record's `runs/` says of this run; nothing where it is about another.

    Of several verdicts of one gate on one subject the worst counts, because a series has one value.
    """
    path = record.resolve().parent.parent / files.FOLDER / files.VERDICTS
    if not path.exists():
        return {}
    found = files.read(path)
    judged = found.params_digest == meta.params_digest and meta.ended and seconds(found.started) >= seconds(meta.ended)
    if found.refused or not judged:
        return {}
    verdicts: dict[tuple[str, str], tuple[Outcome, bool]] = {}
    for verdict in (*found.verdicts, *found.pending):
        name = plain(verdict.gate), plain(verdict.subject)
        outcome, blocks = verdicts.get(name, (Outcome.PASSED, False))
        verdicts[name] = worst([outcome, verdict.outcome]), blocks or verdict.blocks
    return verdicts
