"""A run record written block by block, as a recorder writes one, without torch.

Run as `python -m tests.report.track.written RECORD`, it is a training process: each line on its standard input is a
JSON list of a method and its arguments; it answers each with a line.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from ci_tools.record import schema
from ci_tools.record.files import final_digests
from ci_tools.record.lock import RecordLock
from ci_tools.record.log import ArrowLog
from ci_tools.record.schema import Layer, Recovery, Resume, RunMeta

LAYERS = ("embed.weight", "blocks.0.linear", "head.bias")
PROBE_EVERY, EVALUATE_EVERY = 10, 20
STARTED = "2026-11-21T10:00:00+00:00"
STEP_MS = 250.0


class Written:
    """Rows come from the number of their step and attempt alone; among the losses are NaN and infinities."""

    def __init__(self, folder, layers=LAYERS, splits=("validation",), metrics=("loss", "accuracy"), **about):
        self.folder, self.splits, self.metrics = Path(folder), splits, metrics
        self.lock = RecordLock(self.folder)
        self.lock.acquire()
        self.folder.mkdir(parents=True, exist_ok=True)
        names = [Layer(name=name, shape=(4, 3)) for name in layers]
        known = {"id": "0123456789ab", "params": {"lr": 0.1, "text": "<b>*bold*</b>\ud800"}, "git_commit": "c" * 40}
        known |= {"total_steps": 400, "batch_size": 32, "steps_per_epoch": 15, "started": STARTED, "data": {}}
        self.meta = RunMeta(
            schema_version=1, status="running", command=["train"], workdir="/w", seed=3, params_digest="d" * 64,
            git_dirty=False, code={}, code_digest="", fingerprint={}, layers=names, probe_every=PROBE_EVERY,
            checkpoint_every=100, **known | about,
        )  # fmt: skip
        L = len(layers)
        columns = [schema.trace_schema(L), schema.probe_schema(L), schema.EVAL_SCHEMA, schema.LOSS_SCHEMA]
        kinds = zip(schema.STREAMS, [*columns, schema.shadow_schema(L)], strict=True)
        self.logs = {name: ArrowLog(self.folder / name, kind) for name, kind in kinds}
        self.note()

    def note(self, **changes):
        """Replace run.json."""
        if "recoveries" in changes:
            changes["recoveries"] = [Recovery(**one) for one in changes["recoveries"]]
        if "resumes" in changes:
            changes["resumes"] = [Resume(**one) for one in changes["resumes"]]
        self.meta = self.meta.model_copy(update=changes)
        scratch = self.folder / ".run.json.new"
        scratch.write_text(self.meta.text(), encoding="utf-8")
        scratch.replace(self.folder / schema.META)

    def steps(self, first, last, attempt=0):
        """Append steps `first` to `last` - 1 as one block, with what the other streams say of them."""
        rows = [trace_row(step, attempt, len(self.meta.layers)) for step in range(first, last)]
        for step in range(first, last):
            if (step + 1) % EVALUATE_EVERY == 0:
                self.evaluate(step + 1, attempt)
                layers = [1e-7 * (i + 1) for i in range(len(self.meta.layers))]
                row = {"step": step + 1, "attempt": attempt, "error": layers, "sensitivity": layers[::-1]}
                self._append(schema.SHADOWS, [row])
            if (step + 1) % PROBE_EVERY == 0:
                self._append(schema.PROBES, [probe_row(step, attempt, len(self.meta.layers))])
        self._append(schema.TRACE, rows)
        self.note(steps=last)

    def evaluate(self, completed, attempt=0):
        """Append one value of each metric of each split."""
        for split in self.splits:
            for metric in self.metrics:
                value = float(np.random.default_rng([completed, attempt, len(metric)]).normal())
                row = {"step": completed, "attempt": attempt, "split": split, "metric": metric, "value": value}
                self._append(schema.EVALS, [row])

    def end(self, status="finished", ended="2026-11-21T10:05:00+00:00", **changes):
        """Close the record."""
        for log in self.logs.values():
            log.close(finished=status == "finished")
        if status == "finished":
            (self.folder / schema.METRICS).write_text("{}", encoding="utf-8")
            changes["files"] = final_digests(self.folder)
        self.note(status=status, ended=ended, **changes)
        self.lock.release()

    def _append(self, name, rows):
        log = self.logs[name]
        log.append({field.name: pa.array([row[field.name] for row in rows], type=field.type) for field in log.schema})


def trace_row(step, attempt, layers):
    rng = np.random.default_rng([step, attempt])
    loss = {7: np.nan, 8: np.inf, 9: -np.inf}.get(step, float(rng.normal()))
    head = {"step": step, "epoch": step // 15, "samples_seen": (step + 1) * 32, "batch_digest": step}
    head |= {"attempt": attempt, "loss": loss, "lr": 0.1 / (step + 1), "grad_norm": float(rng.normal() ** 2)}
    head |= {"clip_coefficient": 1.0, "nonfinite": int(step % 50 == 9), "step_ms": STEP_MS, "data_ms": 1.0}
    rms = rng.normal(size=layers).astype(np.float32) ** 2
    return head | {"grad_rms": rms, "grad_absmax": np.full(layers, 20.0 + step, np.float32)}


def probe_row(step, attempt, layers):
    rng = np.random.default_rng([step, attempt, 1])
    ratios = {name: rng.normal(size=layers).astype(np.float32) for name in ("update_ratio", "dead_share")}
    cosines = dict.fromkeys(("cosine_previous", "half_cosine"), np.full(layers, np.nan, np.float32))
    noise = {"noise_scale": np.inf, "gradient_square": -1.5, "gradient_variance": 2.5}
    counts = rng.integers(0, 5, (layers, schema.HISTOGRAM_BINS)).tolist()
    return {"step": step, "attempt": attempt, "histogram": counts, **ratios, **cosines, **noise}


def finished(folder, steps=60, **about):
    """A whole finished record; returns its folder."""
    run = Written(folder, total_steps=steps, **about)
    for first in range(0, steps, 16):
        run.steps(first, min(first + 16, steps))
    run.end()
    return run.folder


if __name__ == "__main__":
    run = Written(sys.argv[1])
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        getattr(run, method)(*arguments)
        sys.stdout.write("done\n")
        sys.stdout.flush()
