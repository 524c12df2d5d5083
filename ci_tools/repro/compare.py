"""First divergence: walk two run records down a ladder and stop at the first rung that differs."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ci_tools.config import leaves
from ci_tools.record import schema
from ci_tools.record.reader import Record, open_record
from ci_tools.record.schema import RunMeta
from ci_tools.repro import manifest
from ci_tools.repro.fingerprint import differences

RUNGS = (
    "params", "code", "data", "fingerprint", "initial weights",
    "batch", "loss", "gradient", "update", "probe", "evaluation", "length",
)  # fmt: skip
"""From cause to effect: a difference on one rung explains those below it."""

LIKELY = {
    "params": "the experiments are not the same",
    "code": "a source file changed between the runs",
    "data": "the data stage made other rows",
    "fingerprint": "another stack or machine; bits may differ there, so compare by paired seeds",
    "initial weights": "the network was built or seeded differently",
    "batch": "the data order depends on something other than (seed, epoch, sample id)",
    "loss": "batch and earlier steps are equal, so look at the forward pass: dropout or other random draws, "
    "a non-deterministic kernel",
    "gradient": "batch and loss are equal, so look at that layer's backward kernel",
    "update": "batch, loss and gradients are equal, so look at the optimizer: learning rate, clipping, its state",
    "probe": "trace and weights are equal, so look at what the probe measures besides them",
    "evaluation": "training is equal up to there, so look at how it is evaluated: its rows, its mode, its kernels",
    "length": "one run stopped earlier: early stopping, a recovery or an interruption",
}
"""What a first difference on a rung most probably comes from."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `rung` is empty when the runs are identical."""

    a: str
    b: str
    steps: int
    """Steps that are equal bit by bit, from the first on."""
    rung: str = ""
    step: int | None = None
    layer: str = ""
    detail: str = ""
    table: list[dict[str, Any]] = field(default_factory=list)
    """Figures around the first differing step."""

    @property
    def identical(self) -> bool:
        """Whether nothing differs on any rung."""
        return not self.rung

    def sentence(self) -> str:
        """The finding in one sentence."""
        if self.identical:
            return f"identical: {self.steps} steps, the evaluations and the final weights agree bit by bit"
        if self.step is None:
            after = f"; the traces agree for {self.steps} steps all the same" if self.steps else ""
            return f"first difference: {self.rung}: {self.detail} ({LIKELY[self.rung]}){after}"
        where = f"{self.rung} of {self.layer}" if self.layer else self.rung
        until = f"identical until step {self.step}" if self.step else "different from the first step on"
        return f"{until}; first difference: {where}, {self.detail}; {LIKELY[self.rung]}"

    def render(self) -> str:
        """Sentence and table, as plain text."""
        lines = [self.sentence()]
        if self.table:
            head = list(self.table[0])
            cells = [head, *([_cell(row[name]) for name in head] for row in self.table)]
            widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
            lines += ["", *("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {**asdict(self), "identical": self.identical, "sentence": self.sentence()}


def compare(a: str | Path, b: str | Path) -> Comparison:
    """Compare two record folders.

    Raises:
        RecordError: one of them is not a readable record, or a file is not what its finished run left.
        CheckpointError: a checkpoint is damaged.
    """
    one, two = open_record(a), open_record(b)
    one.verify()
    two.verify()
    first = _first_difference(one.trace, two.trace)
    rows = min(one.trace.num_rows, two.trace.num_rows)
    base = Comparison(str(a), str(b), steps=first.row if first else rows)
    static = static_difference(one.meta, two.meta)
    if static is not None:
        return replace(base, rung=static[0], detail=static[1])
    changed = _first_changed_checkpoint(one, two, base.steps)
    if changed is not None:
        return _update(base, one, two, changed)
    measured = _first_measurement(one, two)
    if measured is not None and (first is None or measured.after <= _step(one, first.row)):
        return replace(base, rung=measured.rung, step=measured.after, detail=measured.detail)
    if first is None:
        return _compare_ends(base, one, two)
    layer, detail = _describe(one, two, first)
    return replace(
        base,
        rung=first.rung,
        step=_step(one, first.row),
        layer=layer,
        detail=detail,
        table=_table(one, two, first.row),
    )


def _compare_ends(base: Comparison, one: Record, two: Record) -> Comparison:
    """What is left when no row that both have differs."""
    if one.trace.num_rows != two.trace.num_rows:
        return replace(base, rung="length", detail=f"{one.trace.num_rows} against {two.trace.num_rows} rows")
    for rung, a, b in (("probe", one.probes, two.probes), ("evaluation", one.evals, two.evals)):
        if a.num_rows != b.num_rows:
            return replace(base, rung=rung, detail=f"{a.num_rows} against {b.num_rows} rows")
    if one.meta.status == two.meta.status == "finished":
        found = _changed(*({name: repr(v) for name, v in record.metrics.items()} for record in (one, two)))
        if found:
            return replace(base, rung="evaluation", detail=f"final {found[0]}")
        for name in (schema.SHADOWS, schema.LOSSES, schema.MARGINS, schema.SCORES):
            if _contents(one, name) != _contents(two, name):
                return replace(base, rung="evaluation", detail=name)
    return base


def _contents(record: Record, name: str) -> list[Any] | None:
    """Names, types and raw values of a table's columns, so that NaN equals NaN; None where it is not there."""
    if not (record.path / name).is_file():
        return None
    table: pa.Table = getattr(record, name.partition(".")[0])  # a record's parts are named like their files
    return [(field, _raw(table.column(field.name))) for field in table.schema]


def _raw(column: pa.ChunkedArray) -> object:
    values = column.combine_chunks()
    while pa.types.is_nested(values.type):
        values = values.flatten()
    numbers = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    return values.to_numpy(zero_copy_only=False).tobytes() if numbers else values.to_pylist()


class _Measured(NamedTuple):
    after: int
    """Completed steps."""
    rung: str
    detail: str


def _first_measurement(one: Record, two: Record) -> _Measured | None:
    """The earliest probe or evaluation that both runs made and that differs."""
    found = []
    row = first_differing_row(one.probes, two.probes, one.probes.schema.names)
    if row is not None:
        step = one.probes.column("step")[row.row].as_py()
        found.append(_Measured(step + 1, "probe", f"{row.column} after {step + 1} steps"))
    row = first_differing_row(one.evals, two.evals, one.evals.schema.names)
    if row is not None:
        a, b = (record.evals.slice(row.row, 1).to_pylist()[0] for record in (one, two))
        x, y = (f"{row['split']} {row['metric']} {row['value']!r} after {row['step']} steps" for row in (a, b))
        detail = f"{x} against {y}"
        if not _checkpoint_between(one, two, a["step"]):
            detail += f", or an update before step {a['step']}, which no checkpoint separates from it"
        found.append(_Measured(a["step"], "evaluation", detail))
    return min(found, default=None)


class _Changed(NamedTuple):
    after_step: int
    equal_before: int
    tensor: str


def _update(base: Comparison, one: Record, two: Record, changed: _Changed) -> Comparison:
    last = changed.after_step - 1
    since = "the start" if changed.equal_before == 0 else f"the equal checkpoint after step {changed.equal_before - 1}"
    detail = f"weights after it differ (the update lies between {since} and this step)"
    if changed.after_step - changed.equal_before == 1:
        detail = "weights after it differ"
    return replace(
        base, steps=last, rung="update", step=last, layer=changed.tensor, detail=detail, table=_table(one, two, last)
    )


def static_difference(a: RunMeta, b: RunMeta) -> tuple[str, str] | None:
    """The first rung above the trace that differs, and how."""
    params = _changed(leaves(a.params), leaves(b.params))
    if a.seed != b.seed:
        params.insert(0, f"seed {a.seed} → {b.seed}")
    layers = [] if a.layers == b.layers else ["layer names or shapes"]
    for rung, found in (
        ("params", params),
        ("code", [name for name in sorted(a.code.keys() & b.code.keys()) if a.code[name] != b.code[name]]),
        ("data", _changed(a.data, b.data, short=True)),
        ("fingerprint", differences(a.fingerprint, b.fingerprint)),
        ("initial weights", layers or _changed(a.initial_weights, b.initial_weights, short=True)),
    ):
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            return rung, ", ".join(found[:3]) + more
    return None


class _First(NamedTuple):
    row: int
    order: int
    rung: str
    column: str


_COLUMNS = (
    ("batch", "step"),
    ("batch", "batch_digest"),
    ("loss", "loss"),
    ("gradient", "grad_rms"),
    ("gradient", "grad_absmax"),
    ("update", "lr"),
    ("update", "clip_coefficient"),
)
"""Rung and trace column, in causal order within one step."""


def _first_difference(a: pa.Table, b: pa.Table) -> _First | None:
    """The first differing row, and in it the first rung; rows are optimizer steps in the order they were taken."""
    found = first_differing_row(a, b, [column for _, column in _COLUMNS])
    return _First(found.row, found.order, _COLUMNS[found.order][0], found.column) if found else None


class DifferingRow(NamedTuple):
    """Row index, and the first column of those asked for that differs in it."""

    row: int
    order: int
    column: str


def first_differing_row(a: pa.Table, b: pa.Table, columns: list[str]) -> DifferingRow | None:
    """The first row, of those that both tables have, with other bits."""
    rows = min(a.num_rows, b.num_rows)
    found = []
    for order, column in enumerate(columns):
        x, y = bits(a.slice(0, rows), column), bits(b.slice(0, rows), column)
        if x.shape != y.shape:
            continue  # other layers: a static difference
        differs = (x != y).any(axis=tuple(range(1, x.ndim)))
        if differs.any():
            found.append(DifferingRow(int(differs.argmax()), order, column))
    return min(found, default=None)


def _describe(one: Record, two: Record, first: _First) -> tuple[str, str]:
    """Layer (for gradients, the first in backward order) and the size of the difference."""
    column = first.column
    a, b = _values(one.trace, column)[first.row], _values(two.trace, column)[first.row]
    if first.rung == "gradient":
        at = int(np.flatnonzero(_ints(a) != _ints(b))[-1])  # backward visits the last registered layer first
        return one.meta.layers[at].name, f"{_ulp(a[at], b[at])} ULP in its {column.removeprefix('grad_')}"
    if first.rung == "batch":
        return "", "other samples or another order"
    name = {"loss": "loss", "lr": "learning rate", "clip_coefficient": "clip coefficient"}[column]
    ulp = f", {_ulp(a, b)} ULP" if column != "lr" else ""
    detail = f"{name} {a:.9g} against {b:.9g}{ulp}"
    if column == "loss" and first.row and not _checkpoint_between(one, two, _step(one, first.row)):
        detail += f", or the update of step {_step(one, first.row) - 1}, which no checkpoint separates from it"
    return "", detail


def _table(one: Record, two: Record, row: int, around: int = 2) -> list[dict[str, Any]]:
    """Loss, gradient norm and learning rate of both runs around one row, with their differences."""
    rows = min(one.trace.num_rows, two.trace.num_rows)
    columns = {
        name: (_values(one.trace, name), _values(two.trace, name)) for name in ("step", "loss", "grad_norm", "lr")
    }
    table = []
    for i in range(max(0, row - around), min(rows, row + around + 1)):
        line: dict[str, Any] = {"step": int(columns["step"][0][i])}
        for name in ("loss", "grad_norm"):
            a, b = columns[name][0][i], columns[name][1][i]
            difference = abs(float(a) - float(b))
            line |= {
                f"{name} a": float(a),
                f"{name} b": float(b),
                f"{name} relative": difference / max(abs(float(a)), 1e-38),
                f"{name} ULP": _ulp(a, b),
            }
        line |= {"lr a": float(columns["lr"][0][i]), "lr b": float(columns["lr"][1][i])}
        table.append(line)
    return table


def _first_changed_checkpoint(one: Record, two: Record, rows: int) -> _Changed | None:
    """The earliest checkpoint of both runs, made before the first differing trace row, whose tensors differ."""
    if one.meta.recoveries or two.meta.recoveries:
        limit = max(one.meta.steps, two.meta.steps) if rows >= one.trace.num_rows else -1
    else:
        limit = rows
    by_step = [{manifest.checkpoint_step(p): p for p in record.checkpoints} for record in (one, two)]
    equal = 0
    for step in sorted(s for s in by_step[0].keys() & by_step[1].keys() if s <= limit):
        a, b = (manifest.verify(folders[step])["tensors"] for folders in by_step)
        names = [(file, name) for file in a for name in a[file] if file.startswith("model") or "/optimizer" in name]
        changed = [name for file, name in names if a[file][name] != b[file].get(name)]
        if changed:
            order = {layer.name: i for i, layer in enumerate(one.meta.layers)}
            return _Changed(step, equal, max(changed, key=lambda name: order.get(name, -1)))
        equal = step
    return None


def _checkpoint_between(one: Record, two: Record, step: int) -> bool:
    return all(step in (manifest.checkpoint_step(p) for p in record.checkpoints) for record in (one, two))


def _step(record: Record, row: int) -> int:
    return int(record.trace.column("step")[row].as_py())


def bits(table: pa.Table, column: str) -> npt.NDArray[Any]:
    """A column as integers [rows, …] that are equal exactly where the stored bits are."""
    values = _values(table, column)
    return _ints(values) if values.dtype.kind == "f" else values


def _values(table: pa.Table, column: str) -> npt.NDArray[Any]:
    array = table.column(column).combine_chunks()
    shape = [len(array)]
    while pa.types.is_fixed_size_list(array.type):
        shape.append(array.type.list_size)
        array = array.flatten()
    flat: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return flat.reshape(shape)


def _ints(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The bits of floats, so that NaN equals itself and 0 differs from -0."""
    return values.view(np.int32 if values.dtype == np.float32 else np.int64)


def _ulp(a: np.float32, b: np.float32) -> int:
    """Number of float32 values between two, counting through zero."""
    keys = [int(np.float32(x).view(np.int32)) for x in (a, b)]
    x, y = (key if key >= 0 else -(key & 0x7FFFFFFF) for key in keys)
    return abs(x - y)


def _changed(a: dict[str, Any], b: dict[str, Any], *, short: bool = False) -> list[str]:
    names = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    return names if short else [f"{name} {a.get(name)} → {b.get(name)}" for name in names]


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
