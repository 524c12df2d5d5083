"""Results from the files that a run left: verdicts, records, evaluation, and what the pipeline's last walk was."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ci_tools.config import read_yaml
from ci_tools.errors import ConfigError, DataError, SwitchbackError
from ci_tools.gates import files, floor, policy
from ci_tools.gates.files import FOLDER, VERDICTS, Verdicts
from ci_tools.gates.show import worst_first
from ci_tools.gates.verdict import Verdict
from ci_tools.project import document
from ci_tools.record import open_record
from ci_tools.record.provenance import now
from ci_tools.record.reader import Record
from ci_tools.record.schema import META, RunMeta
from ci_tools.report import curves, quality
from ci_tools.report.github.event import Event, find_event
from ci_tools.report.results import (
    Basis,
    Digest,
    Fact,
    Judged,
    Lock,
    PolicyChange,
    PolicyFile,
    Results,
    SeedRun,
    Stage,
    finite,
    name,
)
from ci_tools.walk import FILE as WALK
from ci_tools.walk import Remembered
from ci_tools.walk import read as read_walk

_NAMING = ("layer", "column", "split", "case", "level", floor.BETTER)
"""Evidence that names something; other text stays where it is."""
_FACTS, _VERDICTS, _CHANGES, _RUNS, _STAGES, _ENTRIES = 12, 300, 100, 100, 200, 40
_BECAME = ("new", "removed", "changed")
_WORDS = {"true": True, "false": False, "unset": None}
_KEPT = ("passes", "blocks", "roll_back", "hold")
"""Values of a policy that are words."""


def build(root: Path = Path()) -> Results:
    """What is to be reported of the run under `root`.

    A record that is missing or damaged shows as unreadable; other files of the pipeline may be missing.

    Raises:
        DataError: gates/verdicts.json is missing, damaged or of another schema version; a file of the pipeline holds a
            value that no report can hold; or GitHub's event file is damaged.
    """
    path = root / FOLDER / VERDICTS
    verdicts = files.read(path)
    with _blaming(path, "run `switchback gate`"):
        return _results(root, verdicts)


@contextmanager
def _blaming(path: Path, fix: str = "run `switchback reproduce`", key: str = "") -> Iterator[None]:
    """A value that no report can hold is told with the file that it stands in; with `key` where nothing names it."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        broken = ".".join(map(str, first["loc"])) or key
        said = first["msg"].removeprefix("Value error, ").lower()
        what = f"{broken}: {said}" if broken else said
        raise DataError(what, where=path, rule=f"see {document('docs/report.md')}", fix=fix) from None


def _results(root: Path, verdicts: Verdicts) -> Results:
    settings = policy.load_for_report(root)
    all_verdicts: Sequence[Verdict] = [*verdicts.verdicts, *verdicts.pending]
    if len(all_verdicts) > _VERDICTS:
        all_verdicts = worst_first(all_verdicts)
    seeds = seeds_of(root)
    records = [(seed, _record(root, seed)) for seed in seeds]
    readable = [(seed, record) for seed, record in records if record]
    release = records[0][1].meta if records and records[0][1] else None
    if release:
        with _blaming(_meta_of(root, seeds[0]), key="code_digest"):
            TypeAdapter(Digest).validate_python(release.code_digest)
    event, walk = _event(), read_walk(root)
    stages = _stages(root, walk) if walk else []
    policy_lines = [_policy_line(line) for line in verdicts.policy_changes]
    policy_changes = [one for one in policy_lines if isinstance(one, PolicyChange)]
    policy_files = [one for one in policy_lines if isinstance(one, PolicyFile)]
    lists = (
        (all_verdicts, _VERDICTS),
        (policy_changes, _CHANGES),
        (policy_files, _CHANGES),
        (records, _RUNS),
        (stages, _STAGES),
    )
    return Results(
        created=now(),
        pull_request=event.pull_request if event else None,
        head_sha=event.head.sha if event else verdicts.commit,
        branch=name(event.head.branch if event else ""),
        commit=verdicts.commit,
        dirty=verdicts.dirty,
        base=name(verdicts.base),
        policy=name(verdicts.policy),
        lock=_lock(walk) if walk else None,
        selected=bool(verdicts.selection),
        refused=verdicts.refused,
        gate_seconds=max(verdicts.seconds, 0.0),
        pipeline_seconds=walk.walk.seconds if walk else None,
        verdicts=tuple(judged(one) for one in all_verdicts[:_VERDICTS]),
        metrics=quality.metrics(root, all_verdicts, settings, seeds),
        slices=quality.slices(root, all_verdicts, settings),
        curves=curves.of(readable, list(settings.metrics)),
        runs=tuple(_run(root, seed, record) for seed, record in records[:_RUNS]),
        stages=tuple(stages[:_STAGES]),
        policy_changes=tuple(policy_changes[:_CHANGES]),
        policy_files=tuple(policy_files[:_CHANGES]),
        policy_unreadable=None in policy_lines,
        fingerprint=_fingerprint(release.fingerprint) if release else {},
        params_digest=verdicts.params_digest,
        policy_digest=verdicts.policy_digest,
        code_digest=release.code_digest if release else "",
        left_out=sum(max(len(entries) - most, 0) for entries, most in lists),
    )


