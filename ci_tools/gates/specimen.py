"""A healthy run made from formulas, for `switchback gate --self-test`: it needs neither torch nor a finished pipeline.

Law: no gate of a failure mode fails on `healthy`.

S = steps, L = layers, P = probes, E = evaluations, V = validation examples, N = training examples, H = shadow steps.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ci_tools.gates.calibration import Reference
from ci_tools.gates.convergence import reference_of
from ci_tools.gates.splits import Rows, Splits
from ci_tools.gates.training import F64, Series, Training
from ci_tools.record import open_record, schema
from ci_tools.record.files import final_digests
from ci_tools.record.log import ArrowLog
from ci_tools.record.schema import Layer, RunMeta
from ci_tools.repro import manifest

STEPS, EPOCH, BATCH, PROBE_EVERY, EVALUATE_EVERY, SHADOW_EVERY, CHECKPOINT_EVERY = 200, 25, 32, 10, 20, 40, 100
SHAPES = ((16, 8), (16,), (16, 16), (16,), (16, 16), (16,), (16, 16), (16,), (2, 16), (2,))
LAYERS = tuple(f"{i // 2}.{'bias' if i % 2 else 'weight'}" for i in range(len(SHAPES)))
NULL = 0.693
"""Null loss of two equally frequent classes, in nats."""
EXAMPLES, VALIDATION, TEST = EPOCH * BATCH, 400, 300


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that the gates of the ten modes look at."""

    training: Training
    reference: Reference | None
    label_N: NDArray[Any] | None
    """Class of each training example."""
    splits: Splits
    record: Path

    def subjects(self, name: str) -> tuple[Any, ...]:
        """What the gate of this name is called with."""
        match name:
            case "slow_convergence":
                return self.training, self.reference
            case "label_noise":
                return self.training, self.label_N
            case "data_leakage":
                return (self.splits,)
            case "checkpoint_corruption":
                return (open_record(self.record),)
        return (self.training,)


def healthy(folder: Path) -> Case:
    """The specimen, its record being written to `folder`."""
    training = clean()
    write_record(training, folder)
    return Case(
        training=training,
        reference=reference_of([clean(seed) for seed in range(1, 6)]),
        label_N=np.arange(EXAMPLES) % 2,
        splits=splits(),
        record=folder,
    )


def fall(steps: int = STEPS, floor: float = 0.2, rate: float = 8.0) -> F64:
    """Loss without its noise, [S]: exponential from the null loss to `floor` of it."""
    loss_S: F64 = NULL * (floor + (1 - floor) * np.exp(-rate * np.arange(steps) / steps))
    return loss_S


def clean(seed: int = 0, steps: int = STEPS) -> Training:
    """A healthy run of a five-layer classifier, varied by seed."""
    rng = np.random.default_rng(seed)
    layers, step_S = len(SHAPES), np.arange(steps)
    loss_S = fall(steps) * np.exp(rng.normal(0, 0.06, steps))
    scale_L = np.exp(rng.normal(0, 0.3, layers)) * 1e-2
    rms_SL = scale_L * np.sqrt(loss_S / NULL)[:, None] * np.exp(rng.normal(0, 0.2, (steps, layers)))
    sizes_L = np.array([np.prod(shape) for shape in SHAPES])
    probe_P = np.arange(PROBE_EVERY - 1, steps, PROBE_EVERY)
    evaluated_E = np.arange(EVALUATE_EVERY, steps + 1, EVALUATE_EVERY)
    shadow_H = np.arange(SHADOW_EVERY, steps + 1, SHADOW_EVERY)
    hardness_V = np.exp(rng.normal(0, 0.7, VALIDATION))
    example_loss_EV = np.outer(fall(steps)[evaluated_E - 1] * 1.1, hardness_V)
    example_loss_EV *= np.exp(rng.normal(0, 0.1, example_loss_EV.shape))
    square_P = np.square(rms_SL[probe_P]) @ sizes_L
    sensitivity_HL = 2.0**-24 * np.exp(rng.normal(1, 0.3, (len(shadow_H), layers)))
    return Training(
        name=f"seed-{seed}",
        status="finished",
        reason="",
        layers=LAYERS,
        shapes=SHAPES,
        batch_size=BATCH,
        total_steps=steps,
        steps_per_epoch=EPOCH,
        checkpoint_every=CHECKPOINT_EVERY,
        probe_every=PROBE_EVERY,
        precision="float32",
        null_loss=NULL,
        recoveries=(),
        step_S=step_S,
        samples_S=(step_S + 1) * BATCH,
        loss_S=loss_S,
        lr_S=np.full(steps, 0.05),
        grad_norm_S=np.sqrt(np.square(rms_SL) @ sizes_L),
        clip_S=np.ones(steps),
        nonfinite_S=np.zeros(steps, dtype=np.int64),
        step_ms_S=2 * np.exp(rng.normal(0, 0.1, steps)),
        data_ms_S=0.1 * np.exp(rng.normal(0, 0.1, steps)),
        grad_rms_SL=rms_SL,
        grad_absmax_SL=4 * rms_SL,
        probe_step_P=probe_P,
        histogram_PLB=np.zeros((len(probe_P), layers, schema.HISTOGRAM_BINS), dtype=np.int64),
        update_ratio_PL=1e-3 * np.exp(rng.normal(0, 0.5, (len(probe_P), layers))),
        dead_share_PL=np.zeros((len(probe_P), layers)),
        cosine_previous_PL=rng.uniform(-0.2, 0.2, (len(probe_P), layers)),
        half_cosine_PL=rng.uniform(0.1, 0.6, (len(probe_P), layers)),
        noise_scale_P=np.full(len(probe_P), float(BATCH)),
        gradient_square_P=square_P * np.exp(rng.normal(0, 0.2, len(probe_P))),
        gradient_variance_P=square_P * BATCH * np.exp(rng.normal(0, 0.2, len(probe_P))),
        evals={("validation", "loss"): Series(step_E=evaluated_E, value_E=example_loss_EV.mean(axis=1))},
        example_step_E=evaluated_E,
        example_loss_EV=example_loss_EV,
        margin_N=rng.normal(3, 1, EXAMPLES),
        shadow_step_H=shadow_H,
        shadow_error_HL=sensitivity_HL * np.exp(rng.normal(0, 0.3, sensitivity_HL.shape)),
        shadow_sensitivity_HL=sensitivity_HL,
    )


