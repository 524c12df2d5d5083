"""The summary that `switchback run` ends with. Shows what exists; an adopted pipeline need not have every part."""

import csv
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ci_tools.config import read_yaml
from ci_tools.console import on_terminal
from ci_tools.errors import ConfigError
from ci_tools.report import results
from ci_tools.report.left import mapping, read_object, with_recorded

BARS = "▁▂▃▄▅▆▇█"
_PREFERRED = ("average_precision", "roc_auc", "log_loss")
_WIDTH = 32


@dataclass(frozen=True)
class Run:
    """One run record, as far as it is readable."""

    path: Path
    status: str
    curves: Mapping[str, Sequence[float]]
    """Name (`loss`, then a validation metric) to values in step order."""


@dataclass(frozen=True)
class Summary:
    """What a pipeline left behind."""

    metrics: Mapping[str, Any]
    """evaluation/metrics.json, with what only the run records hold; or empty."""
    parity: Mapping[str, Any]
    """export/parity.json, or empty."""
    runs: Sequence[Run]
    files: Sequence[Path]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`; curves stay in the records."""
        return {
            "metrics": dict(self.metrics),
            "parity": dict(self.parity),
            "runs": [{"path": str(run.path), "status": run.status} for run in self.runs],
            "files": [str(path) for path in self.files],
        }


def summarize(root: Path = Path()) -> Summary:
    """Collect what stands under `root`; missing and unreadable parts are left out.

    So are the records `runs/seed-N` of seeds that params.yaml no longer lists.
    """
    metrics, parity = root / "evaluation/metrics.json", root / "export/parity.json"
    folders = sorted((path.parent for path in (root / "runs").glob("*/run.json")), key=_natural)
    seeds = _seeds(root / "params.yaml")
    kept = [folder for folder in folders if not _is_left_over(folder, seeds)]
    listed = [folder.name.removeprefix("seed-") for folder in kept] if seeds is None else seeds
    files = [root / "runs", metrics, root / "evaluation/slices.json", root / "export/model.onnx", parity]
    return Summary(
        metrics=with_recorded(read_object(metrics), root, listed),
        parity=read_object(parity),
        runs=[_run(folder) for folder in kept],
        files=[path for path in files if path.exists()],
    )


def show(summary: Summary) -> None:
    """Print to stdout: tables on a terminal, plain lines elsewhere."""
    if on_terminal() and sys.stdout.isatty():
        _show_rich(summary)
    else:
        sys.stdout.write("\n".join(plain(summary)) + "\n")


def plain(summary: Summary) -> list[str]:
    """The summary as lines of text."""
    lines = []
    columns, rows = metric_table(summary.metrics)
    if rows:
        widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            first, *others = (
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join([first, *others]).rstrip())
    if summary.parity:
        lines += ["", parity_line(summary.parity)]
    if summary.runs:
        lines += ["", *run_lines(summary.runs)]
    if summary.files:
        lines += ["", "files:", *(f"  {path}" for path in summary.files)]
    return lines or ["the pipeline left nothing that a summary could show"]


def metric_table(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row per metric of the release or its seeds, one column per model that has numbers."""
    release, seeds = mapping(metrics, "release"), mapping(metrics, "seeds")
    if not (release or seeds):
        return [], []
    others = [model for model in metrics if model not in ("release", "seeds") and isinstance(metrics[model], Mapping)]
    head = ["metric", "release", "mean ± sd", *map(_shown, others)]
    rows = []
    for metric in dict.fromkeys([*release, *seeds]):
        cells = [
            _number(release.get(metric)),
            _spread(seeds.get(metric)),
            *(_number(metrics[model].get(metric)) for model in others),
        ]
        rows.append([_shown(metric), *cells])
    return head, rows


def parity_line(parity: Mapping[str, Any]) -> str:
    """ONNX Runtime against the trained network, in one line."""
    words = {
        "score": "largest score difference",
        "flips": "flipped decisions",
        "nonfinite": "non-finite outputs",
        "tolerance": "tolerance",
    }
    parts = [f"{said} {shown}" for key, said in words.items() if (shown := _number(parity.get(key), ".3g"))]
    return f"ONNX parity: {', '.join(parts)}"


def run_lines(runs: Sequence[Run]) -> list[str]:
    """Status and curves of each run."""
    lines = []
    for run in runs:
        lines.append(f"{run.path.name}: {run.status}")
        for name, values in run.curves.items():
            lines.append(f"  {name:<20} {sparkline(values):<{_WIDTH}}  {_number(values[0])} → {_number(values[-1])}")
    return lines


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """Values as bars, averaged into at most `width` of them; non-finite values show as `!`.

    Law: the lowest finite bar is ▁ and the highest █; a constant curve is all ▁.
    """
    count = min(width, len(values))
    edges = [i * len(values) // count for i in range(count + 1)] if count else []
    means = [math.fsum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(BARS[round((mean - low) / step)] if math.isfinite(mean) else "!" for mean in means)


def _show_rich(summary: Summary) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # names are no markup: `f1[macro]`

    console = Console()
    columns, rows = metric_table(summary.metrics)
    if rows:
        table = Table(title="test split")
        for i, column in enumerate(columns):
            table.add_column(Text(column), justify="left" if i == 0 else "right", style="bold" if i == 1 else None)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for line in plain(Summary({}, summary.parity, summary.runs, summary.files)):
        console.print(line, markup=False, highlight=False)


def _shown(key: str) -> str:
    """The name of a metric or a model, as all of the report tells it."""
    return results.name(key).replace("_", " ")


def _run(folder: Path) -> Run:
    curves = {}
    loss = [_float(row.get("loss")) for row in _rows(folder / "curves.csv")]
    if loss:
        curves["loss"] = loss
    evaluated: dict[str, list[float]] = {}
    for row in _rows(folder / "evals.csv"):
        if str(row.get("split", "")).startswith("val"):
            evaluated.setdefault(str(row.get("metric")), []).append(_float(row.get("value")))
    chosen = next((name for name in (*_PREFERRED, *evaluated) if name in evaluated), None)
    if chosen:
        curves[_shown(chosen)] = evaluated[chosen]
    return Run(folder, str(read_object(folder / "run.json").get("status", "unreadable")), curves)


def _seeds(params: Path) -> Sequence[object] | None:
    try:
        seeds = read_yaml(params).get("seeds")
    except ConfigError:
        return None
    return seeds if isinstance(seeds, list) else None


def _is_left_over(folder: Path, seeds: Sequence[object] | None) -> bool:
    name, _, seed = folder.name.partition("-")
    return name == "seed" and seeds is not None and seed not in map(str, seeds)


def _rows(path: Path) -> Iterable[Mapping[str, str | None]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _spread(values: object) -> str:
    """Mean and standard deviation over the seeds; a single seed has no spread."""
    mean, sd = (values.get("mean"), values.get("sd")) if isinstance(values, Mapping) else (None, None)
    if not (_number(mean) and _number(sd)):
        return ""
    return _number(mean) + (f" ± {_number(sd)}" if sd else "")


def _number(value: object, form: str = ".4f") -> str:
    """Empty for what is no number, or an integer beyond all floats."""
    try:
        return f"{value:{form}}" if isinstance(value, int | float) else ""
    except OverflowError:
        return ""


def _natural(path: Path) -> tuple[int, str]:
    """seed-2 before seed-10."""
    return len(path.name), path.name
