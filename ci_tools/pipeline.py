"""Walk the stages of dvc.yaml in order and say of each: cached, restored or ran, why, and how long it took.

DVC decides what is out of date and keeps the cache; this module adds the words, one clear error, and three rules:

- DVC deletes outputs before their stage runs, but an unfinished run record stays, so that training resumes. (DVC's own
  `persist` would keep finished records too, and shut them out of its run cache.)
- DVC writes down params and dependencies when a stage ends; if they changed while it ran, its result is not kept.
- DVC ignores Ctrl-C while a stage runs; here it ends the walk after the stage, as SIGTERM does.
"""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException, NotDvcRepoError, ReproductionError
from dvc.lock import LockError
from dvc.output import Output
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.scm import SCMError
from dvc.stage import Stage
from dvc.stage import run as dvc_run
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.exceptions import StageCmdFailedError
from dvc_data.hashfile.hash_info import HashInfo

from ci_tools import storage
from ci_tools.config import leaves
from ci_tools.console import say
from ci_tools.errors import INTERRUPTED, PREEMPTED, ConfigError, DependencyUnavailable, SwitchbackError
from ci_tools.experiment import changed, check, shown
from ci_tools.lockfile import verified
from ci_tools.record import open_record
from ci_tools.record.schema import META
from ci_tools.walk import Outcome, Step, Walk, remember

_OURS = {1, 2, 3, 4, PREEMPTED}
_INTERRUPTED = {INTERRUPTED, -signal.SIGINT}
_TERMINATED = {143, -signal.SIGTERM}
_SHELLS = {"sh", "bash", "dash", "zsh", "fish"}


def open_repository(remote: str = "") -> Repo:
    """The DVC repository of the working directory, with the remote that is named here, else the one in force.

    Raises:
        DependencyUnavailable: git is not installed.
        ConfigError: this is not the root of a git repository with DVC set up, or .dvc/config breaks a rule.
    """
    if shutil.which("git") is None:
        raise DependencyUnavailable("git is not installed", fix="install git and put it on PATH")
    # DVC speaks through us: what it has to say comes back as an exception.
    logging.getLogger("dvc").setLevel(logging.ERROR)
    here = Path.cwd()
    try:
        repo = Repo(str(here), config=storage.settings(remote))
    except SCMError:
        raise ConfigError("not a git repository", where=here, fix="run `git init`, or change to a clone") from None
    except NotDvcRepoError:
        where = "run `git init` and `dvc init`" if not (here / ".git").exists() else "run `dvc init`"
        raise ConfigError("not the root of a DVC repository", where=here, fix=f"{where} here") from None
    except DvcException as error:
        raise _as_ours(error, where=".dvc/config") from error
    if Path(repo.root_dir).resolve() != here.resolve():
        raise ConfigError("not the root of the repository", where=here, fix=f"run it in {repo.root_dir}")
    return repo


def reproduce(
    targets: Sequence[str] = (),
    force: bool = False,
    settings: Sequence[str] = (),
    *,
    pull: bool = False,
    verify_lock: bool = False,
) -> Walk:
    """Bring the pipeline, or `targets` with all they depend on, up to date.

    Args:
        targets: stage names; a matrix name stands for all of its stages.
        force: run every stage from scratch, whatever the cache holds.
        pull: take from the DVC remote what was computed elsewhere from the same inputs.
        verify_lock: say whether dvc.lock of HEAD is the one that this walk makes; not with targets or settings.
        settings: `key=value` changes of params.yaml, made first; none where another process holds DVC's lock, and none
            stays where the walk is refused (exit code 2 or 4).

    Raises:
        ConfigError: params.yaml, a setting or dvc.yaml breaks a rule, a target does not exist, or params or
            dependencies of a stage changed while it ran.
        DependencyUnavailable: git is missing, or another process holds DVC's lock.
        SwitchbackError: a stage failed; `exit_code` is its own where that is one of ours, else 1; 75 after SIGTERM.
        KeyboardInterrupt: Ctrl-C; finished stages and checkpoints stay.
    """
    started = time.perf_counter()
    repo = open_repository()
    if not Path("dvc.yaml").is_file():
        raise ConfigError("no such file", where="dvc.yaml", fix="declare the stages")
    with (
        _clear_errors(),
        _stages_use_this_python(),
        _StopSignals() as stop,
        lock_repo(repo),
        changed(settings) as changes,
        _clear_errors(),  # once more: what DVC refuses takes the settings back, too
    ):
        for line in changes:
            say(f"params.yaml: {line}")
        check()
        steps: list[Step] = []
        pull = pull and storage.pull_run_cache(repo)
        try:
            for name in _plan(repo, targets):
                steps.append(_bring_up_to_date(repo, name, force, pull))
                stop.stage_ended(name)
        finally:
            remember(walk := Walk(tuple(steps), time.perf_counter() - started))
    if verify_lock and not (targets or settings):
        remember(walk := replace(walk, lock=verified()))
    return walk


