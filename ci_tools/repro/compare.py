"""First divergence: walk two run records down a ladder and stop at the first rung that differs."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ci_tools.config import leaves
from ci_tools.errors import CheckpointError
from ci_tools.record.reader import Record, open_record
from ci_tools.repro import manifest
from ci_tools.repro.fingerprint import differences

RUNGS = ("params", "code", "data", "fingerprint", "initial weights", "batch", "loss", "gradient", "update", "length")
"""From cause to effect: a difference on one rung explains those below it."""

_LIKELY = {
    "params": "the experiments are not the same",
    "code": "a source file changed between the runs",
    "data": "the data stage made other rows",
    "fingerprint": "another stack or machine; bits may differ there, so compare by paired seeds",
    "initial weights": "the network was built or seeded differently",
    "batch": "the data order depends on something other than (seed, epoch, sample id)",
    "loss": "batch and earlier steps are equal, so look at the forward pass: dropout or other random draws, "
    "a non-deterministic kernel, the learning rate's effect of the step before",
    "gradient": "batch and loss are equal, so look at that layer's backward kernel",
    "update": "batch, loss and gradients are equal, so look at the optimizer: learning rate, clipping, its state",
    "length": "one run stopped earlier: early stopping, a recovery or an interruption",
}


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
            return f"identical: {self.steps} steps and the final weights agree bit by bit"
        if self.step is None:
            after = f"; the traces agree for {self.steps} steps all the same" if self.steps else ""
            return f"first difference: {self.rung}: {self.detail} ({_LIKELY[self.rung]}){after}"
        where = f"{self.rung} of {self.layer}" if self.layer else self.rung
        until = f"identical until step {self.step}" if self.step else "different from the first step on"
        return f"{until}; first difference: {where}, {self.detail}; {_LIKELY[self.rung]}"

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
        RecordError: one of them is not a readable record.
    """
    one, two = open_record(a), open_record(b)
    first = _first_difference(one.trace, two.trace)
    rows = min(one.trace.num_rows, two.trace.num_rows)
    base = Comparison(str(a), str(b), steps=first.row if first else rows)
    static = _static_difference(one, two)
    if static is not None:
        return replace(base, rung=static[0], detail=static[1])
    if first is None:
        return _compare_ends(base, one, two)
    layer, detail, row, rung = *_describe(one, two, first), first.row, first.rung
    if first.rung == "loss" and (changed := _changed_weight(one, two, first.row)):
        # A checkpoint stands between the last equal step and this one: it was the update, not the forward pass.
        layer, detail, row, rung = changed, "weights after it differ", first.row - 1, "update"
    return replace(base, steps=row, rung=rung, step=row, layer=layer, detail=detail, table=_table(one, two, row))


def _compare_ends(base: Comparison, one: Record, two: Record) -> Comparison:
    """The rungs left when no common trace row differs."""
    if one.trace.num_rows != two.trace.num_rows:
        return replace(base, rung="length", detail=f"{one.trace.num_rows} against {two.trace.num_rows} rows")
    layer = _changed_weight(one, two, None)
    if layer:
        last = base.steps - 1
        return replace(
            base,
            steps=last,
            rung="update",
            step=last,
            layer=layer,
            detail="final weights differ",
            table=_table(one, two, last),
        )
    return base


def _static_difference(one: Record, two: Record) -> tuple[str, str] | None:
    a, b = one.meta, two.meta
    params = _changed(leaves(a.params), leaves(b.params))
    if a.seed != b.seed:
        params.insert(0, f"seed {a.seed} → {b.seed}")
    layers = [] if a.layers == b.layers else ["layer names or shapes"]
    for rung, found in (
        ("params", params),
        ("code", _changed(a.code, b.code, short=True)),
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
    rows = min(a.num_rows, b.num_rows)
    found = []
    for order, (rung, column) in enumerate(_COLUMNS):
        x, y = bits(a.slice(0, rows), column), bits(b.slice(0, rows), column)
        if x.shape != y.shape:
            continue  # other layers: reported as a static difference
        differs = (x != y).reshape(rows, -1).any(axis=1)
        if differs.any():
            found.append(_First(int(differs.argmax()), order, rung, column))
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
    return "", f"{name} {a:.9g} against {b:.9g}{ulp}"


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


def _changed_weight(one: Record, two: Record, steps: int | None) -> str:
    """First weight or optimizer tensor that differs in the checkpoints after `steps` steps (None: the last)."""
    by_step = [{manifest.checkpoint_step(p): p for p in record.checkpoints} for record in (one, two)]
    common = by_step[0].keys() & by_step[1].keys()
    wanted = steps if steps is not None else max(common, default=-1)
    if wanted not in common:
        return ""
    try:
        a, b = (manifest.verify(folders[wanted])["tensors"] for folders in by_step)
    except CheckpointError as error:
        return str(error)
    for file in ("model.safetensors", "state.safetensors"):
        names = [n for n in a[file] if file.startswith("model") or n.startswith("/optimizer")]
        changed = [name for name in names if a[file][name] != b[file].get(name)]
        if changed:
            order = {layer.name: i for i, layer in enumerate(one.meta.layers)}
            return str(max(changed, key=lambda name: order.get(name, -1)))
    return ""


def bits(table: pa.Table, column: str) -> npt.NDArray[Any]:
    """A column as integers [rows, …] that are equal exactly where the stored bits are."""
    values = _values(table, column)
    return _ints(values) if values.dtype.kind == "f" else values


def _values(table: pa.Table, column: str) -> npt.NDArray[Any]:
    array = table.column(column).combine_chunks()
    nested = pa.types.is_fixed_size_list(array.type)
    flat: npt.NDArray[Any] = (array.flatten() if nested else array).to_numpy(zero_copy_only=False)
    return flat.reshape(len(array), array.type.list_size) if nested else flat


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
