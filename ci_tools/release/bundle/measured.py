"""The parts of a model card that the run's own files tell: data, training, quality, slices."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ci_tools.harmless import one_line
from ci_tools.record.schema import RunMeta
from ci_tools.report.markdown import code, table

_MOST_VALUES = 30
"""Rows of a slice table; the rest is counted."""
_MOST_METRICS = 3
"""Columns of a slice table: the first of gates.yaml."""
_STACK = ("python", "torch", "numpy", "cuda", "gpu")
"""Of the fingerprint."""


def text(value: object) -> str:
    """One line of any text."""
    return one_line(str(value))


def shown(value: object) -> str:
    """The same as code, in which nothing is interpreted."""
    return code(text(value))


def figure(value: object, form: str = ".4f") -> str:
    """A number, where it is one."""
    return format(value, form) if isinstance(value, int | float) and not isinstance(value, bool) else "unknown"


def data(schema: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[str]:
    """Source, rows and columns, and the SHA-256 of each file that was trained on."""
    if not schema and not files:
        return
    yield "## Data"
    if schema:
        yield f"Source: {shown(schema.get('source', 'unknown'))}."
        split = schema.get("split") or {}
        positives = split.get("positives", {})
        rows = [[shown(name), f"{n:,}", figure(positives.get(name), ",")] for name, n in split.get("rows", {}).items()]
        if rows:
            yield table(["split", "rows", "positives"], rows, right=(1, 2))
        yield from _columns(schema)
    if files:
        yield table(["file", "SHA-256"], [[shown(name), shown(digest)] for name, digest in sorted(files.items())])


def _columns(schema: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("numeric", "categorical"):
        columns = schema.get(kind) or []
        if columns:
            units = [f" in {shown(one['unit'])}" if one.get("unit") else "" for one in columns]
            listed = ", ".join(f"{shown(one['name'])}{unit}" for one, unit in zip(columns, units, strict=True))
            yield f"{len(columns)} {kind} columns, in the order of the input: {listed}."


def training(meta: RunMeta) -> str:
    """How the weights came about."""
    best = f", the best by {shown(meta.best_metric)}" if meta.best_metric else ""
    stack = ", ".join(f"{key} {shown(meta.fingerprint[key])}" for key in _STACK if key in meta.fingerprint)
    sentences = [
        f"Seed {meta.seed}, {meta.steps:,} steps of {meta.batch_size:,} examples in {shown(meta.precision)}.",
        f"The weights are those of step {meta.best_step if best else meta.steps:,}{best}.",
        f"It ended at {meta.ended}.",
        f"Stack: {stack or 'unknown'}.",
    ]
    return "## Training\n\n" + " ".join(sentences)


def quality(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Each metric of the released network, its spread over all seeds, and what simpler models reach."""
    released = metrics.get("release")
    if not released:
        return
    seeds, simpler = metrics.get("seeds") or {}, [name for name in metrics if name not in ("release", "seeds")]
    rows = [
        [shown(name), f"{value:.4f}", *_spread(seeds.get(name)), *(figure(metrics[one].get(name)) for one in simpler)]
        for name, value in released.items()
    ]
    head = ["metric", "released", "mean over seeds ± sd", "lowest to highest", *map(shown, simpler)]
    yield "## Quality on test rows"
    yield table(head, rows, right=range(1, len(head)))


def _spread(of: Mapping[str, Any] | None) -> list[str]:
    if not of:
        return ["unknown", "unknown"]
    return [f"{of['mean']:.4f} ± {of['sd']:.4f}", f"{of['min']:.4f} to {of['max']:.4f}"]


def slices(columns: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[str]:
    """A table per column that results are sliced by: its values, the most frequent first."""
    if columns:
        yield "### By slice"
    for column, values in columns.items():
        known = {name for one in values.values() for name in one["release"] or {}}
        metrics = [name for name in wanted if name in known][:_MOST_METRICS]
        largest = sorted(values.items(), key=lambda pair: -pair[1]["n"])
        rows = [_slice(value, one, metrics) for value, one in largest[:_MOST_VALUES]]
        yield table([shown(column), "rows", "positives", *map(shown, metrics)], rows, right=range(1, 3 + len(metrics)))
        if len(largest) > _MOST_VALUES:
            yield f"{len(largest) - _MOST_VALUES} more values of {shown(column)} are not shown."


def _slice(value: str, measured: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    found = measured["release"] or {}
    return [shown(value), f"{measured['n']:,}", f"{measured['positives']:,}", *(figure(found.get(m)) for m in metrics)]
