"""What acceptance tests see as `policy`: it judges measurements, keeps the verdicts and tells pytest.

As a plugin of pytest it also turns what happens to a test into a verdict: one that breaks is an error, one that never
required anything is judged by its own assertions, and one that is skipped is inconclusive.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_tools import experiment
from ci_tools.errors import ConfigError, SwitchbackError
from ci_tools.gates import calibration, files, policy
from ci_tools.gates.calibration import Calibration, Reference
from ci_tools.gates.policy import AgainstMain, Judge, Metric, Policy
from ci_tools.gates.reasons import Reason
from ci_tools.gates.run import Run, open_run
from ci_tools.gates.show import details, headline
from ci_tools.gates.verdict import Gate, Measurement, Outcome, Verdict

NOT_REACHED = "its test was not reached"
_NO_CASES = "got empty parameter set"
"""How pytest begins to say that a test has no case."""


class Acceptance:
    """Verdicts under one policy. With a file, every test of the session leaves at least one verdict in it."""

    def __init__(
        self, settings: Policy, known: Calibration | None, mismatch: str, runs: int = 1, file: Path | None = None
    ) -> None:
        """`known`: what clean runs look like; `mismatch`: why it does not apply to the `runs` at hand."""
        self.settings = settings
        self.reference: Reference | None = None if known is None or mismatch else known.reference
        """How fast clean runs learned; None where none are known."""
        self.judge = Judge(settings, known, mismatch, runs * len(known.statistics) if known else 0)
        self._file, self._written = file, files.read(file) if file else None
        self.verdicts: list[Verdict] = list(self._written.verdicts) if self._written else []
        # The file names one before the tests are known, so that it is never without an answer.
        self._pending = {one.test: one for one in self._written.pending} if self._written else {}
        self._chosen = frozenset(filter(None, self._pending))
        """The tests to be judged again, where the file goes on with earlier verdicts; empty: all."""
        self._test = ""
        """Node id of the test at work."""
        self._spoken = False
        """Whether the test at work left a verdict."""
        self._told = ""
        """With which words a verdict failed it."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What gates.yaml demands of each quality metric."""
        return self.settings.metrics

    @property
    def against_main(self) -> AgainstMain:
        """How runs are compared with those of the base revision."""
        return self.settings.against_main

    def require(self, measurement: Measurement) -> Verdict:
        """Judge a measurement and record the verdict; where it stops the merge, the test fails with its evidence."""
        verdict = self.judge.verdict(measurement)
        self._keep(verdict)
        if verdict.blocks:
            self._told = details(verdict)
            pytest.fail(self._told, pytrace=False)
        return verdict

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected is an error, while the others are judged."""
        if self._file and report.failed and not self._chosen:
            name = Path(report.nodeid).stem.removeprefix("test_") or "tests"
            self._keep(self._stated(name, "", Outcome.ERROR, f"{report.nodeid}: {_last_line(report.longreprtext)}"))

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is not to be judged again."""
        if self._chosen:
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self._chosen])
            items[:] = [item for item in items if item.nodeid in self._chosen]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write down what stands for each test until it has ended; one that was chosen and is not there never will."""
        if self._file:
            self._pending = {name: one for name, one in self._pending.items() if name} | {
                item.nodeid: replace(self._stated(*_subject(item), Outcome.ERROR, NOT_REACHED), test=item.nodeid)
                for item in session.items
            }
            self._write()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A new test begins; if it ends the process, the file says which it was."""
        self._test, self._spoken, self._told = item.nodeid, False, ""
        if item.nodeid in self._pending:
            self._pending[item.nodeid] = replace(self._pending[item.nodeid], diagnosis="its test did not end")
            self._write()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Errors of ours show as one line; what no verdict tells yet becomes one."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, SwitchbackError):
            report.longrepr = str(error)
        if self._file:
            self._note(item, report, call)
            if report.when == "teardown":
                self._pending.pop(item.nodeid, None)
                self._write()
        return report

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List what did not pass, whether or not it failed its test."""
        if not self.verdicts:
            return
        terminalreporter.section("verdicts")
        passed = sum(verdict.outcome is Outcome.PASSED for verdict in self.verdicts)
        for verdict in self.verdicts:
            if verdict.outcome is not Outcome.PASSED:
                terminalreporter.line(headline(verdict))
                terminalreporter.line(f"  {verdict.diagnosis}")
        terminalreporter.line(f"{passed} of {len(self.verdicts)} verdicts are passed")

    def _note(self, item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        error, reason = call.excinfo.value if call.excinfo else None, None
        if report.skipped:
            outcome, (reason, why) = Outcome.INCONCLUSIVE, _why_skipped(report)
        elif report.failed and (error is None or str(error) != self._told):
            asserted = report.when == "call" and (
                error is None or isinstance(error, AssertionError | pytest.fail.Exception)
            )
            outcome, why = (Outcome.FAILED if asserted else Outcome.ERROR), _what_happened(report, call)
        elif report.when == "teardown" and not self._spoken:
            outcome, why = Outcome.PASSED, "its test passed"
        else:
            return
        verdict = self._stated(*_subject(item), outcome, why)
        self._keep(replace(verdict, seconds=round(report.duration, 3), reason=reason))

    def _stated(self, gate: str, subject: str, outcome: Outcome, diagnosis: str) -> Verdict:
        """A verdict without a measurement."""
        return stated(gate, subject, outcome, diagnosis, self.settings)

    def _keep(self, verdict: Verdict) -> None:
        self._spoken = True
        self.verdicts.append(replace(verdict, test=self._test))
        self._write()

    def _write(self) -> None:
        if self._file and self._written:
            now = replace(self._written, verdicts=tuple(self.verdicts), pending=tuple(self._pending.values()))
            files.write(now, self._file)


def own_run() -> Run:
    """The run of the working directory, with the seeds that params.yaml lists.

    Raises:
        ConfigError: params.yaml lists no seeds.
    """
    seeds = experiment.value("seeds")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"seeds: must be a list of whole numbers, got {seeds!r}", where=experiment.PARAMS)
    return open_run(seeds)


def accept(file: Path | None = None, find: Callable[[], Run] = own_run) -> Acceptance:
    """Acceptance of a run under gates.yaml and calibration.json of the working directory.

    Args:
        file: verdicts.json to go on with.
        find: opens the run that is judged.

    Raises:
        ConfigError: one of its configuration files breaks a rule.
    """
    known, settings, runs = calibration.load(), policy.load(), 1
    try:
        run = find()
        runs, release = len(run.seeds), run.release.meta
        mismatch = known.mismatch(release.params_digest, release.fingerprint, run.seeds) if known else ""
    except SwitchbackError as error:
        mismatch = str(error)
    return Acceptance(_planned(settings), known, mismatch, runs, file)


def _planned(settings: Policy) -> Policy:
    """The first look at a comparison is at the seeds of params.yaml where those are fewer than the policy's."""
    try:
        listed = max(len(own_run().seeds), 2)
    except SwitchbackError:
        return settings
    plan = settings.against_main
    return settings.model_copy(update={"against_main": plan.model_copy(update={"seeds": min(plan.seeds, listed)})})