def seeds_of(root: Path) -> list[int]:
    """Those that params.yaml lists; where it lists none, those of the records that are there."""
    try:
        listed = read_yaml(root / "params.yaml").get("seeds")
    except ConfigError:
        listed = None
    if isinstance(listed, list) and listed and all(type(seed) is int for seed in listed):
        return [int(seed) for seed in listed]
    found = (path.parent.name.removeprefix("seed-") for path in (root / "runs").glob("seed-*/run.json"))
    return sorted(int(seed) for seed in found if seed.isdecimal())


def judged(verdict: Verdict) -> Judged:
    """A verdict without its sentences."""
    low, high = verdict.interval or (math.nan, math.nan)
    return Judged(
        gate=name(verdict.gate),
        subject=name(verdict.subject),
        outcome=verdict.outcome,
        blocks=verdict.blocks,
        statistic=finite(verdict.statistic),
        interval=None if math.isnan(low) or math.isnan(high) else (finite(low), finite(high)),
        threshold=finite(verdict.threshold),
        basis=_basis(verdict.basis),
        facts=tuple(_facts(verdict.evidence))[:_FACTS],
        seconds=max(verdict.seconds, 0.0),
        reason=verdict.reason,
    )


def _basis(told: str) -> Basis:
    """A verdict's words on where its limit comes from, as one of ours."""
    if told.startswith("calibrated"):
        return "calibrated"
    if told.startswith("default: "):
        return "uncalibrated"
    if told == "gates.yaml":
        return "gates.yaml"
    return "default" if told else "none"


def _facts(evidence: Mapping[str, Any]) -> Iterable[Fact]:
    """The numbers of the evidence, and what it names; of a list of columns and one of steps, the first."""
    columns, steps = evidence.get("columns"), evidence.get("steps")
    first = columns[0] if isinstance(columns, list) and columns and isinstance(columns[0], Mapping) else {}
    earliest = {"first step": min(known)} if (known := [s for s in _list(steps) if finite(s) is not None]) else {}
    for key, value in {**first, **earliest, **evidence}.items():
        if (number := finite(value)) is not None:
            yield Fact(name=name(key), value=number)
        elif key in _NAMING and isinstance(value, str):
            yield Fact(name=name(key), value=name(value))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _fingerprint(stack: Mapping[str, str]) -> dict[str, str]:
    return {name(key): name(value) for key, value in list(stack.items())[:_ENTRIES]}


def _record(root: Path, seed: int) -> Record | None:
    try:
        return open_record(root / "runs" / f"seed-{seed}")
    except SwitchbackError:
        return None


def _meta_of(root: Path, seed: int) -> Path:
    return root / "runs" / f"seed-{seed}" / META


def _run(root: Path, seed: int, record: Record | None) -> SeedRun:
    if record is None:
        with _blaming(root / "params.yaml", "correct `seeds`"):
            return SeedRun(seed=seed, status="unreadable")
    meta = record.meta
    gpu = meta.fingerprint.get("gpu", "none")
    with _blaming(_meta_of(root, seed)):
        return SeedRun(
            seed=seed,
            status=meta.status,
            steps=max(meta.steps, 0),
            total_steps=max(meta.total_steps, 0),
            train_seconds=_trained(meta),
            gpus=0 if gpu == "none" else len(gpu.split(", ")),
            joules=finite(meta.energy_joules),
            recoveries=len(meta.recoveries),
            resumes=len(meta.resumes),
        )


def _trained(meta: RunMeta) -> float:
    """Seconds; 0 where the record holds no number of them."""
    return max(finite(meta.train_seconds) or 0.0, 0.0)


def _stages(root: Path, known: Remembered) -> list[Stage]:
    """The stages of the last walk; a training that never ran on this machine took what its record says."""
    found = []
    for step in known.walk.steps:
        ran, (kind, _, seed), file = known.ran_seconds.get(step.stage), step.stage.partition("@"), root / WALK
        if ran is None and kind == "train" and seed.isdecimal() and (record := _record(root, int(seed))):
            ran, file = _trained(record.meta), _meta_of(root, int(seed))
        with _blaming(file):
            found.append(Stage(stage=name(step.stage), outcome=step.outcome, seconds=step.seconds, ran_seconds=ran))
    return found


def _lock(known: Remembered) -> Lock | None:
    found = known.walk.lock
    if found is None:
        return None
    with _blaming(Path(WALK)):
        return Lock.model_validate({**asdict(found), "layer": name(found.layer)})


def _event() -> Event | None:
    """What started the run, where GitHub Actions says so."""
    return find_event() if os.environ.get("GITHUB_EVENT_PATH") else None


def _policy_line(line: str) -> PolicyChange | PolicyFile | None:
    """A line `FILE: key old → new` or `FILE: removed` of the verdicts; None for one of another form."""
    file, _, became = line.rpartition(": ")
    if became in _BECAME:
        return PolicyFile.model_validate({"file": name(file), "became": became})
    file, _, told = line.partition(": ")
    left, arrow, new = told.rpartition(" → ")
    key, space, old = left.rpartition(" ")
    if not (arrow and space):
        return None
    try:
        values = {"file": file, "key": name(key), "old": _value(old), "new": _value(new)}
        return PolicyChange.model_validate(values)
    except ValueError:
        return None


def _value(text: str) -> Any:
    return _WORDS[text] if text in _WORDS else text if text in _KEPT else float(text)
