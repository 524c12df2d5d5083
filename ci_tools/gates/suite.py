"""`switchback gate`: run the acceptance tests in a process of their own, and have a verdict on each whatever happens.

The tests may end the process, by a crash of a native library for instance. verdicts.json therefore names from the start
what stands for each test that has not ended, and this process writes it to the end.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ci_tools.config import digest
from ci_tools.console import progress, quiet, say
from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.files import write_atomic
from ci_tools.gates import authority, calibration, files
from ci_tools.gates import policy as policies
from ci_tools.gates.acceptance import NOT_REACHED, own_run, stated
from ci_tools.gates.files import FOLDER, JUNIT, VERDICTS, Verdicts
from ci_tools.gates.policy import Policy
from ci_tools.gates.run import Baseline, Run, record_of
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.record.provenance import git_state, now

TESTS = Path("tests/model")
LOG = "pytest.log"
_POLL_SECONDS = 0.1
_TAIL_LINES = 20
_ALL_REPORTED = (0, 1, 5)
"""Exit codes of pytest: all passed, some failed, none found."""
_MISUSED = 4
"""Exit code of pytest: an option that it refuses, or a conftest.py that breaks."""
# Options of the user's own test runs: workers would keep verdicts to themselves.
_NOT_PASSED_ON = ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_PLUGINS")
_OPTIONS = (
    *("-o", "addopts=", "-o", "empty_parameter_set_mark=skip"),
    *("-W", "default", "-p", "no:cacheprovider", "--continue-on-collection-errors"),
)


def judge(base: str = "", select: str = "", policy: str = "") -> Verdicts:
    """Run the acceptance tests of the working directory; writes gates/verdicts.json and gates/junit.xml.

    Where more seeds may decide a comparison and nothing else stops the merge, the tests that asked for them are judged
    again. The other verdicts, on the files as they are, stay.

    Args:
        base: git revision to compare with; empty: none.
        select: pytest's -k expression; empty: all tests.
        policy: git revision whose gates.yaml, calibration.json and acceptance tests judge; empty: those that are here.

    Raises:
        ConfigError: no tests or no run yet, or `base`, `select`, `policy`, gates.yaml, params.yaml or calibration.json
            breaks a rule.
        SwitchbackError: it was told to stop, or something that is needed is not there (exit code 75 or 4).
    """
    with authority.of(policy):
        return _judge(base, select, policy)


def _judge(base: str, select: str, policy: str) -> Verdicts:
    begin()
    if not authority.locate(TESTS).is_dir():
        raise ConfigError("no acceptance tests here", where=TESTS, fix="run from the repository root, or write some")
    settings, run = policies.load(), own_run()
    if not select:
        _refuse_nothing(run)
    baseline, changes = _baseline(base, settings, run)
    heading = replace(_heading(settings, run, base, changes, select), policy=policy)
    verdicts = _judge_once(heading, run, baseline)
    while wanted := _seeds_wanted(verdicts, run, baseline, settings):
        heading = _heading_again(verdicts, settings)
        _open(heading)
        try:
            run, baseline = _with_more_seeds(run, baseline, wanted)
        except SwitchbackError as error:
            verdicts = _end(f"more seeds could not be trained: {error}", heading.seconds)
            if error.exit_code not in (1, 2):
                raise
            break
        verdicts = _judge_once(heading, run, baseline)
    _refuse_misunderstood(verdicts, settings)
    return verdicts


def _refuse_nothing(run: Run) -> None:
    """Refuse to judge a pipeline that has trained nothing yet, in place of an error from each of its gates."""
    if Path("dvc.yaml").is_file() and not any(record_of(run.root, seed).exists() for seed in run.seeds):
        raise ConfigError("nothing to judge yet", where="runs", fix="run `switchback run`")


def begin() -> None:
    """Remove the verdicts of an earlier call, which say nothing about what comes now; refuse what could not judge it.

    Raises:
        ConfigError: gates.yaml or calibration.json breaks a rule.
    """
    for name in (VERDICTS, JUNIT):
        (FOLDER / name).unlink(missing_ok=True)
    policies.load()
    calibration.load()


def _judge_once(heading: Verdicts, run: Run, baseline: Baseline) -> Verdicts:
    """Run the tests once, those that `heading` names or else all; the files are whole whatever happens."""
    started, why = time.monotonic(), "the gates were interrupted"
    _open(heading)
    try:
        why = _run_tests(FOLDER / VERDICTS, [*_run_options(run), *_base_options(baseline)], heading.selection)
    except ConfigError as error:
        why = str(error)
        raise
    finally:
        verdicts = _end(why, heading.seconds + time.monotonic() - started)
    return verdicts


def _open(heading: Verdicts) -> None:
    files.write(heading, FOLDER / VERDICTS)
    (FOLDER / JUNIT).unlink(missing_ok=True)


def _end(why: str, seconds: float) -> Verdicts:
    verdicts = replace(files.read(FOLDER / VERDICTS).ended(why), seconds=round(seconds, 3))
    _write(verdicts)
    return verdicts


def _write(verdicts: Verdicts) -> None:
    files.write(verdicts, FOLDER / VERDICTS)
    write_atomic(FOLDER / JUNIT, files.junit(verdicts))


def _refuse_misunderstood(verdicts: Verdicts, settings: Policy) -> None:
    """Refuse an expression that chose no test, and a rule for a gate that no test ran; the files say so, too."""
    select = verdicts.selection
    try:
        if not verdicts.verdicts:
            fix = "correct the expression" if select else "write a test that calls policy.require"
            raise ConfigError(f"no test {f'matches -k {select!r}' if select else 'found'}", where=TESTS, fix=fix)
        if not select:
            _refuse_unknown(verdicts, settings)
    except ConfigError as error:
        why = stated("tests", "", Outcome.ERROR, str(error), Policy())
        _write(replace(verdicts, verdicts=(*verdicts.verdicts, why), refused=True))
        raise


def _refuse_unknown(verdicts: Verdicts, settings: Policy) -> None:
    try:
        settings.refuse_unknown(verdict.gate for verdict in verdicts.verdicts)
    except ConfigError as error:
        if all(verdict.outcome is not Outcome.ERROR for verdict in verdicts.verdicts):
            raise
        say(f"warning: {error}")  # a test that broke may have had that gate to judge


def _seeds_wanted(verdicts: Verdicts, run: Run, baseline: Baseline, settings: Policy) -> int:
    """How many seeds per arm would serve an undecided comparison; 0 where more cannot change what becomes of the merge.

    That is so without a second arm, and where something else stops the merge.
    """
    if baseline.run is None or not all(map(_asked, verdicts.blocking)):
        return 0
    wanted = min(max(map(_asked, verdicts.verdicts), default=0), settings.against_main.max_seeds)
    return wanted if wanted > _pairs(run, baseline.run) else 0


def _pairs(*arms: Run) -> int:
    """Seeds that each arm has at least."""
    return min(len(arm.seeds) for arm in arms)


def _asked(verdict: Verdict) -> int:
    """Seeds per arm that an undecided comparison asks for; 0 for every other verdict."""
    return int(verdict.evidence.get("seeds wanted", 0)) if verdict.outcome is Outcome.INCONCLUSIVE else 0


def _heading_again(verdicts: Verdicts, settings: Policy) -> Verdicts:
    """The file before the tests that asked for seeds are judged again: without any of their verdicts."""
    asking = {verdict.test: verdict for verdict in verdicts.verdicts if _asked(verdict)}
    pending = [
        replace(stated(one.gate, one.subject, Outcome.ERROR, NOT_REACHED, settings), test=test)
        for test, one in asking.items()
    ]
    kept = tuple(verdict for verdict in verdicts.verdicts if verdict.test not in asking)
    return replace(verdicts, verdicts=kept, pending=tuple(pending))


def _with_more_seeds(run: Run, baseline: Baseline, wanted: int) -> tuple[Run, Baseline]:
    from ci_tools.baseline import extend, paired_seeds

    have = _pairs(run, *filter(None, [baseline.run]))
    say(f"{have} seeds per arm do not decide; training up to {wanted} in both")
    return extend(run, baseline, paired_seeds(run, wanted))


def _baseline(base: str, settings: Policy, run: Run) -> tuple[Baseline, list[str]]:
    if not base:
        return Baseline(None), []
    from ci_tools import baseline

    return baseline.prepare(base, settings, run), baseline.policy_difference(base)


def _heading(settings: Policy, run: Run, base: str, changes: Sequence[str], select: str) -> Verdicts:
    """The file before the first test."""
    commit, dirty = git_state(Path.cwd())
    try:
        params = run.release.meta.params_digest
    except SwitchbackError:
        params = ""
    lost = stated("tests", "", Outcome.ERROR, "the tests were not collected", settings)
    return Verdicts(
        commit=commit,
        dirty=dirty,
        params_digest=params,
        policy_digest=digest(settings),
        base=base,
        policy_changes=tuple(changes),
        selection=select,
        started=now(),
        pending=(lost,),
    )


def _run_options(run: Run) -> list[str]:
    return ["--switchback-run-root", str(run.root), "--switchback-run-seeds", ",".join(map(str, run.seeds))]


def _base_options(baseline: Baseline) -> list[str]:
    if baseline.run is None:
        option = "--switchback-base-error" if baseline.failed else "--switchback-base-why"
        return [option, baseline.why_not] if baseline.why_not else []
    seeds = ",".join(map(str, baseline.run.seeds))
    return ["--switchback-base-root", str(baseline.run.root), "--switchback-base-seeds", seeds]


def _run_tests(file: Path, options: Sequence[str], select: str) -> str:
    """Run pytest to its end; returns how it ended, for tests that did not.

    Raises:
        ConfigError: it refuses the expression.
    """
    tests = ["--rootdir", str(authority.locate(Path())), str(authority.locate(TESTS))]
    command = [sys.executable, "-m", "pytest", *tests, *_OPTIONS, "--switchback-verdicts", str(file), *options]
    command += ["-k", select] if select else []
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
    log = file.parent / LOG
    with log.open("w") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            _watch(child, file)
        finally:
            child.terminate()
            code = child.wait()
    if select and code == _MISUSED and (words := _complaint(log)):
        raise ConfigError(words, where=f"-k {select!r}", fix="correct the expression")
    if code not in _ALL_REPORTED and not quiet():
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-_TAIL_LINES:]))
    how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
    return f"pytest ended with {how}, see {log}"


def _complaint(log: Path) -> str:
    """What pytest says about an option that it refuses."""
    lines = log.read_text(errors="replace").splitlines()
    return next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")), "")


def _watch(child: subprocess.Popen[bytes], file: Path) -> None:
    """Show how many tests have ended."""
    found = start = files.read(file)
    while child.poll() is None and found.pending == start.pending:
        time.sleep(_POLL_SECONDS)
        found = files.read(file)
    total = len(found.verdicts) + len(found.pending)
    with progress(total, "gates") as bar:
        while child.poll() is None:
            time.sleep(_POLL_SECONDS)
            bar.update(total - len(files.read(file).pending))