def _plan(repo: Repo, targets: Sequence[str]) -> list[str]:
    stages = [stage for target in targets or ["dvc.yaml"] for stage in repo.stage.collect(target)]
    return [stage.addressing for stage in plan_repro(get_active_graph(repo.index.graph), stages)]


def _bring_up_to_date(repo: Repo, name: str, force: bool, pull: bool) -> Step:
    started = time.perf_counter()

    def done(outcome: Outcome, reasons: tuple[str, ...] = ()) -> Step:
        step = Step(name, outcome, reasons, time.perf_counter() - started)
        say(f"{name}: {outcome}" + (f" in {step.seconds:.1f} s" if outcome != "cached" else ""))
        return step

    (stage,) = repo.stage.collect(name)
    changes = stage.status().get(name, [])
    if not (changes or force):
        return done("cached")
    reasons = ("forced",) if force else _reasons(stage, changes)
    if not stage.always_changed:
        say(f"{name}: {_brief(reasons)}")
    only_outputs = all("changed outs" in change for change in changes)
    pull = pull and not force and not stage.always_changed
    if pull and only_outputs:
        storage.pull_outputs(repo, stage)
    if not force and only_outputs and stage.outs_cached():
        stage.checkout(force=True)
        return done("restored", reasons)
    try:
        stage.save_deps(allow_missing=True)
        if pull:
            storage.pull_run(repo, stage)
        restored = not force and _in_run_cache(stage)
        with _unfinished_records_stay(force), _inputs_must_stay(stage):
            repo.reproduce(name, single_item=True, force=force)
    except DvcException as error:
        raise _explain(name, error) from error
    return done("restored" if restored else "checked" if stage.always_changed else "ran", reasons)


def _brief(reasons: tuple[str, ...], at_most: int = 3) -> str:
    more = len(reasons) - at_most
    return ", ".join(reasons[:at_most]) + (f" and {more} more" if more > 0 else "")


