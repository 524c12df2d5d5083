"""Names, columns and versions of a run record. docs/record.md tells the same story in prose.

L = watched layers (parameter tensors that require a gradient), in registration order.
"""

import json
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from ci_tools.errors import RecordError

SCHEMA_VERSION = 1
"""Raised when an old reader could misread a new record."""

META, TRACE, PROBES, EVALS = "run.json", "trace.arrows", "probes.arrows", "evals.arrows"
LOSSES, SHADOWS, MARGINS = "losses.arrows", "shadows.arrows", "margins.parquet"
SCORES, METRICS, CHECKPOINTS = "scores.parquet", "metrics.json", "checkpoints"
CURVES_CSV, EVALS_CSV = "curves.csv", "evals.csv"
STREAMS = (TRACE, PROBES, EVALS, LOSSES, SHADOWS)
EVIDENCE = (*STREAMS, MARGINS, SCORES, METRICS)
"""Files whose SHA-256 stands in the run.json of a finished run, next to those of the checkpoints' manifests."""

HISTOGRAM_BINS = 32
HISTOGRAM_LOWEST_EXPONENT = -28
"""Bin 0 holds |g| < 2**-27 and zeros; bin k holds [2**(k-28), 2**(k-27)); bin 31 everything above and non-finite."""

EXAMPLES_KEPT = 4096
"""Most examples of a split whose losses are kept at each evaluation, spread evenly over it."""

UNIT_ROUNDOFF = {"float32": 2.0**-24, "bf16": 2.0**-9, "fp16": 2.0**-11}
"""By precision: the largest relative error of rounding one number."""

TIMING_COLUMNS = ("step_ms", "data_ms")
"""Columns that two identical runs may differ in."""


class Layer(BaseModel):
    """One watched parameter tensor."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str
    shape: tuple[int, ...]


class Resume(BaseModel):
    """One continuation after a crash, a signal or a preemption."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    at: str
    from_step: int
    stack_changes: list[str] = []


class Recovery(BaseModel):
    """One return to a good checkpoint after divergence."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    onset_step: int
    from_step: int
    reason: str


class RunMeta(BaseModel):
    """run.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int
    id: str
    status: Literal["running", "finished", "failed", "crashed", "preempted", "replayed"]
    reason: str = ""
    command: list[str]
    workdir: str
    seed: int
    params: dict[str, Any]
    params_digest: str
    git_commit: str
    git_dirty: bool
    code: dict[str, str]
    code_digest: str
    data: dict[str, str]
    fingerprint: dict[str, str]
    layers: list[Layer] = []
    initial_weights: dict[str, str] = {}
    total_steps: int = 0
    steps: int = 0
    batch_size: int = 0
    steps_per_epoch: int = 0
    probe_every: int
    checkpoint_every: int
    precision: str = "float32"
    null_loss: float | None = None
    best_step: int = 0
    best_metric: str = ""
    started: str
    ended: str = ""
    train_seconds: float = 0.0
    energy_joules: float | None = None
    resumes: list[Resume] = []
    recoveries: list[Recovery] = []
    warnings: list[str] = []
    files: dict[str, str] = {}

    @property
    def resumable(self) -> bool:
        """Whether the same command takes the run up again instead of starting over."""
        return self.status in ("running", "crashed", "preempted")

    def text(self) -> str:
        """The file's content; law: parse_meta(meta.text()) == meta."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


_START_OVER = "delete the record, then train again"


def parse_meta(text: str, where: Path) -> RunMeta:
    """Read run.json.

    Raises:
        RecordError: not JSON, another schema version, or a field missing or of the wrong type.
    """
    try:
        raw = json.loads(text)
        version = raw["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise RecordError("run.json is not a run description", where=where, fix=_START_OVER) from None
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"record has schema version {version}",
            where=where,
            rule=f"this Switchback reads version {SCHEMA_VERSION}",
            fix="upgrade Switchback" if isinstance(version, int) and version > SCHEMA_VERSION else "train again",
        )
    try:
        return RunMeta.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise RecordError(f"run.json: {key}: {first['msg'].lower()}", where=where, fix=_START_OVER) from None


def trace_schema(layers: int) -> pa.Schema:
    """One row per optimizer step."""
    per_layer = pa.list_(pa.float32(), layers)
    return pa.schema(
        [
            ("step", pa.int64()),
            ("epoch", pa.int32()),
            ("samples_seen", pa.int64()),
            ("batch_digest", pa.uint64()),
            ("attempt", pa.int32()),
            ("loss", pa.float32()),
            ("lr", pa.float64()),
            ("grad_norm", pa.float32()),
            ("clip_coefficient", pa.float32()),
            ("nonfinite", pa.int32()),
            ("step_ms", pa.float32()),
            ("data_ms", pa.float32()),
            ("grad_rms", per_layer),
            ("grad_absmax", per_layer),
        ]
    )


def probe_schema(layers: int) -> pa.Schema:
    """One row per probe."""
    per_layer = pa.list_(pa.float32(), layers)
    return pa.schema(
        [
            ("step", pa.int64()),
            ("attempt", pa.int32()),
            ("histogram", pa.list_(pa.list_(pa.int32(), HISTOGRAM_BINS), layers)),
            ("update_ratio", per_layer),
            ("dead_share", per_layer),
            ("cosine_previous", per_layer),
            ("half_cosine", per_layer),
            ("noise_scale", pa.float64()),
            ("gradient_square", pa.float64()),
            ("gradient_variance", pa.float64()),
        ]
    )


EVAL_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("attempt", pa.int32()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)

LOSS_SCHEMA = pa.schema(
    [("step", pa.int64()), ("attempt", pa.int32()), ("split", pa.string()), ("loss", pa.list_(pa.float32()))]
)


def shadow_schema(layers: int) -> pa.Schema:
    """One row per shadow step."""
    per_layer = pa.list_(pa.float32(), layers)
    return pa.schema([("step", pa.int64()), ("attempt", pa.int32()), ("error", per_layer), ("sensitivity", per_layer)])


MARGIN_SCHEMA = pa.schema([("sample", pa.int64()), ("margin", pa.float32()), ("count", pa.int32())])