def splits(seed: int = 0) -> Splits:
    """Independent rows, one per entity and moment, with a label that no single column tells."""
    rng = np.random.default_rng(seed)
    rows = np.arange(EXAMPLES + TEST)
    numeric_NF, categorical_NC = rng.normal(size=(len(rows), 8)), rng.integers(5, size=(len(rows), 2))
    label_N = (numeric_NF.sum(axis=1) + rng.normal(size=len(rows)) > 0).astype(np.float64)
    train, test = (
        Rows(
            numeric_NF=numeric_NF[side],
            label_N=label_N[side],
            categorical_NC=categorical_NC[side],
            time_N=rows[side],
            entity_N=rows[side],
        )
        for side in (slice(None, EXAMPLES), slice(EXAMPLES, None))
    )
    return Splits(train=train, test=test)


def write_record(training: Training, folder: Path) -> None:
    """A finished record of the run with its checkpoints, as a recorder leaves it."""
    folder.mkdir()
    log = ArrowLog(folder / schema.TRACE, schema.trace_schema(len(training.layers)))
    log.append(_trace_columns(training))
    log.close(finished=True)
    (folder / schema.METRICS).write_text("{}", encoding="utf-8")
    for step in range(CHECKPOINT_EVERY, STEPS + 1, CHECKPOINT_EVERY):
        checkpoint = checkpoint_of(folder, step)
        checkpoint.mkdir(parents=True)
        write_weights(checkpoint, seed=step)
        sign(checkpoint)
    seal(folder)


def checkpoint_of(folder: Path, step: int = STEPS) -> Path:
    """Where a record keeps the checkpoint of a step."""
    return folder / schema.CHECKPOINTS / manifest.checkpoint_name(step)


def write_weights(checkpoint: Path, seed: int, scale: float = 1.0) -> None:
    """What a checkpoint holds besides its manifest."""
    rng = np.random.default_rng(seed)
    weights = {
        name: (scale * rng.normal(size=shape)).astype(np.float32) for name, shape in zip(LAYERS, SHAPES, strict=True)
    }
    for name in manifest.TENSOR_FILES:
        save_file(weights, checkpoint / name)
    (checkpoint / "state.json").write_text("{}", encoding="utf-8")


def sign(checkpoint: Path, rows: int | None = None, best_step: int = 0) -> None:
    """Write the manifest of what a checkpoint holds now; `rows` of the trace are before it, by default its step."""
    content = {
        "trace_rows": manifest.checkpoint_step(checkpoint) if rows is None else rows,
        "best_step": best_step,
        "files": {name: manifest.file_digest(checkpoint / name) for name in manifest.FILES},
        "tensors": {name: manifest.tensor_digests(checkpoint / name) for name in manifest.TENSOR_FILES},
    }
    (checkpoint / manifest.MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def seal(folder: Path) -> None:
    """Write the run.json of a finished run, with the digests of what the record holds now."""
    meta = RunMeta(
        schema_version=schema.SCHEMA_VERSION,
        id="specimen",
        status="finished",
        command=["switchback", "gate", "--self-test"],
        workdir=".",
        seed=0,
        params={},
        params_digest="",
        git_commit="",
        git_dirty=False,
        code={},
        code_digest="",
        data={},
        fingerprint={},
        layers=[Layer(name=name, shape=shape) for name, shape in zip(LAYERS, SHAPES, strict=True)],
        total_steps=STEPS,
        steps=STEPS,
        batch_size=BATCH,
        steps_per_epoch=EPOCH,
        probe_every=PROBE_EVERY,
        checkpoint_every=CHECKPOINT_EVERY,
        started="",
        files=final_digests(folder),
    )
    (folder / schema.META).write_text(meta.text(), encoding="utf-8")


def _trace_columns(training: Training) -> dict[str, pa.Array]:
    steps = len(training.step_S)
    values = {
        "step": training.step_S,
        "epoch": training.step_S // EPOCH,
        "samples_seen": training.samples_S,
        "batch_digest": np.arange(steps),
        "attempt": np.zeros(steps),
        "loss": training.loss_S,
        "lr": training.lr_S,
        "grad_norm": training.grad_norm_S,
        "clip_coefficient": training.clip_S,
        "nonfinite": training.nonfinite_S,
        "step_ms": training.step_ms_S,
        "data_ms": training.data_ms_S,
        "grad_rms": training.grad_rms_SL,
        "grad_absmax": training.grad_absmax_SL,
    }
    columns = {}
    for field in schema.trace_schema(len(training.layers)):
        value, kind = values[field.name], field.type
        if pa.types.is_fixed_size_list(kind):
            flat = pa.array(value.astype(np.float32).reshape(-1))
            columns[field.name] = pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
        else:
            columns[field.name] = pa.array(value.astype(kind.to_pandas_dtype()), type=kind)
    return columns