def stated(gate: str, subject: str, outcome: Outcome, diagnosis: str, settings: Policy) -> Verdict:
    """A verdict that rests on no measurement but on what became of a test."""
    return Verdict(
        gate=gate,
        subject=subject,
        outcome=outcome,
        blocks=settings.rule(gate).stops(outcome),
        statistic=None,
        interval=None,
        threshold=None,
        unit="",
        basis="",
        diagnosis=diagnosis,
        remedy="",
        evidence={},
        seconds=0.0,
    )


def _subject(item: pytest.Item) -> tuple[str, str]:
    """Gate and subject that a test is about, by its parameters or else by its name."""
    callspec = getattr(item, "callspec", None)
    parameters: Sequence[Any] = list(callspec.params.values()) if callspec else []
    gate = next((parameter.name for parameter in parameters if isinstance(parameter, Gate)), "")
    name = getattr(item, "originalname", None) or item.name
    subject = ", ".join(parameter for parameter in parameters if isinstance(parameter, str))
    return gate or name.removeprefix("test_"), subject


def _why_skipped(report: pytest.TestReport) -> tuple[Reason, str]:
    """The reason, and what the terminal says; a skip in the words of one of our reasons is that reason."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    told = told.removeprefix("Skipped: ")
    if told.startswith(_NO_CASES):
        return Reason.NO_CASES, Reason.NO_CASES.sentence
    known = Reason.of(told)
    return known or Reason.SKIPPED, told if known else f"{Reason.SKIPPED.sentence}: {told}"


def _what_happened(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:
        return _last_line(report.longreprtext)
    if isinstance(call.excinfo.value, SwitchbackError):
        return str(call.excinfo.value)
    place = call.excinfo.traceback[-1]
    what = call.excinfo.exconly(tryshort=True).partition("\n")[0]
    return f"{what} ({Path(str(place.path)).name}:{place.lineno + 1})"


def _last_line(text: str) -> str:
    """The line of a traceback that says what was wrong."""
    return ([line.removeprefix("E").strip() for line in text.splitlines() if line.strip()] or ["no reason given"])[-1]
