"""One training run as arrays: all that the gates over gradients and losses look at.

S = optimizer steps, L = layers, P = probes, B = histogram bins, E = evaluations, V = validation examples kept,
N = training examples, H = shadow steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ci_tools.errors import RecordError
from ci_tools.record.reader import Record
from ci_tools.record.schema import HISTOGRAM_BINS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

VALIDATION = "validation"
"""Split whose losses per example are looked at."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One metric of one split over training."""

    step_E: I64
    """Steps completed at each evaluation."""
    value_E: F64


@dataclass(frozen=True, kw_only=True)
class Training:
    """A run's trajectory to its final weights; rows that a return to a checkpoint abandoned are in `abandoned`."""

    name: str
    status: str
    reason: str
    layers: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    batch_size: int
    """Samples per step, over all processes."""
    total_steps: int
    """Steps planned."""
    steps_per_epoch: int
    checkpoint_every: int
    probe_every: int
    precision: str
    """float32, bf16 or fp16."""
    null_loss: float
    """Loss of the best constant answer; NaN where the loop did not tell."""
    recoveries: tuple[int, ...]
    """Onset step of each return to a checkpoint."""

    step_S: I64
    samples_S: I64
    loss_S: F64
    lr_S: F64
    grad_norm_S: F64
    clip_S: F64
    """Factor that clipping put on the gradients."""
    nonfinite_S: I64
    """Layers with a NaN or infinite gradient."""
    step_ms_S: F64
    data_ms_S: F64
    grad_rms_SL: F64
    grad_absmax_SL: F64

    probe_step_P: I64
    histogram_PLB: I64
    update_ratio_PL: F64
    dead_share_PL: F64
    cosine_previous_PL: F64
    half_cosine_PL: F64
    noise_scale_P: F64
    """B_simple in samples; NaN where the loop did not split its batch."""
    gradient_square_P: F64
    gradient_variance_P: F64

    evals: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    """By (split, metric)."""
    example_step_E: I64
    example_loss_EV: F64
    """Loss per example of the split `validation` at each evaluation; [0, 0] where the loop did not keep them."""
    margin_N: F64
    """Mean margin of each training example over the run; empty where the loop did not keep them."""
    shadow_step_H: I64
    shadow_error_HL: F64
    """Relative difference of the gradient to the same gradient in float64."""
    shadow_sensitivity_HL: F64
    """Relative change of the float64 gradient when each weight moves by one rounding error."""

    def matrices(self) -> list[int]:
        """Indices of the layers with at least two axes, in registration order."""
        return [i for i, shape in enumerate(self.shapes) if len(shape) > 1]

    def series(self, split: str, *metrics: str) -> Series | None:
        """The first of `metrics` that was evaluated on `split`."""
        return next((self.evals[split, name] for name in metrics if (split, name) in self.evals), None)


def read(record: Record) -> Training:
    """The arrays of a record; also of one that did not finish.

    Raises:
        RecordError: a part is missing or damaged, or the evaluations of validation kept different examples.
    """
    meta, trace, probes = record.meta, record.final_trace(), latest_attempt(record.probes)
    layers = len(meta.layers)

    def lists(table: pa.Table, name: str) -> F64:
        return _flat(table, name).reshape(table.num_rows, layers)

    losses = latest_attempt(record.losses.filter(pc.field("split") == VALIDATION))
    margins, shadows = record.margins, latest_attempt(record.shadows)
    return Training(
        name=record.path.name,
        status=meta.status,
        reason=meta.reason,
        layers=tuple(layer.name for layer in meta.layers),
        shapes=tuple(layer.shape for layer in meta.layers),
        batch_size=meta.batch_size,
        total_steps=meta.total_steps,
        steps_per_epoch=meta.steps_per_epoch,
        checkpoint_every=meta.checkpoint_every,
        probe_every=meta.probe_every,
        precision=meta.precision,
        null_loss=float("nan") if meta.null_loss is None else meta.null_loss,
        recoveries=tuple(recovery.onset_step for recovery in meta.recoveries),
        step_S=_ints(trace, "step"),
        samples_S=_ints(trace, "samples_seen"),
        loss_S=_floats(trace, "loss"),
        lr_S=_floats(trace, "lr"),
        grad_norm_S=_floats(trace, "grad_norm"),
        clip_S=_floats(trace, "clip_coefficient"),
        nonfinite_S=_ints(trace, "nonfinite"),
        step_ms_S=_floats(trace, "step_ms"),
        data_ms_S=_floats(trace, "data_ms"),
        grad_rms_SL=lists(trace, "grad_rms"),
        grad_absmax_SL=lists(trace, "grad_absmax"),
        probe_step_P=_ints(probes, "step"),
        histogram_PLB=_flat(probes, "histogram").reshape(probes.num_rows, layers, HISTOGRAM_BINS).astype(np.int64),
        update_ratio_PL=lists(probes, "update_ratio"),
        dead_share_PL=lists(probes, "dead_share"),
        cosine_previous_PL=lists(probes, "cosine_previous"),
        half_cosine_PL=lists(probes, "half_cosine"),
        noise_scale_P=_floats(probes, "noise_scale"),
        gradient_square_P=_floats(probes, "gradient_square"),
        gradient_variance_P=_floats(probes, "gradient_variance"),
        evals=_evals(latest_attempt(record.evals)),
        example_step_E=_ints(losses, "step"),
        example_loss_EV=_rows_of_equal_length(losses, record),
        margin_N=_floats(margins, "margin"),
        shadow_step_H=_ints(shadows, "step"),
        shadow_error_HL=lists(shadows, "error"),
        shadow_sensitivity_HL=lists(shadows, "sensitivity"),
    )


def _floats(table: pa.Table, name: str) -> F64:
    values: F64 = table.column(name).to_numpy().astype(np.float64)
    return values


def _ints(table: pa.Table, name: str) -> I64:
    values: I64 = table.column(name).to_numpy().astype(np.int64)
    return values


def _flat(table: pa.Table, name: str) -> F64:
    """All numbers of a column of lists, row after row."""
    column = table.column(name).combine_chunks()
    while pa.types.is_nested(column.type):
        column = column.flatten()
    values: F64 = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _rows_of_equal_length(losses: pa.Table, record: Record) -> F64:
    lengths = pc.list_value_length(losses.column("loss")).to_pylist()
    if len(set(lengths)) > 1:
        raise RecordError(
            f"losses.arrows holds {min(lengths)} losses in one evaluation and {max(lengths)} in another",
            where=record.path,
            rule="`run.evaluated(split, …, losses=…)` gets the same examples every time",
        )
    return _flat(losses, "loss").reshape(len(lengths), -1) if lengths else np.zeros((0, 0))


def latest_attempt(table: pa.Table) -> pa.Table:
    """Without rows that a return to a checkpoint abandoned: of each step, those of its last attempt."""
    step, attempt = (table.column(name).to_numpy() for name in ("step", "attempt"))
    if not len(step) or attempt[-1] == 0:
        return table
    later = np.array([np.any(step[i + 1 :][attempt[i + 1 :] > attempt[i]] <= step[i]) for i in range(len(step))])
    return table.filter(pa.array(~later))


def _evals(table: pa.Table) -> dict[tuple[str, str], Series]:
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in table.to_pylist():
        found.setdefault((row["split"], row["metric"]), []).append((row["step"], row["value"]))
    return {
        key: Series(step_E=np.array([s for s, _ in pairs]), value_E=np.array([v for _, v in pairs]))
        for key, pairs in found.items()
    }
