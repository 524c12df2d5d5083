"""Results as text: a table per benchmark, in the terminal and as markdown."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import Result


def table(result: dict[str, Any]) -> str:
    """One benchmark as a markdown table."""
    lines = [f"| {result['name']} ({result['device']}) | {result['unit']} | quartiles | n | ratio | 95 % interval |"]
    lines.append("|---|---|---|---|---|---|")
    for name, arm in result["arms"].items():
        ratio = result["ratios"].get(name)
        cells = [name, f"{arm['median']:.4g}", f"{arm['q1']:.4g} to {arm['q3']:.4g}", str(arm["n"])]
        if ratio:
            cells += [f"{ratio['median']:.4f} of {ratio['against']}", f"{ratio['low']:.4f} to {ratio['high']:.4f}"]
        else:
            cells += ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(result: Result | dict[str, Any]) -> str:
    """Table, facts and origin of one benchmark."""
    values = asdict(result) if isinstance(result, Result) else result
    machine = values["machine"]
    fingerprint = machine["fingerprint"]
    processor = fingerprint["gpu"] if values["device"] == "gpu" else fingerprint["cpu"]
    commit = values["commit"][:9] + (" (dirty)" if values["dirty"] else "")
    origin = (
        f"`{values['command']}`, {values['date']}, commit {commit}; "
        f"{processor}, {machine['cores']} cores, {machine['memory_gib']} GiB, torch {fingerprint['torch']}; "
        f"load before {machine['load_before'][0]}, cores used by others {machine['cores_used_by_others']}"
    )
    facts = [f"- {key}: {_plain(value)}" for key, value in values["facts"].items()]
    return "\n\n".join(part for part in (table(values), "\n".join(facts), origin) if part)


def report(folder: Path) -> str:
    """Every result in a folder, as markdown."""
    paths = sorted(folder.glob("*.json"))
    return "\n\n".join(describe(json.loads(path.read_text(encoding="utf-8"))) for path in paths)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