def _reasons(stage: Any, changes: Sequence[str | Mapping[str, Mapping[str, str]]]) -> tuple[str, ...]:
    """Why DVC holds the stage to be out of date, parameters with their old and new value."""
    if stage.outs and not any(out.hash_info for out in stage.outs):
        return ("first run",)
    reasons = []
    params = {str(dep): dep for dep in stage.deps if isinstance(dep, ParamsDependency)}
    words = {"modified": "changed", "deleted": "missing"}
    for entry in changes:
        if isinstance(entry, str):
            reasons.append({"always changed": "checked every time"}.get(entry, entry))
            continue
        for path, state in next(iter(entry.values())).items():
            if path in params:
                reasons += _differences(params[path].hash_info.value or {}, params[path].read_params())
            else:
                reasons.append(f"{path} {words.get(state, state)}")
    return tuple(reasons)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key old → new` for each leaf of two parameter trees that differs."""
    was, now = leaves(old), leaves(new)
    return [
        f"{key} {shown(was.get(key))} → {shown(now.get(key))}"
        for key in dict.fromkeys([*was, *now])
        if was.get(key) != now.get(key)
    ]


@contextmanager
def _unfinished_records_stay(force: bool) -> Iterator[None]:
    """While a stage runs, DVC's deletion of outputs passes over records that a resumed run continues."""
    remove = Output.remove

    def remove_finished(out: Output, ignore_remove: bool = False) -> None:
        if force or not _unfinished(Path(out.fs_path)):
            remove(out, ignore_remove=ignore_remove)

    Output.remove = remove_finished
    try:
        yield
    finally:
        Output.remove = remove


def _unfinished(path: Path) -> bool:
    """Whether this is a record to resume; one that cannot be read raises RecordError, lest it be deleted."""
    return (path / META).exists() and open_record(path).meta.resumable


@contextmanager
def _inputs_must_stay(before: Any) -> Iterator[None]:
    """Refuse to lock in a result whose params and dependencies are no longer those of `before`."""
    save_deps = Stage.save_deps

    def save_same_deps(stage: Any, allow_missing: bool = False) -> None:
        save_deps(stage, allow_missing=allow_missing)
        changes = []
        for was, now in zip(before.deps, stage.deps, strict=True):
            if isinstance(now, ParamsDependency):
                changes += _differences(was.hash_info.value or {}, now.hash_info.value or {})
            elif was.hash_info != now.hash_info:
                changes.append(f"{now} changed")
        if changes:
            what, rule = f"{_brief(tuple(changes))} while the stage ran", "its result is not kept"
            raise ConfigError(what, where=before.addressing, rule=rule, fix="run the same command again")

    Stage.save_deps = save_same_deps
    try:
        yield
    finally:
        Stage.save_deps = save_deps


def _in_run_cache(stage: Any) -> bool:
    """Whether DVC will take the outputs from an earlier run on these very inputs; `stage` forgets its outputs."""
    try:
        for out in stage.outs:
            out.hash_info = HashInfo()
        stage.repo.stage_cache.restore(stage, dry=True)
    except (RunCacheNotFoundError, DvcException):
        return False
    return True


def _explain(name: str, error: DvcException) -> SwitchbackError | KeyboardInterrupt:
    cause = error.__cause__ if isinstance(error, ReproductionError) else error
    if isinstance(cause, SwitchbackError):
        return cause
    if not isinstance(cause, StageCmdFailedError):
        return _as_ours(cause if isinstance(cause, DvcException) else error, where=f"dvc.yaml stage {name}")
    found = re.search(r"exited with (-?\d+)$", str(cause))
    code = int(found[1]) if found else 1
    if code in _INTERRUPTED:
        return KeyboardInterrupt()
    if code in _TERMINATED | {PREEMPTED}:
        return _preempted(name)
    failure = SwitchbackError(f"the stage failed with exit code {code}", where=name, fix="see its message above")
    failure.exit_code = code if code in _OURS else 1
    return failure


def _preempted(where: str) -> SwitchbackError:
    told = SwitchbackError("the stage was told to stop", where=where, fix="run the same command again to resume")
    told.exit_code = PREEMPTED
    return told


def _as_ours(error: Exception, where: str) -> SwitchbackError:
    text = " ".join(str(error).split())
    if isinstance(error, LockError):
        fix = "wait until it has ended, then run the same command again"
        return DependencyUnavailable(f"another DVC or switchback process works here ({text})", where=where, fix=fix)
    return ConfigError(text, where=where)


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        raise _as_ours(error, where="dvc.yaml") from error


@contextmanager
def _stages_use_this_python() -> Iterator[None]:
    """`python` and `switchback` in a stage are the ones that run now, and their output is not held back."""
    before = dict(os.environ)
    # OpenMP threads that wait by spinning for milliseconds lose their core to any other process: steps then take up
    # to five times as long on a busy machine. Some microseconds of spinning cost nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before.get("PATH", os.defpath)])
    os.environ["PYTHONUNBUFFERED"] = "1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _StopSignals:
    """SIGTERM and Ctrl-C end the walk: at once while nothing runs, else when the stage and the saving of it have ended.

    SIGTERM is passed on to the stage, which saves its state and ends; Ctrl-C reaches it from the terminal.
    """

    def __init__(self) -> None:
        self._received = 0
        self._stage_runs = False

    def __enter__(self) -> "_StopSignals":
        self._run = dvc_run._run
        self._handlers = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}
        dvc_run._run = self._run_command
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        dvc_run._run = self._run
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if isinstance(error, Exception) and getattr(error, "exit_code", None) != PREEMPTED:
            self._stop("pipeline")  # DVC, stopped in the middle of its work, may end by an error of its own

    def stage_ended(self, name: str) -> None:
        """Raise what arrived during the stage."""
        self._stage_runs = False
        self._stop(name)

    def _stop(self, where: str) -> None:
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        if self._received:
            raise _preempted(where)

    def _take(self, number: int, _: object) -> None:
        self._received = number
        if number == signal.SIGTERM:
            _pass_on(number)
        if not self._stage_runs:
            self._stop("pipeline")

    def _run_command(self, executable: str | None, command: str, **options: Any) -> None:
        """DVC's own way to run a command of a stage, except that Ctrl-C is not ignored meanwhile."""
        self._stop("pipeline")
        self._stage_runs = True
        with subprocess.Popen(dvc_run._make_cmd(executable, command), **options) as process:
            code = process.wait()
        if code:
            raise StageCmdFailedError(command, code)


def _pass_on(number: int) -> None:
    for child in psutil.Process().children():
        # A shell would die and leave the stage behind.
        for process in (child.children() if child.name() in _SHELLS else []) or [child]:
            with suppress(psutil.Error):
                process.send_signal(number)
