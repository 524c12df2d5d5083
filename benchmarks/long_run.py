"""Finished run records of any length, made from formulas: what the report must stand, without days of training.

S = steps, L = layers, P = probes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ci_tools.record import schema
from ci_tools.record.files import final_digests
from ci_tools.record.log import ArrowLog
from ci_tools.record.schema import Layer, RunMeta

BLOCK = 128
"""Rows per block of a stream, as the recorder writes them."""
METRICS = ("average_precision", "roc_auc", "log_loss")


def write(root: Path, *, steps: int, layers: int, seeds: Sequence[int], names: Sequence[str] = ()) -> None:
    """A finished pipeline under `root`: a record per seed, and what evaluation leaves.

    Args:
        root: folder to fill.
        steps: per run.
        layers: weight matrices and biases by turns.
        seeds: one record each.
        names: of the layers, where they matter.
    """
    for seed in seeds:
        record(root / "runs" / f"seed-{seed}", steps=steps, layers=layers, seed=seed, names=names)
    evaluation(root / "evaluation", seeds)


def record(folder: Path, *, steps: int, layers: int, seed: int = 1, names: Sequence[str] = (), **meta: Any) -> None:
    """One record; `meta` replaces values of run.json."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    every = max(steps // 200, 1)
    probe_P = np.arange(every - 1, steps, every)
    shapes = [(64, 64) if i % 2 == 0 else (64,) for i in range(layers)]
    named = names or [f"blocks.{i // 2}.{'weight' if i % 2 == 0 else 'bias'}" for i in range(layers)]
    _stream(folder / schema.TRACE, schema.trace_schema(layers), _trace(rng, steps, layers))
    _stream(folder / schema.PROBES, schema.probe_schema(layers), _probes(rng, probe_P, shapes))
    evaluated = np.linspace(steps / 20, steps, 20).astype(int)
    rows = [
        {"step": int(step), "attempt": 0, "split": "validation", "metric": metric, "value": float(1 - 2 / (2 + step))}
        for step in evaluated
        for metric in METRICS
    ]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    _stream(folder / schema.EVALS, schema.EVAL_SCHEMA, columns)
    (folder / schema.METRICS).write_text(json.dumps(dict.fromkeys(METRICS, 0.9)), encoding="utf-8")
    values: dict[str, Any] = {
        "schema_version": schema.SCHEMA_VERSION, "id": f"made-{seed}", "status": "finished", "command": ["made"],
        "workdir": ".", "seed": seed, "params": {"train": {"lr": 1e-3}}, "params_digest": "0" * 64, "git_commit": "",
        "git_dirty": False, "code": {}, "code_digest": "", "data": {"data/train.npz": "1" * 64},
        "fingerprint": {"python": "3.11", "gpu": "none", "cpu": "made"}, "total_steps": steps, "steps": steps,
        "layers": [Layer(name=name, shape=shape) for name, shape in zip(named, shapes, strict=True)],
        "batch_size": 32, "steps_per_epoch": max(steps // 10, 1), "probe_every": every, "checkpoint_every": steps,
        "null_loss": 0.7, "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T01:00:00+00:00",
        "train_seconds": 0.01 * steps, "files": final_digests(folder),
    }  # fmt: skip
    (folder / schema.META).write_text(RunMeta(**(values | meta)).text(), encoding="utf-8")


def evaluation(folder: Path, seeds: Sequence[int]) -> None:
    """metrics.json, slices.json and calibration.csv, as the reference pipeline writes them."""
    folder.mkdir(parents=True)
    release = {"average_precision": 0.8, "roc_auc": 0.95, "log_loss": 0.2}
    spread = {name: {"mean": v, "sd": 0.01, "min": v - 0.01, "max": v + 0.01} for name, v in release.items()}
    metrics = {"release": release, "seeds": spread, "gradient_boosting": release}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    entry = {"n": 1000, "positives": 30, "release": release, "seeds": {str(seed): release for seed in seeds}}
    rare = {"n": 7, "positives": 0, "release": None, "seeds": None}
    (folder / "slices.json").write_text(json.dumps({"channel": {"chip": entry, "swipe": rare}}), encoding="utf-8")
    lines = ["predicted,observed,n", *(f"{p},{p * 0.9},400" for p in (0.001, 0.01, 0.1, 0.5)), "0.0005,0,400"]
    (folder / "calibration.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _trace(rng: np.random.Generator, steps: int, layers: int) -> dict[str, np.ndarray]:
    step_S = np.arange(steps)
    loss_S = 0.2 + 0.5 * np.exp(-8 * step_S / steps) * np.exp(rng.normal(0, 0.1, steps))
    scale_L = 10.0 ** rng.uniform(-5, -2, layers)
    rms_SL = (scale_L * loss_S[:, None] * np.exp(rng.normal(0, 0.3, (steps, layers)))).astype(np.float32)
    return {
        "step": step_S,
        "epoch": step_S // max(steps // 10, 1),
        "samples_seen": (step_S + 1) * 32,
        "batch_digest": step_S,
        "attempt": np.zeros(steps),
        "loss": loss_S,
        "lr": 1e-3 * (1 + np.cos(np.pi * step_S / steps)) / 2 + 1e-6,
        "grad_norm": np.linalg.norm(rms_SL * 64, axis=1),
        "clip_coefficient": np.ones(steps),
        "nonfinite": np.zeros(steps),
        "step_ms": 10 * np.exp(rng.normal(0, 0.1, steps)),
        "data_ms": np.full(steps, 0.5),
        "grad_rms": rms_SL,
        "grad_absmax": 4 * rms_SL,
    }


def _probes(rng: np.random.Generator, step_P: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> dict[str, np.ndarray]:
    probes, layers = len(step_P), len(shapes)
    middle_PL = rng.normal(14, 3, (probes, layers, 1))
    share_PLK = np.exp(-((np.arange(schema.HISTOGRAM_BINS) - middle_PL) ** 2) / 8)
    size_L1 = np.array([int(np.prod(shape)) for shape in shapes])[:, None]
    per_layer = np.exp(rng.normal(0, 0.5, (probes, layers)))
    return {
        "step": step_P,
        "attempt": np.zeros(probes),
        "histogram": size_L1 * share_PLK / share_PLK.sum(axis=2, keepdims=True),
        "update_ratio": 1e-3 * per_layer,
        "dead_share": np.zeros((probes, layers)),
        "cosine_previous": 0.1 * per_layer,
        "half_cosine": 0.5 * per_layer,
        "noise_scale": np.full(probes, 32.0),
        "gradient_square": np.full(probes, 1.0),
        "gradient_variance": np.full(probes, 32.0),
    }


def _stream(path: Path, columns: pa.Schema, values: Mapping[str, np.ndarray]) -> None:
    log = ArrowLog(path, columns)
    for start in range(0, len(next(iter(values.values()))), BLOCK):
        block = {field.name: _column(values[field.name][start : start + BLOCK], field.type) for field in columns}
        log.append(block)
    log.close(finished=True)


def _column(value: np.ndarray, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(value.tolist() if pa.types.is_string(kind) else value.astype(kind.to_pandas_dtype()), type=kind)
    return pa.FixedSizeListArray.from_arrays(
        _column(value.reshape(-1, *value.shape[2:]), kind.value_type), kind.list_size
    )
