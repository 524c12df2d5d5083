"""From the statistics of a campaign to rates: which faults were noticed, how they were named, what fired in vain."""

import itertools
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.faults import lookalikes, plants
from benchmarks.faults.campaign import ALONE, CALIBRATION, CLEAN, FAULT, LOOK_ALIKE, Line, references
from ci_tools.gates.calibration import Calibration, Reference
from ci_tools.gates.causes import cause
from ci_tools.gates.policy import Judge, Policy
from ci_tools.gates.statistics import wilson
from ci_tools.gates.verdict import Measurement, Outcome, Reading

NONE = "none"
"""Named cause where no gate failed."""
LOST = 1.0
"""Explained share of the null loss that counts as lost where a run failed."""


class Judged(NamedTuple):
    """One run, judged."""

    line: Line
    failed: tuple[str, ...]
    named: str


def judges(lines: Sequence[Line], *, strangers: bool = False) -> dict[str, Judge]:
    """Per task, the policy's defaults with the limits that calibration runs set.

    Args:
        lines: of a campaign.
        strangers: take the calibration runs of all other tasks instead of the task's own. How its loss should fall,
            which is no limit, remains the task's own.
    """
    runs = defaultdict(list)
    for line in lines:
        if line["kind"] == CALIBRATION:
            runs[line["task"]].append(line)
    found = references(lines)
    others = {task: [run for other in found if other != task for run in runs[other]] for task in found}
    return {task: _judge((others if strangers else runs)[task], reference) for task, reference in found.items()}


def _judge(runs: Sequence[Line], reference: Reference) -> Judge:
    names = [name for name, gate in runs[0]["gates"].items() if gate["calibrated"] and name != ALONE]
    values = {name: tuple(run["gates"][name]["statistic"] for run in runs) for name in names}
    measured = {name: found for name, found in values.items() if all(map(math.isfinite, found))}
    calibration = Calibration(
        params_digest="",
        fingerprint={},
        commit="",
        date="",
        seeds=tuple(run["seed"] for run in runs),
        statistics=measured,
        reference=reference,
    )
    return Judge(Policy(), calibration, "", len(measured))


def judged(lines: Iterable[Line], calibrated: Mapping[str, Judge] | None) -> list[Judged]:
    """Verdicts on all runs but those of calibration.

    By the gates' own limits where there are no judges, and where the product would not use its calibration, because a
    look-alike is made by other params.
    """
    plain = Judge(Policy(), None, "", 1)
    found = []
    for line in lines:
        if line["kind"] in (CLEAN, FAULT, LOOK_ALIKE):
            other_params = line["kind"] == LOOK_ALIKE and line["name"] in lookalikes.BY_PARAMS
            judge = plain if calibrated is None or other_params else calibrated[line["task"]]
            left_out, given = ("slow_convergence", ALONE) if judge is plain else (ALONE, "")
            failed = tuple(
                "slow_convergence" if name == given else name
                for name, numbers in line["gates"].items()
                if name != left_out and judge.verdict(measurement(name, numbers)).outcome is Outcome.FAILED
            )
            found.append(Judged(line, failed, cause(failed) or NONE))
    return found


def measurement(name: str, numbers: Mapping[str, Any]) -> Measurement:
    """What a gate returned, from what a line keeps of it."""
    interval = numbers["interval"]
    return Measurement(
        gate=name,
        unit="",
        limit=numbers["limit"],
        floor=numbers["floor"],
        calibrated=numbers["calibrated"],
        remedy="",
        reading=Reading(
            statistic=numbers["statistic"], interval=None if interval is None else tuple(interval), diagnosis=""
        ),
        error=numbers["error"],
    )


def rates(runs: Sequence[Judged]) -> dict[str, Any]:
    """Detection and diagnosis per mode, false alarms, and the confusion matrix; each rate as `share` gives it."""
    planted, clean, alike = (_of(runs, kind) for kind in (FAULT, CLEAN, LOOK_ALIKE))
    return {
        "detected": _by(planted, "name", _caught),
        "named": _by(planted, "name", _named),
        "false alarms on clean runs": {"all": share(clean, _alarmed)},
        "false alarms on look-alikes": _by(alike, "name", _alarmed),
        "false alarms by gate": {kind: _gates(_of(runs, kind)) for kind in (CLEAN, LOOK_ALIKE)},
        "confusion": _confusion(runs),
    }


def details(runs: Sequence[Judged]) -> dict[str, Any]:
    """The same by severity, mechanism and task."""
    planted, clean = _of(runs, FAULT), _of(runs, CLEAN)
    parts = [("severity", "detected", _caught), ("how", "detected", _caught), ("how", "named", _named)]
    parts += [("task", "detected", _caught), ("task", "named", _named)]
    found = {f"{what} by {key}": _by(planted, ("name", key), holds) for key, what, holds in parts}
    return found | {"false alarms by task": _by(clean, "task", _alarmed)}


