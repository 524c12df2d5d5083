"""Where a run comes from and what it cost: time, machine, fingerprint, params, data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from ci_tools.config import leaves
from ci_tools.gates.files import Verdicts
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.record.schema import RunMeta
from ci_tools.report.html.records import Seed, floats
from ci_tools.report.results import finite


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of training one seed."""

    seed: str
    status: str
    steps: int
    planned: int
    seconds: float
    """In steps, over all resumes."""
    elapsed: float | None
    """From the start to the end, pauses included."""
    step_ms: float | None
    """Median."""
    waiting: float | None
    """Share of the time in steps that went into waiting for data."""
    joules: float | None
    """Energy of the GPUs; None where nothing measured it."""
    interruptions: tuple[str, ...]
    """Resumes and returns to a checkpoint, a sentence each."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the runs were made from; of the release, with what differs in other seeds."""

    device: str
    fingerprint: Mapping[str, str]
    differing: Mapping[str, Sequence[str]]
    """Fingerprint entries that are not the same in all seeds: their values."""
    params: Mapping[str, Any]
    data: Mapping[str, str]
    command: str
    commit: str
    dirty: bool
    other_params: bool
    """Whether the seeds, or the verdicts, are of different params."""
    warnings: tuple[str, ...]


def costs(seeds: Sequence[Seed]) -> tuple[Cost, ...]:
    """One per record."""
    return tuple(_cost(seed, seed.meta) for seed in seeds if seed.meta)


def origin(seeds: Sequence[Seed], verdicts: Verdicts) -> Origin | None:
    """None where there is no record at all."""
    metas = [seed.meta for seed in seeds if seed.meta]
    if not metas:
        return None
    release = metas[0]
    values = {
        key: list(dict.fromkeys(meta.fingerprint.get(key, "none") for meta in metas))
        for key in dict.fromkeys(key for meta in metas for key in meta.fingerprint)
    }
    digests = {meta.params_digest for meta in metas} | ({verdicts.params_digest} - {""})
    stack = release.fingerprint
    return Origin(
        device=next((stack[key] for key in ("gpu", "cpu") if stack.get(key, "none") != "none"), "an unknown device"),
        fingerprint=release.fingerprint,
        differing={key: found for key, found in values.items() if len(found) > 1},
        params=leaves(release.params),
        data=release.data,
        command=" ".join(release.command),
        commit=release.git_commit,
        dirty=release.git_dirty,
        other_params=len(digests) > 1,
        warnings=tuple(f"{seed.name}: {warning}" for seed in seeds if seed.meta for warning in seed.meta.warnings),
    )


def divergences(verdicts: Verdicts) -> tuple[tuple[Verdict, tuple[tuple[str, str], ...]], ...]:
    """Verdicts on runs made twice that could be compared, each with a seed and a sentence per run that differed."""
    found = []
    for verdict in verdicts.verdicts:
        differing = verdict.evidence.get("differing") if verdict.gate == "reproducible" else None
        if isinstance(differing, Mapping) and verdict.outcome is not Outcome.INCONCLUSIVE:
            found.append((verdict, tuple((str(seed), str(sentence)) for seed, sentence in differing.items())))
    return tuple(found)


def _cost(seed: Seed, meta: RunMeta) -> Cost:
    timed = seed.trace.num_rows > 0
    step_S = floats(seed.trace, "step_ms") if timed else np.zeros(0)
    data_S = floats(seed.trace, "data_ms") if timed else np.zeros(0)
    total = float(np.nansum(step_S))
    events = [
        f"taken up again at step {resume.from_step:,}"
        + (f" on another stack ({', '.join(resume.stack_changes)})" if resume.stack_changes else "")
        for resume in meta.resumes
    ]
    events += [
        f"diverged at step {one.onset_step:,} ({one.reason}) and went back to step {one.from_step:,}"
        for one in meta.recoveries
    ]
    return Cost(
        seed=seed.name,
        status=meta.status,
        steps=max(meta.steps, seed.steps),
        planned=meta.total_steps,
        seconds=finite(meta.train_seconds) or 0.0,
        elapsed=_elapsed(meta.started, meta.ended),
        step_ms=float(np.nanmedian(step_S)) if timed else None,
        waiting=float(np.nansum(data_S)) / total if total > 0 else None,
        joules=finite(meta.energy_joules),
        interruptions=tuple(events),
    )


def _elapsed(started: str, ended: str) -> float | None:
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return None
