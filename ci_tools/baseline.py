"""The runs to compare with: those of the merge base, from DVC's cache or trained again on this machine."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ci_tools import config, scratch
from ci_tools.console import say
from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.gates import Baseline, Reason, Run, calibration, policy, suite
from ci_tools.gates.policy import Policy
from ci_tools.gates.run import open_run
from ci_tools.git import git
from ci_tools.release.judge import policy as release
from ci_tools.repro import fingerprint

_PIPELINE = (".dvc", "dvc.yaml", "params.yaml")
"""Without one of these a revision has no pipeline."""
_CHANGED = "changed"
_STATUS = {"A": "new", "D": "removed"}
"""Letters of `git diff --name-status`; the others mean a change."""
_OF_THE_REVISION = ("switchback", "threads")
"""Fingerprint entries that a revision decides for itself, on whatever machine."""


def merge_base(ref: str) -> str:
    """The commit where HEAD left `ref`.

    Raises:
        ConfigError: no such revision, or nothing in common with it.
    """
    fix = "name a branch, tag or commit of this clone; in CI, fetch the whole history first"
    try:
        commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except ConfigError:
        raise ConfigError("baseline revision unknown", where=ref, fix=fix) from None
    try:
        return git("merge-base", commit, "HEAD")
    except ConfigError:
        raise ConfigError("has no common ancestor with HEAD", where=ref, fix=fix) from None


def prepare(ref: str, policy: Policy, run: Run) -> Baseline:
    """Bring the merge base of `ref` and HEAD up to date under .switchback/base/, with the seeds of `run`.

    What DVC's cache or remote holds is restored, the rest is run on this machine; so is everything where the records
    were made on another stack than those of `run`. An interrupted one goes on where it stopped.

    Args:
        ref: branch, tag or commit.
        policy: says how many of the seeds are enough to begin with.
        run: what is compared with the baseline.

    Returns:
        The baseline, or why there is none: `failed` unless that revision just has no pipeline yet.

    Raises:
        ConfigError: `ref` is unknown.
        RecordError: `run` has no record yet.
        SwitchbackError: it was told to stop, or something that is needed is not there (exit code 75 or 4).
    """
    commit = merge_base(ref)
    stack = run.release.meta.fingerprint
    seeds = run.seeds[: policy.against_main.seeds]
    same = scratch.tree_of(commit) == scratch.tree_of(scratch.snapshot())
    say(f"baseline: {commit[:12]}, where HEAD left {ref}" + (" (comparing with itself)" if same else ""))
    name = f"revision {commit[:12]}, where HEAD left {ref},"
    if missing := [file for file in _PIPELINE if not git("ls-tree", commit, file)]:
        return Baseline(None, f"{name} has no pipeline: no {missing[0]}", reason=Reason.NO_PIPELINE)
    try:
        folder = scratch.checkout("base", commit)
        found = _brought_up_to_date(folder, seeds)
        if any(_elsewhere(record.meta.fingerprint, stack) for record in found.records):
            found = _brought_up_to_date(folder, seeds, force=True)
    except SwitchbackError as error:
        if error.exit_code not in (1, 2):
            raise
        return Baseline(None, f"{name} cannot be run here: {error}", failed=True)
    return Baseline(found)


def extend(run: Run, baseline: Baseline, seeds: Sequence[int]) -> tuple[Run, Baseline]:
    """Both arms with records of all `seeds`; those of `run` come from a copy of the files as they are now.

    Args:
        run: one arm.
        baseline: the other, as `prepare` left it.
        seeds: that each arm shall have, in this order; see `paired_seeds`.

    Raises:
        SwitchbackError: a seed could not be trained.
    """
    if baseline.run is None:
        return run, baseline
    if not set(seeds) <= set(run.seeds):
        run = _brought_up_to_date(scratch.checkout("head", scratch.snapshot()), seeds)
    return run, Baseline(_brought_up_to_date(baseline.run.root, seeds))


def paired_seeds(run: Run, wanted: int) -> tuple[int, ...]:
    """The first `wanted` seeds of a run; where it has fewer, with the smallest numbers that are none of its own."""
    others = (seed for seed in itertools.count(1) if seed not in run.seeds)
    return tuple(itertools.islice(itertools.chain(run.seeds, others), wanted))


def policy_difference(ref: str) -> list[str]:
    """How what judges a run differs between the merge base of `ref` and HEAD, and the files now.

    Returns:
        One line `FILE: what` for each value of gates.yaml and release.yaml, for what calibration.json says of each
        gate, and for each acceptance test.

    Raises:
        ConfigError: `ref` is unknown, or gates.yaml breaks a rule.
    """
    commit = merge_base(ref)
    judges = (str(policy.FILE), str(calibration.FILE), str(suite.TESTS), str(release.FILE))
    fields = git("diff", "--name-status", "--no-renames", "-z", commit, scratch.snapshot(), "--", *judges).split("\0")
    changed = dict(zip(fields[1::2], fields[::2], strict=False))
    by_value = {policy.FILE: _values_changed, calibration.FILE: _limits_moved, release.FILE: _release_moved}
    lines = []
    for file, moved in by_value.items():
        if changed.get(str(file)) == "M":
            del changed[str(file)]
            lines += [f"{file}: {change}" for change in moved(commit)]
    return lines + [f"{file}: {_STATUS.get(status, _CHANGED)}" for file, status in changed.items()]


def _values_changed(commit: str) -> list[str]:
    now, where = policy.load(policy.FILE), f"{policy.FILE} of {commit[:12]}"
    try:
        raw = YAML(typ="safe", pure=True).load(git("show", f"{commit}:{policy.FILE}"))
        return policy.difference(config.validate(raw, Policy, where=where), now)
    except YAMLError:
        return [f"not valid YAML in {commit[:12]}"]
    except ConfigError as error:
        return [str(error)]


def _limits_moved(commit: str) -> list[str]:
    """What the limits are drawn from: how many clean runs, and the largest statistic of each gate in them."""

    def told(path: Path) -> Mapping[str, Any]:
        found = calibration.load(path)
        if found is None:
            return {}
        largest = {f"largest clean {gate}": max(values) for gate, values in found.statistics.items() if values}
        return {"clean runs": len(found.seeds), **largest}

    return _moved(calibration.FILE, commit, told)


def _release_moved(commit: str) -> list[str]:
    return _moved(release.FILE, commit, lambda path: config.leaves(release.load(path).model_dump(mode="json")))


def _moved(file: Path, commit: str, read: Callable[[Path], Mapping[str, Any]]) -> list[str]:
    """`key old → new` of a file that changed; where that says nothing, or one of both is no such file, `changed`."""
    with TemporaryDirectory(prefix="switchback-") as folder:
        before = Path(folder, file)
        before.write_text(git("show", f"{commit}:{file}"), encoding="utf-8")
        try:
            return policy.changes(read(before), read(file)) or [_CHANGED]
        except ConfigError:
            return [_CHANGED]


def _brought_up_to_date(folder: Path, seeds: Sequence[int], force: bool = False) -> Run:
    scratch.run_pipeline(folder, seeds, force=force)
    return open_run(seeds, folder)


def _elsewhere(theirs: fingerprint.Fingerprint, ours: fingerprint.Fingerprint) -> list[str]:
    """How the stack that made a record differs from the other arm's and from this machine's; empty if from one only."""

    def machine(stack: fingerprint.Fingerprint) -> fingerprint.Fingerprint:
        return {name: value for name, value in stack.items() if name not in _OF_THE_REVISION}

    if machine(theirs) == machine(ours):
        return []
    return fingerprint.differences(machine(theirs), machine(fingerprint.capture(threads=1)))