def share(runs: Sequence[Judged], holds: Callable[[Judged], bool]) -> dict[str, float]:
    """How many, of how many, and the 95 % interval of the share (Wilson 1927)."""
    hits = sum(map(holds, runs))
    low, high = wilson(hits, len(runs))
    return {"hits": hits, "of": len(runs), "low": round(low, 6), "high": round(high, 6)}


def effects(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Per mode and severity, what the fault cost: medians over the runs whose clean twin was made.

    `explained lost` is the share of the null loss that the twin's last weights explain and the run's do not, on
    validation examples; `step time` the ratio of the median step times.
    """
    twins = {(line["task"], line["seed"]): line for line in lines if line["kind"] == CLEAN}
    pairs = defaultdict(list)
    for line in lines:
        if line["kind"] == FAULT and (line["task"], line["seed"]) in twins:
            pairs[line["name"], line["severity"]].append((line, twins[line["task"], line["seed"]]))
    found = {}
    for mode, severity in itertools.product(plants.MODES, plants.SEVERITIES):
        if both := pairs[mode, severity]:
            lost = [_explained(twin) - _explained(run) for run, twin in both]
            slower = [run["step_ms"] / twin["step_ms"] for run, twin in both]
            medians = {"explained lost": statistics.median(lost), "step time": statistics.median(slower)}
            found[f"{mode}, {severity}"] = {name: round(value, 3) for name, value in medians.items()}
    return found


def markdown(rates: Mapping[str, Any]) -> str:
    """One row per mode, and the confusion matrix."""
    lines = ["| mode | runs | noticed | 95 % | named | 95 % |", "|---|---|---|---|---|---|"]
    for name in [*plants.MODES, "all"]:
        if name in rates["detected"]:
            caught, named = rates["detected"][name], rates["named"][name]
            lines.append(f"| {name} | {caught['of']} | {_percent(caught)} | {_percent(named)} |")
    lines += ["", "| in vain | runs | failed a gate | 95 % |", "|---|---|---|---|"]
    for kind in ("clean runs", "look-alikes"):
        found = rates[f"false alarms on {kind}"]["all"]
        lines.append(f"| {kind} | {found['of']} | {_percent(found)} |")
    names = sorted({name for row in rates["confusion"].values() for name in row}, key=_place)
    lines += ["", f"| planted \\ named | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for planted, row in sorted(rates["confusion"].items(), key=lambda item: _place(item[0])):
        lines.append(f"| {planted} | {' | '.join(str(row.get(name, '')) for name in names)} |")
    return "\n".join(lines)


def _caught(run: Judged) -> bool:
    return run.line["name"] in run.failed


def _named(run: Judged) -> bool:
    return bool(run.named == run.line["name"])


def _alarmed(run: Judged) -> bool:
    return bool(run.failed)


def _of(runs: Iterable[Judged], kind: str) -> list[Judged]:
    return [run for run in runs if run.line["kind"] == kind]


def _by(
    runs: Sequence[Judged], key: str | tuple[str, ...], holds: Callable[[Judged], bool]
) -> dict[str, dict[str, float]]:
    """The share per value of the line's entries `key`, and over all."""
    groups = defaultdict(list)
    for run in runs:
        groups[", ".join(run.line[part] for part in ([key] if isinstance(key, str) else key))].append(run)
    return {name: share(groups[name], holds) for name in sorted(groups)} | {"all": share(runs, holds)}


def _gates(runs: Iterable[Judged]) -> dict[str, int]:
    return dict(Counter(name for run in runs for name in run.failed).most_common())


def _confusion(runs: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Planted mode (or "clean", "look-alike") to named cause to number of runs."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        rows[run.line["name"] if run.line["kind"] == FAULT else run.line["kind"]][run.named] += 1
    return {name: dict(row.most_common()) for name, row in rows.items()}


def _explained(line: Line) -> float:
    return min(max(line["explained"], 0.0), LOST)


def _percent(rate: Mapping[str, float]) -> str:
    part = 100 * rate["hits"] / max(rate["of"], 1)
    return f"{part:.1f} % | {100 * rate['low']:.1f} to {100 * rate['high']:.1f}"


def _place(name: str) -> tuple[int, str]:
    """The modes in their order, then the others by name, then what stands for no fault."""
    modes = list(plants.MODES)
    last = (CLEAN, LOOK_ALIKE, NONE)
    return (modes.index(name), "") if name in modes else (len(modes) + (name in last), name)
